//! All files of one end, named from where it begins.

use crate::entry::{Entry, Listing};
use crate::journal::STATE;
use crate::place::bucket::Patience;
use crate::place::{Place, PlaceError};
use crate::plan;
use crate::task::End;

/// What an end holds, in the order of names, and the version of it as agents reckon it. At most
/// [`crate::place::folder::MOST`] files; what the worker keeps there for itself is not among them.
pub async fn take(end: &End, patience: Patience) -> Result<(Listing, String), PlaceError> {
    let place = Place::open(end, false, patience).await?;
    let only = match end {
        End::Folder { path, .. } => path.clone(),
        End::Bucket { prefix, .. } => prefix.clone(),
        End::Web { file, .. } => Some(file.clone()),
    };
    let mut listing = place.list(only.as_ref()).await?;
    let entries = std::mem::take(&mut listing.entries);
    let named = entries.into_iter().filter_map(|Entry { name, seen }| {
        let name = plan::target(&name, only.as_ref())?;
        Some(Entry { name, seen })
    });
    listing.entries = named.collect();
    listing.entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let version = plan::version(&listing);
    listing.entries.retain(|entry| !entry.name.is_in(STATE.as_bytes()));
    Ok((listing, version))
}
