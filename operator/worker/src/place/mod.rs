//! Where files are read and written: a folder, a bucket or, to read from, a web server behind one door.

pub mod error;

pub mod folder;

pub mod bucket;

pub mod web;

use bytes::Bytes;
use futures::StreamExt;

pub use error::PlaceError;

use self::bucket::{Arriving, Bucket, Patience};
use self::folder::{Folder, Reading, Staged};
use self::web::Web;
use crate::entry::{Listing, Seen};
use crate::name::Name;
use crate::parts::LARGE;
use crate::task::End;

#[derive(Clone, Debug)]
pub enum Place {
    Folder(Folder),
    Bucket(Bucket),
    /// Only read from: [`crate::task`] lets it be no target.
    Web(Web),
}

const NO_TARGET: PlaceError = PlaceError::InTheWay("folder");

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
            End::Web { server, file } => Web::open(server, file, patience).map(Self::Web),
        }
    }

    pub async fn list(&self, only: Option<&Name>) -> Result<Listing, PlaceError> {
        match self {
            Self::Folder(folder) => {
                let (folder, only) = (folder.clone(), only.cloned());
                blocking(move || folder.list(only.as_ref())).await
            }
            Self::Bucket(bucket) => bucket.list(only).await,
            Self::Web(web) => web.list().await,
        }
    }

    pub async fn look(&self, name: &Name) -> Result<Option<Seen>, PlaceError> {
        match self {
            Self::Folder(folder) => {
                let (folder, name) = (folder.clone(), name.clone());
                blocking(move || folder.look(&name)).await
            }
            Self::Bucket(bucket) => bucket.look(name).await,
            Self::Web(web) => web.look(name).await,
        }
    }

    /// Whether a name is the mark of an empty folder, and no file.
    pub async fn is_mark(&self, name: &Name) -> Result<bool, PlaceError> {
        match self {
            Self::Folder(_) | Self::Web(_) => Ok(false),
            Self::Bucket(bucket) => bucket.is_mark(name).await,
        }
    }

    pub async fn read(&self, name: &Name) -> Result<(Seen, Reader), PlaceError> {
        self.read_from(name, 0).await
    }

    /// From this byte on, which the file must have.
    pub async fn read_from(&self, name: &Name, from: u64) -> Result<(Seen, Reader), PlaceError> {
        match self {
            Self::Folder(folder) => {
                let (folder, name) = (folder.clone(), name.clone());
                let (seen, reading) = blocking(move || folder.read(&name, from)).await?;
                Ok((seen, Reader::File(reading)))
            }
            Self::Bucket(bucket) => {
                let (seen, arriving) = bucket.read(name, from).await?;
                Ok((seen, Reader::Object(arriving)))
            }
            Self::Web(web) => {
                let (seen, arriving) = web.read(name, from).await?;
                Ok((seen, Reader::Object(arriving)))
            }
        }
    }

    /// A small file, at most so many bytes.
    pub async fn whole(&self, name: &Name, most: u64) -> Result<Vec<u8>, PlaceError> {
        match self {
            Self::Folder(folder) => {
                let (folder, name) = (folder.clone(), name.clone());
                blocking(move || folder.read(&name, 0)?.1.whole(most)).await
            }
            Self::Bucket(bucket) => bucket.whole(name, most).await,
            Self::Web(_) => Err(NO_TARGET),
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
            Self::Web(_) => Err(NO_TARGET),
        }
    }

    /// Begins to write a file.
    pub async fn write(&self, name: &Name, temporary: &Name) -> Result<Writer, PlaceError> {
        match self {
            Self::Folder(folder) => {
                let (folder, temporary) = (folder.clone(), temporary.clone());
                blocking(move || folder.stage(&temporary)).await.map(Writer::File)
            }
            Self::Bucket(bucket) => {
                Ok(Writer::Object { bucket: bucket.clone(), name: name.clone(), bytes: Vec::new() })
            }
            Self::Web(_) => Err(NO_TARGET),
        }
    }

    /// As [`Folder::resume`]; a bucket has no such files.
    pub async fn resume(&self, temporary: &Name) -> Result<Option<Staged>, PlaceError> {
        match self {
            Self::Folder(folder) => {
                let (folder, temporary) = (folder.clone(), temporary.clone());
                blocking(move || folder.resume(&temporary)).await
            }
            Self::Bucket(_) | Self::Web(_) => Ok(None),
        }
    }

    pub async fn remove(&self, name: &Name) -> Result<(), PlaceError> {
        match self {
            Self::Folder(folder) => {
                let (folder, name) = (folder.clone(), name.clone());
                blocking(move || folder.remove(&name)).await
            }
            Self::Bucket(bucket) => bucket.remove(name).await,
            Self::Web(_) => Err(NO_TARGET),
        }
    }

    /// Bytes of memory that writing a file of this size takes.
    pub fn memory(&self, size: u64) -> u64 {
        match self {
            Self::Folder(_) | Self::Web(_) => 2 * folder::CHUNK as u64,
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

/// A file on its way into a folder, or a small one on its way into a bucket: a large one has an [`bucket::Upload`].
#[derive(Debug)]
pub enum Writer {
    File(Staged),
    Object { bucket: Bucket, name: Name, bytes: Vec<u8> },
}

/// What was written, and can be read again. A folder has not given it its name yet.
#[derive(Debug)]
pub enum Written {
    File(Staged),
    Object,
}

impl Writer {
    pub async fn write(self, more: Bytes) -> Result<Self, PlaceError> {
        match self {
            Self::File(staged) => written(staged, more).await.map(Self::File).map_err(|(_, error)| error),
            Self::Object { bucket, name, mut bytes } => {
                bytes.extend_from_slice(&more);
                let whole = bytes.len() as u64 <= LARGE;
                let this = Self::Object { bucket, name, bytes };
                // A source that grew is found out when it is counted; memory is not its to take.
                if whole { Ok(this) } else { Err(PlaceError::Changed) }
            }
        }
    }

    pub async fn finish(self) -> Result<Written, PlaceError> {
        match self {
            Self::File(staged) => settled(staged).await.map(Written::File),
            Self::Object { bucket, name, bytes } => {
                bucket.put(&name, bytes).await?;
                Ok(Written::Object)
            }
        }
    }
}

/// Writes where that may block; the file is lost with the runtime only.
pub async fn written(mut staged: Staged, bytes: Bytes) -> Result<Staged, (Option<Staged>, PlaceError)> {
    let done = tokio::task::spawn_blocking(move || {
        let result = staged.write(&bytes);
        (staged, result)
    });
    match done.await {
        Ok((staged, Ok(()))) => Ok(staged),
        Ok((staged, Err(error))) => Err((Some(staged), error)),
        Err(_) => Err((None, PlaceError::Stopped)),
    }
}

/// Brings it to the disk.
pub async fn settled(mut staged: Staged) -> Result<Staged, PlaceError> {
    blocking(move || staged.settle().map(|()| staged)).await
}

/// Gives it its name and the source's time.
pub async fn committed(staged: Staged, name: &Name, modified: i64) -> Result<(), PlaceError> {
    let name = name.clone();
    blocking(move || staged.commit(&name, Some(modified)).map(drop)).await
}
