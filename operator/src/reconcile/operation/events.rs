//! What an operation may run on: which events are there, and which are over. Pure.
//!
//! After a restart little is known for a while. What is not known is neither there nor over: a served event must not
//! be served again because nobody has told of it yet.

use std::collections::HashSet;

use k8s_openapi::jiff::Timestamp;
use operator_api::crd::operation::{Event, ServedEvent};

use crate::inventory::Name;
use crate::reconcile::measure::Measure;

/// What is known of an operation's Dataset and of the nodes.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// None: no agent has told of the Dataset.
    pub measure: Option<Measure>,
    /// The newest version that the Dataset's status remembers: of a life in which agents had told of it.
    pub remembered: Option<String>,
    /// Seconds without a reader after which it is idle.
    pub idle_limit: Option<i64>,
    /// When the operation was made.
    pub created: Option<Timestamp>,
    /// When the newest node came; for a load, of those that may hold the Dataset and have it on a mount.
    pub newest_node: Option<Timestamp>,
}

/// When the newest of these nodes came; of those in `counted`, where not all of them count.
pub fn newest<'a>(
    came: impl Iterator<Item = (&'a str, Timestamp)>,
    counted: Option<&[Name]>,
) -> Option<Timestamp> {
    let counted: Option<HashSet<&str>> = counted.map(|names| names.iter().map(|name| &**name).collect());
    came.filter(|(name, _)| counted.as_ref().is_none_or(|all| all.contains(name))).map(|(_, at)| at).max()
}

/// Events that are there now, each with which one it is, and those that are known to be over and may come again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Happened {
    pub there: Vec<(Event, String)>,
    pub over: Vec<Event>,
    /// The version that the stores hold, as far as anybody knows or knew: what an operation counts from that sees its
    /// Dataset for the first time. An operator that has just begun and has heard no agent knows it from the status.
    pub version: Option<String>,
}

/// The mark of an operation that knew of no version when it was first seen: any is new to it.
pub const NO_VERSION: &str = "Unknown";

pub fn happened(known: &Known) -> Happened {
    let mut happened = Happened::default();
    if let Some(version) = known.measure.as_ref().and_then(|measure| measure.version.clone()) {
        happened.there.push((Event::NewVersion, version.clone()));
        happened.version = Some(version);
    } else {
        // Only to count from: what was served may be newer than what the status was told in time.
        happened.version.clone_from(&known.remembered);
    }
    if let (Some(limit), Some(measure)) = (known.idle_limit, &known.measure) {
        if measure.reader_count > 0 {
            happened.over.push(Event::DatasetIdle);
        } else if measure.idle_seconds.is_some_and(|idle| idle >= limit) {
            happened.there.push((Event::DatasetIdle, "idle".into()));
        }
    }
    // Nodes that were there before the operation are no news to it.
    if let Some(newest) = known.newest_node.filter(|newest| Some(*newest) > known.created) {
        happened.there.push((Event::NodeAdded, newest.to_string()));
    }
    happened
}

/// Has an operation that asks for new versions count from the one that is there when that is first seen, so that it runs on
/// changes as `NodeAdded` does, and not on what there was before. It is kept among what was served: also of one that is
/// suspended, or waits for something else, and over restarts.
pub fn count_from_here(on: &[Event], happened: &Happened, served: &mut Vec<ServedEvent>) {
    let counts = served.iter().any(|served| served.event == Event::NewVersion);
    if on.contains(&Event::NewVersion) && !counts {
        let mark = happened.version.clone().unwrap_or_else(|| NO_VERSION.into());
        served.push(ServedEvent { event: Event::NewVersion, mark });
    }
}

/// Whether an event is another one than the one that was served.
pub fn is_another(served: &ServedEvent, mark: &str) -> bool {
    match served.event {
        Event::NewVersion | Event::DatasetIdle => served.mark != mark,
        // The newest node has gone, and one that was there before is the newest again: nothing was added.
        Event::NodeAdded => match (served.mark.parse::<Timestamp>(), mark.parse::<Timestamp>()) {
            (Ok(served), Ok(mark)) => mark > served,
            _ => served.mark != mark,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + seconds).unwrap()
    }

    #[test]
    fn what_is_not_known_is_neither_there_nor_over() {
        let known = Known { idle_limit: Some(60), created: Some(at(0)), ..Known::default() };
        assert_eq!(happened(&known), Happened::default());
        let measure = Some(Measure { idle_seconds: Some(5), ..Measure::default() });
        assert_eq!(happened(&Known { measure, ..known.clone() }), Happened::default());
        let measure = Some(Measure { idle_seconds: Some(60), ..Measure::default() });
        let idle = happened(&Known { measure: measure.clone(), ..known.clone() });
        assert_eq!(idle.there, [(Event::DatasetIdle, "idle".to_owned())]);
        assert_eq!(happened(&Known { measure, idle_limit: None, ..known.clone() }), Happened::default());
        let measure = Some(Measure {
            reader_count: 1,
            idle_seconds: Some(0),
            version: Some("v1".into()),
            ..Measure::default()
        });
        let read = happened(&Known { measure, ..known });
        assert_eq!(read.there, [(Event::NewVersion, "v1".to_owned())]);
        assert_eq!(read.over, [Event::DatasetIdle]);
    }

    #[test]
    fn what_only_the_status_remembers_is_counted_from_and_no_event() {
        let known = Known { remembered: Some("v1".into()), ..Known::default() };
        let happened = happened(&known);
        assert_eq!((&happened.there, happened.version.as_deref()), (&Vec::new(), Some("v1")));
        let told = Measure { version: Some("v2".into()), ..Measure::default() };
        let known = Known { measure: Some(told), ..known };
        assert_eq!(super::happened(&known).version.as_deref(), Some("v2"), "agents know better");
        let mut served = Vec::new();
        count_from_here(&[Event::DatasetIdle, Event::NodeAdded], &happened, &mut served);
        assert_eq!(served, [], "it asks for no versions");
        count_from_here(&[Event::NewVersion], &happened, &mut served);
        count_from_here(&[Event::NewVersion], &Happened::default(), &mut served);
        assert_eq!(served, [ServedEvent { event: Event::NewVersion, mark: "v1".into() }]);
    }

    #[test]
    fn for_a_load_only_nodes_that_have_mounted_it_count() {
        let came = [("b", at(5)), ("c", at(9)), ("a", at(1))];
        let newest = |counted: Option<&[Name]>| newest(came.into_iter(), counted);
        assert_eq!(newest(None), Some(at(9)));
        assert_eq!(newest(Some(&["b".into(), "a".into()])), Some(at(5)));
        assert_eq!(newest(Some(&["z".into()])), None);
        assert_eq!(newest(Some(&[])), None);
    }

    #[test]
    fn only_a_node_that_came_later_is_news() {
        let known = |newest| Known { created: Some(at(0)), newest_node: newest, ..Known::default() };
        assert_eq!(happened(&known(Some(at(0)))).there, []);
        let added = happened(&known(Some(at(9)))).there;
        assert_eq!(added, [(Event::NodeAdded, at(9).to_string())]);
        let served = ServedEvent { event: Event::NodeAdded, mark: at(9).to_string() };
        assert!(is_another(&served, &at(10).to_string()));
        assert!(!is_another(&served, &at(9).to_string()));
        assert!(!is_another(&served, &at(5).to_string()), "the newest one has gone");
    }
}
