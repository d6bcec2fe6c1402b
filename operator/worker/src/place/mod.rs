//! Where files are read and written: a folder or a bucket behind one door.

pub mod error;

pub mod folder;

pub mod bucket;

use bytes::Bytes;
use futures::StreamExt;

pub use error::PlaceError;

use self::bucket::{Arriving, Bucket, Patience, Sending};
use self::folder::{Folder, Reading, Staged};
use crate::entry::{Listing, Seen};
use crate::name::Name;
use crate::task::End;

#[derive(Clone, Debug)]
pub enum Place {
    Folder(Folder),
    Bucket(Bucket),
}

/// Runs what blocks where that may be.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PlaceError> + Send + 'static,
) -> Result<T, PlaceError> {
    // It is only joined when the runtime is being taken down.
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(PlaceError::Stopped))
}

impl Place {
    /// `within`: the end's path is where this place begins, and is made where it is not there. Else the place is all
    /// of the folder or bucket.
    pub async fn open(end: &End, within: bool, patience: Patience) -> Result<Self, PlaceError> {
        match end {
            End::Folder { at, path } => {
                let (at, path) = (at.clone(), path.clone().filter(|_| within));
                blocking(move || Folder::open(&at, path.as_ref(), within)).await.map(Self::Folder)
            }
            End::Bucket { bucket, prefix, settings } => {
                let prefix = prefix.as_ref().filter(|_| within);
                Bucket::open(bucket, prefix, settings, patience).map(Self::Bucket)
            }
        }
    }

    pub async fn list(&self, only: Option<&Name>) -> Result<Listing, PlaceError> {
        match self {
            Self::Folder(folder) => {
                let (folder, only) = (folder.clone(), only.cloned());
                blocking(move || folder.list(only.as_ref())).await
            }
            Self::Bucket(bucket) => bucket.list(only).await,
        }
    }

    pub async fn look(&self, name: &Name) -> Result<Option<Seen>, PlaceError> {
        match self {
            Self::Folder(folder) => {
                let (folder, name) = (folder.clone(), name.clone());
                blocking(move || folder.look(&name)).await
            }
            Self::Bucket(bucket) => bucket.look(name).await,
        }
    }

    /// Whether a name is the mark of an empty folder, and no file.
    pub async fn is_mark(&self, name: &Name) -> Result<bool, PlaceError> {
        match self {
            Self::Folder(_) => Ok(false),
            Self::Bucket(bucket) => bucket.is_mark(name).await,
        }
    }

    pub async fn read(&self, name: &Name) -> Result<(Seen, Reader), PlaceError> {
        match self {
            Self::Folder(folder) => {
                let (folder, name) = (folder.clone(), name.clone());
                let (seen, reading) = blocking(move || folder.read(&name)).await?;
                Ok((seen, Reader::File(reading)))
            }
            Self::Bucket(bucket) => {
                let (seen, arriving) = bucket.read(name).await?;
                Ok((seen, Reader::Object(arriving)))
            }
        }
    }

    /// A small file, at most so many bytes.
    pub async fn whole(&self, name: &Name, most: u64) -> Result<Vec<u8>, PlaceError> {
        match self {
            Self::Folder(folder) => {
                let (folder, name) = (folder.clone(), name.clone());
                blocking(move || folder.read(&name)?.1.whole(most)).await
            }
            Self::Bucket(bucket) => bucket.whole(name, most).await,
        }
    }

    /// Writes a small file whole: it is there with all of these bytes, or not at all.
    pub async fn put(&self, name: &Name, temporary: &Name, bytes: Vec<u8>) -> Result<(), PlaceError> {
        match self {
            Self::Folder(folder) => {
                let (folder, name, temporary) = (folder.clone(), name.clone(), temporary.clone());
                blocking(move || {
                    let mut staged = folder.stage(&temporary)?;
                    staged.write(&bytes)?;
                    staged.settle()?;
                    staged.commit(&name, None).map(drop)
                })
                .await
            }
            Self::Bucket(bucket) => bucket.put(name, bytes).await,
        }
    }

    /// Begins to write a file of this size.
    pub async fn write(&self, name: &Name, temporary: &Name, size: u64) -> Result<Writer, PlaceError> {
        match self {
            Self::Folder(folder) => {
                let (folder, temporary) = (folder.clone(), temporary.clone());
                blocking(move || folder.stage(&temporary)).await.map(Writer::File)
            }
            Self::Bucket(bucket) => bucket.begin(name, size).await.map(Writer::Object),
        }
    }

    pub async fn remove(&self, name: &Name) -> Result<(), PlaceError> {
        match self {
            Self::Folder(folder) => {
                let (folder, name) = (folder.clone(), name.clone());
                blocking(move || folder.remove(&name)).await
            }
            Self::Bucket(bucket) => bucket.remove(name).await,
        }
    }

    /// Bytes of memory that writing a file of this size takes.
    pub fn memory(&self, size: u64) -> u64 {
        match self {
            Self::Folder(_) => 2 * folder::CHUNK as u64,
            Self::Bucket(_) => bucket::memory(size) + folder::CHUNK as u64,
        }
    }
}

pub enum Reader {
    File(Reading),
    Object(Arriving),
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::File(_) => "Reader::File",
            Self::Object(_) => "Reader::Object",
        })
    }
}

impl Reader {
    /// The next bytes; none at the end.
    pub async fn more(&mut self) -> Result<Option<Bytes>, PlaceError> {
        match self {
            Self::File(reading) => {
                let mut at = reading.clone();
                let (at, bytes) = blocking(move || at.more().map(|bytes| (at, bytes))).await?;
                *reading = at;
                Ok(Some(bytes).filter(|bytes| !bytes.is_empty()).map(Bytes::from))
            }
            Self::Object(arriving) => Ok(arriving.next().await.transpose()?),
        }
    }
}

#[derive(Debug)]
pub enum Writer {
    File(Staged),
    Object(Sending),
}

/// What was written, and can be read again. A folder has not given it its name yet.
#[derive(Debug)]
pub enum Written {
    File(Staged),
    Object,
}

impl Writer {
    pub async fn write(self, bytes: Bytes) -> Result<Self, (Option<Self>, PlaceError)> {
        match self {
            Self::File(mut staged) => {
                let done = tokio::task::spawn_blocking(move || {
                    let result = staged.write(&bytes);
                    (staged, result)
                });
                match done.await {
                    Ok((staged, Ok(()))) => Ok(Self::File(staged)),
                    Ok((staged, Err(error))) => Err((Some(Self::File(staged)), error)),
                    Err(_) => Err((None, PlaceError::Stopped)),
                }
            }
            Self::Object(mut sending) => match sending.write(bytes).await {
                Ok(()) => Ok(Self::Object(sending)),
                Err(error) => Err((Some(Self::Object(sending)), error)),
            },
        }
    }

    pub async fn finish(self) -> Result<Written, PlaceError> {
        match self {
            Self::File(mut staged) => blocking(move || staged.settle().map(|()| Written::File(staged))).await,
            Self::Object(sending) => sending.finish().await.map(|()| Written::Object),
        }
    }

    /// Leaves nothing of it behind.
    pub async fn abort(self) {
        match self {
            Self::File(staged) => drop(staged),
            Self::Object(sending) => sending.abort().await,
        }
    }
}
