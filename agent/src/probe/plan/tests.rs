//! What a plan is said to see, by what of it is attached; and which comes first.

use super::*;

/// All of a plan's groups, but for those that cannot be hooked.
fn without(plan: Plan, groups: &[&str]) -> Attached {
    let mut attached = Attached::default();
    for hook in hooks(plan) {
        if groups.contains(&hook.group) {
            attached.miss(hook, format!("{} cannot be hooked", hook.target));
        } else {
            attached.groups.push(hook.group);
        }
    }
    attached
}

#[test]
fn what_a_missing_hook_would_tell_is_said_to_be_unseen() {
    for plan in [Plan::Function, Plan::Kprobe] {
        let whole = without(plan, &[]);
        assert_eq!(sees_case(plan, &whole, Case::Read), Seen::Yes);
        assert_eq!(sees_case(plan, &whole, Case::Tmpfs), Seen::Yes);
        assert_eq!(whole.notes().count(), 0);
        let partly = |groups: &[&str], case, word: &str| {
            let attached = without(plan, groups);
            match sees_case(plan, &attached, case) {
                Seen::Partly(limit) => assert!(limit.contains(word), "{plan:?} without {groups:?}: {limit}"),
                other => panic!("{plan:?} without {groups:?} sees {case:?}: {other:?}"),
            }
            let notes: Vec<String> = attached.notes().collect();
            assert!(
                notes.len() == groups.len() && notes.iter().all(|note| note.contains("not seen")),
                "{notes:?}"
            );
        };
        partly(&["splice"], Case::Read, "filemap_splice_read");
        partly(&["direct"], Case::Direct, "generic_file_read_iter");
        partly(&["tmpfs splice"], Case::Tmpfs, "shmem_file_splice_read");
        partly(&["tmpfs fault"], Case::Tmpfs, "shmem_fault");
        partly(&["tmpfs splice", "tmpfs fault"], Case::Tmpfs, "reads alone");
        let blind = without(plan, &["tmpfs", "iomap"]);
        assert!(matches!(sees_case(plan, &blind, Case::Tmpfs), Seen::No(_)));
        assert!(matches!(sees_case(plan, &blind, Case::Direct), Seen::No(_)));
    }
    // A return alone tells nothing: kprobes leave the parameters at the entry.
    for (entry, case) in [("splice entry", Case::Read), ("tmpfs splice entry", Case::Tmpfs)] {
        let attached = without(Plan::Kprobe, &[entry]);
        assert!(matches!(sees_case(Plan::Kprobe, &attached, case), Seen::Partly(_)), "{entry}");
    }
    let attached = without(Plan::Kprobe, &["tmpfs entry", "tmpfs"]);
    assert!(matches!(sees_case(Plan::Kprobe, &attached, Case::Tmpfs), Seen::No(_)));
    assert_eq!(attached.notes().count(), 1);
    // Reads are seen without their entry under fentry, which times them alone.
    let attached = without(Plan::Function, &["read entry"]);
    assert_eq!(sees_case(Plan::Function, &attached, Case::Read), Seen::Yes);
    assert!(matches!(sees_case(Plan::Function, &attached, Case::HitLatency), Seen::No(_)));
    // What an older kernel has not got is not missed.
    let mut old = without(Plan::Function, &[]);
    old.groups.retain(|group| *group != "splice");
    assert_eq!(sees_case(Plan::Function, &old, Case::Read), Seen::Yes);
}

#[test]
fn what_cannot_be_put_on_what_is_there_is_missed_and_what_is_not_there_is_not() {
    let tried = |refusal: fn(&Hook) -> Option<Refusal>| {
        let mut attached = Attached::default();
        let all = attach_all(Plan::Function, &mut attached, |hook| refusal(hook).map_or(Ok(()), Err));
        all.map(|()| attached)
    };
    assert!(!tried(|_| None).unwrap().misses("splice"));
    let there = tried(|hook| (hook.group == "splice").then(|| Refusal::OutOfReach("why".into()))).unwrap();
    assert!(there.misses("splice") && !there.has("splice"));
    assert_eq!(
        there.notes().collect::<Vec<_>>(),
        ["What is spliced or sent (splice, sendfile) is not seen: why"]
    );
    let absent = tried(|hook| (hook.group == "splice").then(|| Refusal::Absent("why".into()))).unwrap();
    assert!(!absent.misses("splice") && !absent.has("splice"));
    // One of a group stands in for the other; without any of what is needed there is no plan.
    let old =
        tried(|hook| (hook.target == "filemap_read").then(|| Refusal::OutOfReach("why".into()))).unwrap();
    assert!(old.has("read") && !old.misses("read"));
    let none = tried(|hook| (hook.group == "read").then(|| Refusal::Absent("why".into())));
    assert_eq!(none.unwrap_err(), "why");
}

#[test]
fn every_optional_group_has_its_words() {
    for plan in Plan::ALL {
        for hook in hooks(plan).filter(|hook| !hook.needed) {
            let attached = without(plan, &[hook.group]);
            let notes: Vec<String> = attached.notes().collect();
            assert!(
                !notes.is_empty() && !notes.iter().any(|note| note.starts_with("something")),
                "{notes:?}"
            );
        }
    }
}

#[test]
fn where_tracepoints_tell_of_no_reads_kprobes_come_before_them() {
    let whole = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
    let name = b"\0btf_trace_mm_filemap_get_pages\0";
    let mut old = whole.clone();
    if let Some(at) = whole.windows(name.len()).position(|window| window == name) {
        old[at + 1] = b'x';
        assert_eq!(by_preference(&Btf::parse(whole).unwrap()), Plan::ALL);
    }
    let order = by_preference(&Btf::parse(old).unwrap());
    assert_eq!(order, [Plan::Function, Plan::Kprobe, Plan::BtfTracepoint, Plan::RawTracepoint]);
}
