//! A backup, read again: verified whole before the first word of it is said, and compared with stores where one asks.

use std::collections::BTreeMap;
use std::path::Path;

use crate::archive::{self, ArchiveError, MOST_BYTES};
use crate::manifest::{self, Difference, Few, Head, Manifest};
use crate::name::{Name, NameError};
use crate::options::Settings;
use crate::place::bucket::{Bucket, Patience};
use crate::place::folder::{Folder, path_shown};
use crate::place::{Place, PlaceError};
use crate::stock;
use crate::task::{self, End};
use crate::uri;

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("{at} cannot be read: {error}")]
    Read { at: String, error: PlaceError },
    #[error("{at} cannot be read: {why}")]
    Where { at: String, why: String },
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("--against {given} cannot be used: {why}")]
    Against { given: String, why: String },
    #[error("{place}, with which a mount is to be compared, cannot be listed: {error}")]
    List { place: String, error: PlaceError },
}

/// A backup for a person and kubectl.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    pub yaml: String,
    /// What the comparisons found, a sentence each.
    pub compared: Vec<String>,
    /// Something that was in a manifest is not there, or not as it was.
    pub differs: bool,
}

/// From a file or `s3://bucket/folder/file`; `against` are the stores that its manifests are compared with, as `AT=PLACE`
/// or, of a backup of one mount, `PLACE`. Keys of S3 are the surroundings' (AWS_…).
pub async fn run(from: &Path, against: &[String], patience: Patience) -> Result<Restored, RestoreError> {
    let content = archive::read(&read(from, patience).await?)?;
    let mut places = BTreeMap::new();
    for given in against {
        let wrong = |why: String| RestoreError::Against { given: given.clone(), why };
        let (number, place) = which(given, &content.manifests).map_err(wrong)?;
        if places.insert(number, (place, end(place).map_err(wrong)?)).is_some() {
            return Err(wrong("the same mount is compared with another place already".into()));
        }
    }
    let (mut remarks, mut compared, mut differs) = (Vec::new(), Vec::new(), false);
    for (number, Manifest { head, entries }) in content.manifests.iter().enumerate() {
        remarks.push(about(head));
        let Some((place, end)) = places.remove(&number) else { continue };
        let now = stock::take(&end, patience).await;
        let (now, _) = now.map_err(|error| RestoreError::List { place: place.to_owned(), error })?;
        let found = manifest::compare(entries, &now.entries);
        differs |= !found.is_none();
        compared.extend(told(&head.at, place, &found));
    }
    remarks.extend(compared.iter().cloned());
    Ok(Restored { yaml: archive::yaml(&content, &remarks), compared, differs })
}

fn about(head: &Head) -> String {
    let Head { at, url, unlisted, files, bytes, version, left_out } = head;
    if let Some(why) = unlisted {
        return format!("{at} ({url}) has no manifest: {why}");
    }
    let left_out =
        if *left_out > 0 { format!(", {left_out} links and others left out") } else { String::new() };
    format!("manifest of {at} ({url}): {files} files, {bytes} bytes{left_out}, version {version}")
}

/// The manifest that an `--against` is for, and the place.
fn which<'a>(given: &'a str, manifests: &[Manifest]) -> Result<(usize, &'a str), String> {
    let clean = |at: &str| at.trim_matches('/').to_owned();
    let listed = || manifests.iter().enumerate().filter(|(_, manifest)| manifest.head.unlisted.is_none());
    if let Some((at, place)) = given.split_once('=')
        && let Some((number, _)) = listed().find(|(_, manifest)| clean(&manifest.head.at) == clean(at))
    {
        return Ok((number, place));
    }
    let mut all = listed();
    match (all.next(), all.next()) {
        (Some((number, _)), None) => Ok((number, given)),
        (None, _) => Err("the backup holds no manifest".into()),
        _ => {
            let known: Vec<_> = listed().map(|(_, manifest)| &*manifest.head.at).collect();
            Err(format!("write MOUNT=PLACE; the backup has manifests of {}", known.join(", ")))
        }
    }
}

fn end(place: &str) -> Result<End, String> {
    if place.contains("://") {
        return task::store("from", place, &BTreeMap::new()).map_err(|error| error.to_string());
    }
    let at = Path::new(place).canonicalize().map_err(|error| error.to_string())?;
    Ok(End::Folder { at, path: None })
}

fn told(at: &str, place: &str, found: &Difference) -> Vec<String> {
    let Difference { same, missing, other, touched, more } = found;
    let mut lines = vec![format!(
        "{at} compared with {place}: {same} files are as they were, {} missing, {} of another size, {} of the same size \
         written anew, {} more than then",
        missing.count, other.count, touched.count, more.count
    )];
    let mut add = |what: &str, few: &Few| {
        lines.extend(few.names.iter().map(|name| format!("{what}: {name}")));
        let rest = few.count.saturating_sub(few.names.len() as u64);
        if rest > 0 {
            lines.push(format!("{what}: and {rest} more"));
        }
    };
    add("missing", missing);
    add("of another size", other);
    add("written anew", touched);
    lines
}

async fn read(from: &Path, patience: Patience) -> Result<Vec<u8>, RestoreError> {
    let at = path_shown(from);
    let wrong = |why: String| RestoreError::Where { at: at.clone(), why };
    let bytes = match from.to_str().filter(|text| text.contains("://")) {
        Some(url) => {
            let (bucket, path) = uri::bucket(url).map_err(wrong)?;
            let path = path.ok_or_else(|| wrong("it names a bucket, and no file in it".into()))?;
            let opened = Bucket::open(&bucket, None, &Settings::default(), patience);
            let place =
                opened.map(Place::Bucket).map_err(|error| RestoreError::Read { at: at.clone(), error })?;
            place.whole(&path, MOST_BYTES).await
        }
        None => {
            // A person's own path may have links.
            let from = from.canonicalize().map_err(|error| wrong(error.to_string()))?;
            let named = from.file_name().ok_or_else(|| wrong("it names no file".into()))?;
            let name =
                Name::parse(named.as_encoded_bytes()).map_err(|why: NameError| wrong(why.to_string()))?;
            let folder = from.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or_else(|| Path::new(".")).to_owned();
            match Folder::open(&folder, None, false).map(Place::Folder) {
                Ok(place) => place.whole(&name, MOST_BYTES).await,
                Err(error) => Err(error),
            }
        }
    };
    bytes.map_err(|error| RestoreError::Read { at: at.clone(), error })
}
