//! What the simulator must show, on clusters small enough for every test run.

use super::cluster::{Scenario, Size};
use super::outcome::once;

/// Enough for caches to fill and a zone to be lost and come back.
const TINY: Size = Size { nodes: 30, datasets: 40, pods: 160, ticks: 105 };

#[test]
fn the_same_seed_gives_the_same_figures() {
    let run = || once(TINY, Scenario::ZoneLoss, 3, "headrace");
    assert_eq!(run(), run());
    assert_ne!(run(), once(TINY, Scenario::ZoneLoss, 4, "headrace"));
}

#[test]
fn bytes_are_accounted_for() {
    for scenario in Scenario::ALL {
        for way in ["none", "random", "labels", "headrace"] {
            let outcome = once(TINY, scenario, 2, way);
            let t = outcome.tally;
            assert!(t.done > 0 && t.read > 0, "{way}");
            assert!(t.local + t.near <= t.read && t.distinct <= t.store, "{way} {t:?}");
            // What was read from elsewhere came from somewhere.
            assert!(t.read - t.local <= t.store + t.peer, "{way} {t:?}");
            assert_eq!(t.ordered > 0, way == "headrace");
            assert_eq!(t.killed > 0, matches!(scenario, Scenario::NodeLoss | Scenario::ZoneLoss), "{t:?}");
        }
    }
}

#[test]
fn measured_bytes_beat_static_labels() {
    for scenario in Scenario::ALL {
        let [ours, labels] = ["headrace", "labels"].map(|way| once(Size::SMALL, scenario, 7, way));
        let name = scenario.name();
        assert!(ours.hit_share() > labels.hit_share(), "{name}: {ours:?} {labels:?}");
        assert!(ours.tally.waited <= labels.tally.waited, "{name}: {ours:?} {labels:?}");
        assert!(ours.send_imbalance < labels.send_imbalance, "{name}: {ours:?} {labels:?}");
    }
}

#[test]
fn a_crowd_reads_the_store_about_once() {
    let nobody_else = Size { nodes: 60, datasets: 20, pods: 0, ticks: 60 };
    for seed in 0..4 {
        let crowd = once(nobody_else, Scenario::FlashCrowd, seed, "headrace");
        assert!(crowd.tally.distinct > 0 && crowd.store_passes() <= 1.2, "{crowd:?}");
        let alone = once(nobody_else, Scenario::FlashCrowd, seed, "none");
        assert!(alone.store_passes() >= 5.0, "{alone:?}");
    }
}
