//! What an instruction comes to on a node that has all it needs: chunks come into its memory, or go.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent::report::ledger::{Key, Tier};
use agent::report::speaker::{Facts, Speaker};
use operator_api::report::v1 as wire;
use wire::instruction::Work;
use wire::progress::State;

/// The operator's numbers for Datasets, as last told.
pub type Numbers = BTreeMap<u32, Arc<str>>;

pub fn numbers(bindings: &[wire::Binding]) -> Numbers {
    bindings.iter().map(|binding| (binding.dataset, binding.name.as_str().into())).collect()
}

pub fn chunks_in(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(4 << 20)).unwrap_or(u32::MAX)
}

/// Where chunks of a Dataset stand in a node's ledger.
pub fn key(facts: &Facts, dataset: &Arc<str>) -> Option<Key> {
    let version = facts.versions.get(dataset)?.version;
    Some(Key { dataset: dataset.clone(), version, tier: Tier::PageCache })
}

/// What it is about; the number in it means something in one life of the operator only.
pub fn extent(work: &mut Work) -> Option<&mut wire::Extent> {
    match work {
        Work::Fetch(wire::Fetch { extent, .. })
        | Work::Pin(wire::Pin { extent, .. })
        | Work::Drop(wire::Drop { extent, .. }) => extent.as_mut(),
    }
}

/// Does it, and gives its end. `dataset` is what the extent's number stands for.
pub fn done(
    id: &str,
    work: Option<&Work>,
    dataset: Option<&Arc<str>>,
    speaker: &mut Speaker,
) -> wire::Progress {
    let mut progress = wire::Progress { id: id.to_owned(), ..wire::Progress::default() };
    let mut work = work.cloned();
    let bring = !matches!(work, Some(Work::Drop(_)));
    let memory = wire::Tier::PageCache as i32;
    if matches!(&work, Some(Work::Fetch(wire::Fetch { tier, .. }) | Work::Pin(wire::Pin { tier, .. })) if *tier != memory)
    {
        progress.state = State::Refused.into();
        progress.detail = "this node has the page cache only".into();
        return progress;
    }
    let key = dataset.and_then(|dataset| key(&speaker.facts, dataset));
    let (Some(extent), Some(key)) = (work.as_mut().and_then(extent), key) else {
        progress.state = State::Refused.into();
        progress.detail = "the Dataset is on none of the mounts".into();
        return progress;
    };
    let all = speaker.facts.versions.get(&key.dataset).map_or(0, |version| chunks_in(version.bytes));
    let mut runs: Vec<(u32, u32)> = extent
        .chunks
        .chunks_exact(2)
        .filter_map(|pair| Some((*pair.first()?, pair.first()?.saturating_add(*pair.last()?))))
        .collect();
    if runs.is_empty() {
        runs.push((0, all));
    }
    let chunks: u32 = runs.iter().map(|(start, end)| end - start).sum();
    speaker.ledger.change(&key, |held| {
        for (start, end) in runs {
            if bring { held.whole.insert(start, end) } else { held.whole.remove(start, end) }
        }
    });
    progress.state = State::Done.into();
    progress.bytes = u64::from(chunks) << 22;
    progress.bytes_total = progress.bytes;
    progress
}
