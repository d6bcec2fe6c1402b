//! A backup, read again: verified whole before the first word of it is said.

use std::path::Path;

use crate::archive::{self, ArchiveError, MOST_BYTES};
use crate::name::{Name, NameError};
use crate::options::Settings;
use crate::place::bucket::{Bucket, Patience};
use crate::place::folder::{Folder, path_shown};
use crate::place::{Place, PlaceError};
use crate::task;

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("{at} cannot be read: {error}")]
    Read { at: String, error: PlaceError },
    #[error("{at} cannot be read: {why}")]
    Where { at: String, why: String },
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// What kubectl takes, from a file or `s3://bucket/folder/file`. Keys of S3 are the surroundings' (AWS_…).
pub async fn run(from: &Path, patience: Patience) -> Result<String, RestoreError> {
    let at = path_shown(from);
    let wrong = |why: String| RestoreError::Where { at: at.clone(), why };
    let bytes = match from.to_str().filter(|text| text.contains("://")) {
        Some(uri) => {
            let (bucket, path) = task::bucket(uri).map_err(wrong)?;
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
    let bytes = bytes.map_err(|error| RestoreError::Read { at: at.clone(), error })?;
    Ok(archive::yaml(&archive::read(&bytes)?))
}
