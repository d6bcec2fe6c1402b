//! Whether a Dataset may lie on a node: Kubernetes' selectors, taints and tolerations.

use super::fact::{Effect, Requirement, Taint, Term, Test, Toleration};
use super::units::Labels;

/// Any term, all of its requirements; no term at all means every node.
pub fn selects(terms: &[Term], labels: &Labels) -> bool {
    terms.is_empty() || terms.iter().any(|term| term.iter().all(|r| meets(r, labels)))
}

fn meets(requirement: &Requirement, labels: &Labels) -> bool {
    let value = labels.get(&requirement.key);
    let number = || value.and_then(|v| v.parse::<i64>().ok());
    match &requirement.test {
        Test::In(values) => value.is_some_and(|v| values.contains(v)),
        // As in Kubernetes, a node without the label is not in the list either.
        Test::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
        Test::Exists => value.is_some(),
        Test::DoesNotExist => value.is_none(),
        Test::Gt(than) => number().is_some_and(|n| n > *than),
        Test::Lt(than) => number().is_some_and(|n| n < *than),
    }
}

/// The first taint that keeps out whoever has these tolerations. A preference keeps nobody out.
pub fn untolerated<'a>(taints: &'a [Taint], tolerations: &[Toleration]) -> Option<&'a Taint> {
    let strict = taints.iter().filter(|t| t.effect != Effect::PreferNoSchedule);
    strict.into_iter().find(|taint| !tolerations.iter().any(|t| tolerates(t, taint)))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    toleration.key.as_ref().is_none_or(|k| *k == taint.key)
        && toleration.value.as_ref().is_none_or(|v| *v == taint.value)
        && toleration.effect.is_none_or(|e| e == taint.effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_read_as_kubernetes_reads_them() {
        let labels: Labels = [("disk".into(), "nvme".into()), ("gen".into(), "7".into())].into();
        let one = |key: &str, test| vec![vec![Requirement { key: key.into(), test }]];
        assert!(selects(&[], &labels));
        assert!(selects(&one("disk", Test::In(vec!["hdd".into(), "nvme".into()])), &labels));
        assert!(!selects(&one("zone", Test::In(vec!["a".into()])), &labels));
        assert!(selects(&one("zone", Test::NotIn(vec!["a".into()])), &labels));
        assert!(!selects(&one("disk", Test::NotIn(vec!["nvme".into()])), &labels));
        assert!(selects(&one("gen", Test::Gt(6)), &labels) && !selects(&one("gen", Test::Lt(7)), &labels));
        assert!(!selects(&one("disk", Test::Gt(6)), &labels));
        let either = [one("zone", Test::Exists).remove(0), one("zone", Test::DoesNotExist).remove(0)];
        assert!(selects(&either, &labels) && !selects(&either[..1], &labels));
    }

    #[test]
    fn taints_keep_out_who_does_not_tolerate_them() {
        let taint = |effect| Taint { key: "gpu".into(), value: "yes".into(), effect };
        let key = Toleration { key: Some("gpu".into()), ..Toleration::default() };
        let value = Toleration { value: Some("no".into()), ..key.clone() };
        let effect = Toleration { effect: Some(Effect::NoExecute), ..key.clone() };
        let strict = [taint(Effect::NoSchedule)];
        assert!(untolerated(&strict, &[]).is_some() && untolerated(&strict, &[key]).is_none());
        assert!(untolerated(&strict, &[value]).is_some() && untolerated(&strict, &[effect]).is_some());
        assert!(untolerated(&strict, &[Toleration::default()]).is_none());
        assert!(untolerated(&[taint(Effect::PreferNoSchedule)], &[]).is_none());
    }
}
