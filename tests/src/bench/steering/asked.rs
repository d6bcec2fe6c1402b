//! What the scheduling knows, and a count of how often a scheduler asked for scores.
//!
//! The edge's own counts would not do: an extender that is never reached and one that answers at once look alike
//! in the scheduler's rate, and this is the last place before the answer that sees each question.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use operator::schedule::picture::Picture;
use operator::schedule::reach::{DatasetName, Nodes, Reach, View};

/// The picture, counted.
pub struct Asked {
    picture: Arc<Picture>,
    scored: AtomicUsize,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Asked").field("scored", &self.scored).finish_non_exhaustive()
    }
}

impl Asked {
    pub fn new(picture: Arc<Picture>) -> Self {
        Self { picture, scored: AtomicUsize::new(0) }
    }

    /// Questions to `prioritize` about pods that mount a Dataset.
    pub fn scored(&self) -> usize {
        self.scored.load(Ordering::Relaxed)
    }
}

impl View for Asked {
    fn dataset(&self, namespace: &str, claim: &str) -> Option<DatasetName> {
        self.picture.dataset(namespace, claim)
    }

    fn opted_out(&self, namespace: &str) -> bool {
        self.picture.opted_out(namespace)
    }

    fn nodes(&self) -> Arc<Nodes> {
        self.picture.nodes()
    }

    fn reach(&self, datasets: &[DatasetName], workload: Option<&str>) -> Reach {
        self.picture.reach(datasets, workload)
    }

    fn generation(&self, datasets: &[DatasetName]) -> u64 {
        self.picture.generation(datasets)
    }

    /// Scores alone are dated, and each question for them once: kept answers are found by it.
    fn moment(&self) -> u64 {
        self.scored.fetch_add(1, Ordering::Relaxed);
        self.picture.moment()
    }
}

#[cfg(test)]
mod tests {
    use operator::schedule::extender::Extender;
    use serde_json::json;

    use super::super::world::{self, World};
    use super::*;

    #[test]
    fn each_question_for_scores_counts_once() {
        let world = World { nodes: 4, datasets: 2, holders: 1 };
        let (_, picture) = world.build(world::node);
        let asked = Arc::new(Asked::new(Arc::new(picture)));
        let extender = Extender::new(asked.clone());
        let names: Vec<String> = (0..world.nodes).map(world::node).collect();
        let question = |dataset: &str| {
            let pod = world::pod(1, dataset);
            serde_json::to_vec(&json!({"Pod": pod, "Nodes": null, "NodeNames": names})).unwrap()
        };
        let body = question(&world::dataset(0));
        extender.filter(&body).unwrap();
        assert_eq!(asked.scored(), 0, "filter gives no scores");
        // The second is answered from what was kept.
        for count in 1..=2 {
            assert_ne!(extender.prioritize(&body).unwrap(), b"[]");
            assert_eq!(asked.scored(), count);
        }
        extender.prioritize(&question("nobody-knows-it")).unwrap();
        assert_eq!(asked.scored(), 2, "no Dataset, no scores");
    }
}
