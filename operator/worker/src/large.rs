//! One large file on its way, part by part, so that a worker that comes after goes on where this one was.
//!
//! How far it is stands in a document at the target ([`Parts`]): the digest of each part as the source gave it. In a
//! folder what an earlier try wrote is read and compared before it is gone on with; a store keeps the parts of an
//! upload. In the end all of it is read back and every part compared, whoever wrote it, and only then it counts.

use std::collections::HashSet;
use std::time::Instant;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;

use crate::ground::{CopyError, Ground, finish, next, read_error, write_error};
use crate::hex::Digest;
use crate::journal::Record;
use crate::name::Name;
use crate::parts::{self, BYTES, LARGE, LIST, MOST_BYTES, Part, Parts};
use crate::place::bucket::Upload;
use crate::place::folder::Staged;
use crate::place::{Place, PlaceError, Reader, committed, settled, written};
use crate::plan::Item;
use crate::stop::Stop;

/// Where the parts go.
#[derive(Debug)]
enum Sink {
    File {
        staged: Staged,
        /// Under a name that a later try looks for.
        kept: bool,
    },
    Object {
        upload: Upload,
        /// Begun by an earlier try.
        resumed: bool,
        part: Vec<u8>,
    },
    /// An earlier try brought it to its end, and nobody has read it yet.
    There,
}

/// Why an attempt ended.
enum Trouble {
    /// What the document tells of is not there any more.
    Lost,
    Copy(CopyError),
}

impl From<CopyError> for Trouble {
    fn from(error: CopyError) -> Self {
        Self::Copy(error)
    }
}

/// Copies it, and says how many bytes an earlier try had copied.
pub async fn copy(ground: &Ground, item: &Item, number: usize) -> Result<(Record, u64), CopyError> {
    match attempt(ground, item, number).await {
        Ok(copied) => Ok(copied),
        Err(Trouble::Copy(error)) => Err(error),
        // From its beginning: the document is gone.
        Err(Trouble::Lost) => match attempt(ground, item, number).await {
            Ok(copied) => Ok(copied),
            Err(Trouble::Copy(error)) => Err(error),
            Err(Trouble::Lost) => Err(CopyError::Write(PlaceError::Absent)),
        },
    }
}

async fn attempt(ground: &Ground, item: &Item, number: usize) -> Result<(Record, u64), Trouble> {
    let list = ground.partial(item, LIST)?;
    let mut known = known(ground, &list, item).await?;
    let sink = open(ground, item, number, &mut known).await?;
    let kept = known.bytes();
    let digests = known.done.iter().map(|part| part.digest).collect();
    let now = Instant::now();
    let under_way = UnderWay { ground, item, list, known, digests, sink, began: now, noted: now };
    under_way.carry_out(kept).await.map(|record| (record, kept))
}

/// What an earlier try wrote down. A document that is damaged, or of something else, costs what it told of.
async fn known(ground: &Ground, list: &Name, item: &Item) -> Result<Parts, CopyError> {
    let none = Parts::none(&item.target, &item.entry.seen);
    let bytes = match ground.to.whole(list, MOST_BYTES).await {
        Ok(bytes) => bytes,
        Err(PlaceError::Absent | PlaceError::Large { .. }) => return Ok(none),
        Err(error) => return Err(write_error(error)),
    };
    let same =
        |found: &Parts| (&found.name, &found.source, found.part) == (&none.name, &none.source, none.part);
    Ok(Parts::read(&bytes).ok().filter(same).unwrap_or(none))
}

/// Opens the target, and leaves in `known` what is there.
async fn open(ground: &Ground, item: &Item, number: usize, known: &mut Parts) -> Result<Sink, CopyError> {
    match &ground.to {
        Place::Folder(folder) => {
            let at = ground.partial(item, BYTES)?;
            let resumed = ground.to.resume(&at).await.map_err(write_error)?;
            let kept = resumed.is_some();
            let mut staged = match resumed {
                Some(staged) => staged,
                None => {
                    let (folder, temporary) = (folder.clone(), ground.temporary(number)?);
                    let staged = tokio::task::spawn_blocking(move || folder.stage(&temporary)).await;
                    known.done.clear();
                    staged.map_err(|_| CopyError::Stopped)?.map_err(write_error)?
                }
            };
            let good = match proven(&staged, known, &ground.stop).await {
                Ok(good) => good,
                Err(error) => {
                    leave(staged, kept);
                    return Err(error);
                }
            };
            known.done.truncate(good);
            staged.cut(known.bytes()).map_err(write_error)?;
            Ok(Sink::File { staged, kept })
        }
        Place::Bucket(bucket) => {
            let size = item.entry.seen.size;
            let tags: Option<Vec<String>> = known.done.iter().map(|part| part.tag.clone()).collect();
            if let (Some(id), Some(tags)) = (known.upload.clone(), tags) {
                if known.bytes() == size {
                    let there = ground.to.look(&item.target).await.map_err(write_error)?;
                    if there.is_some_and(|there| there.size == size) {
                        return Ok(Sink::There);
                    }
                }
                let upload = bucket.resume(&item.target, &id, tags).map_err(write_error)?;
                if upload.is_there().await.map_err(write_error)? {
                    return Ok(Sink::Object { upload, resumed: true, part: Vec::new() });
                }
            }
            known.done.clear();
            let upload = bucket.begin(&item.target).await.map_err(write_error)?;
            known.upload = Some(upload.id().to_owned());
            Ok(Sink::Object { upload, resumed: false, part: Vec::new() })
        }
        Place::Web(_) => Err(CopyError::Write(PlaceError::InTheWay("folder"))),
    }
}

fn leave(staged: Staged, kept: bool) {
    if kept {
        staged.keep();
    }
}

/// How many of the parts that are told of stand in the file.
async fn proven(staged: &Staged, known: &Parts, stop: &Stop) -> Result<usize, CopyError> {
    if known.done.is_empty() {
        return Ok(0);
    }
    let mut reader = Reader::File(staged.read_back().map_err(write_error)?);
    let mut tally = Tally::new(known.part);
    let mut good = 0;
    let wanted = |good: usize| known.done.get(good).map(|part| part.digest);
    while good < known.done.len() {
        match next(&mut reader, stop).await {
            Ok(Some(bytes)) => {
                for digest in tally.add(bytes) {
                    if wanted(good) != Some(digest) {
                        return Ok(good);
                    }
                    good += 1;
                }
            }
            Ok(None) => {
                // The last part is shorter than the others.
                if tally.end().is_some_and(|digest| wanted(good) == Some(digest)) {
                    good += 1;
                }
                return Ok(good);
            }
            Err(PlaceError::Stopped) => return Err(CopyError::Stopped),
            // What cannot be read is not there; writing it tells whether the place is broken.
            Err(_) => return Ok(good),
        }
    }
    Ok(good)
}

/// Digests of the parts of what comes.
struct Tally {
    size: u64,
    filled: u64,
    context: Context,
}

impl Tally {
    fn new(size: u64) -> Self {
        Self { size, filled: 0, context: Context::new(&SHA256) }
    }

    /// As much of these bytes as the part under way has room for.
    fn piece(&self, bytes: &mut Bytes) -> Bytes {
        let room = usize::try_from(self.size - self.filled).unwrap_or(usize::MAX);
        bytes.split_to(room.min(bytes.len()))
    }

    /// Takes what [`Self::piece`] gave; the digest where that ended the part.
    fn take(&mut self, piece: &[u8]) -> Option<Digest> {
        self.context.update(piece);
        self.filled += piece.len() as u64;
        if self.filled < self.size { None } else { self.end() }
    }

    fn add(&mut self, mut bytes: Bytes) -> Vec<Digest> {
        let mut digests = Vec::new();
        while !bytes.is_empty() {
            let piece = self.piece(&mut bytes);
            digests.extend(self.take(&piece));
        }
        digests
    }

    /// The digest of a part that ends here, where one is under way.
    fn end(&mut self) -> Option<Digest> {
        let context = std::mem::replace(&mut self.context, Context::new(&SHA256));
        (std::mem::take(&mut self.filled) > 0).then(|| finish(context))
    }
}

struct UnderWay<'a> {
    ground: &'a Ground,
    item: &'a Item,
    list: Name,
    known: Parts,
    /// Of the parts that were sent.
    digests: Vec<Digest>,
    sink: Sink,
    began: Instant,
    noted: Instant,
}

impl UnderWay<'_> {
    async fn carry_out(mut self, from: u64) -> Result<Record, Trouble> {
        if matches!(self.sink, Sink::There) {
            return match self.read_back(None).await? {
                Some(record) => Ok(record),
                None => self.lost().await,
            };
        }
        let sent = match self.send(from).await {
            Ok(()) => self.ground.unchanged(self.item).await,
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            return self.left(error).await;
        }
        self.finished().await
    }

    /// Everything of the source from this byte on.
    async fn send(&mut self, from: u64) -> Result<(), CopyError> {
        let (ground, item) = (self.ground, self.item);
        let size = item.entry.seen.size;
        if from >= size {
            return Ok(());
        }
        let (seen, mut reader) = ground.from.read_from(&item.entry.name, from).await.map_err(read_error)?;
        if seen != item.entry.seen {
            return Err(CopyError::Changed);
        }
        let mut tally = Tally::new(self.known.part);
        let mut count = from;
        while let Some(mut bytes) = next(&mut reader, &ground.stop).await.map_err(read_error)? {
            count = count.saturating_add(bytes.len() as u64);
            if count > size {
                return Err(CopyError::Changed);
            }
            while !bytes.is_empty() {
                let piece = tally.piece(&mut bytes);
                let ended = tally.take(&piece);
                self.write(piece).await?;
                if let Some(digest) = ended {
                    self.part(digest).await?;
                }
            }
        }
        if count != size {
            return Err(CopyError::Changed);
        }
        match tally.end() {
            Some(digest) => self.part(digest).await,
            None => Ok(()),
        }
    }

    async fn write(&mut self, piece: Bytes) -> Result<(), CopyError> {
        match std::mem::replace(&mut self.sink, Sink::There) {
            Sink::File { staged, kept } => match written(staged, piece).await {
                Ok(staged) => self.sink = Sink::File { staged, kept },
                Err((staged, error)) => {
                    if let Some(staged) = staged {
                        self.sink = Sink::File { staged, kept };
                    }
                    return Err(write_error(error));
                }
            },
            Sink::Object { upload, resumed, mut part } => {
                if part.is_empty() {
                    part.reserve_exact(usize::try_from(self.known.part).unwrap_or(0));
                }
                part.extend_from_slice(&piece);
                self.sink = Sink::Object { upload, resumed, part };
            }
            Sink::There => return Err(CopyError::Stopped),
        }
        Ok(())
    }

    /// A part is whole.
    async fn part(&mut self, digest: Digest) -> Result<(), CopyError> {
        self.digests.push(digest);
        if let Sink::Object { upload, part, .. } = &mut self.sink {
            upload.send(std::mem::take(part)).await.map_err(write_error)?;
        }
        // Of a task of any length there are some fifty documents, as with the journal.
        let due = self.ground.interval.max(self.began.elapsed() / 50);
        if self.noted.elapsed() >= due {
            self.note().await;
        }
        Ok(())
    }

    /// Whether a later try can go on with what is there.
    fn is_kept(&self) -> bool {
        matches!(self.sink, Sink::File { kept: true, .. } | Sink::Object { .. })
    }

    /// Writes down how far it is. Where that cannot be, only the next try's work is the more.
    async fn note(&mut self) {
        self.noted = Instant::now();
        let tag = |number: usize| match &self.sink {
            Sink::Object { upload, .. } => upload.tag(number).map(|tag| Some(tag.to_owned())),
            Sink::File { .. } | Sink::There => Some(None),
        };
        let parts = self.digests.iter().enumerate();
        let done = parts.map_while(|(number, digest)| Some(Part { digest: *digest, tag: tag(number)? }));
        self.known.done = done.collect();
        if self.known.done.is_empty() || !self.is_kept() {
            return;
        }
        let Ok(temporary) = self.ground.partial(self.item, b".new") else { return };
        let _ = self.ground.to.put(&self.list, &temporary, self.known.written()).await;
    }

    /// The way out where it does not go on: what may be gone on with stays, and what is wrong goes.
    async fn left(mut self, error: CopyError) -> Result<Record, Trouble> {
        let absent = matches!(error, CopyError::Write(PlaceError::Absent));
        if absent && matches!(self.sink, Sink::Object { resumed: true, .. }) {
            return self.lost().await;
        }
        if error != CopyError::Changed {
            self.note().await;
        }
        let goes = error == CopyError::Changed || self.known.done.is_empty();
        match self.sink {
            Sink::File { staged, kept } => leave(staged, kept && !goes),
            Sink::Object { upload, .. } if goes => upload.abort().await,
            Sink::Object { .. } | Sink::There => {}
        }
        if goes {
            // What is left of it is taken for none.
            let _ = self.ground.to.remove(&self.list).await;
        }
        Err(error.into())
    }

    async fn lost(self) -> Result<Record, Trouble> {
        if let Sink::Object { upload, .. } = self.sink {
            upload.abort().await;
        }
        self.ground.to.remove(&self.list).await.map_err(write_error)?;
        Err(Trouble::Lost)
    }

    /// All was sent: brings it to the disk or store, and reads it back.
    async fn finished(mut self) -> Result<Record, Trouble> {
        match std::mem::replace(&mut self.sink, Sink::There) {
            Sink::File { staged, kept } => {
                let staged = settled(staged).await.map_err(write_error)?;
                match self.read_back(Some(&staged)).await {
                    Ok(Some(record)) => {
                        let (target, modified) = (&self.item.target, self.item.entry.seen.modified);
                        committed(staged, target, modified).await.map_err(write_error)?;
                        self.ground.to.remove(&self.list).await.map_err(write_error)?;
                        Ok(record)
                    }
                    Ok(None) => {
                        drop(staged);
                        self.ground.to.remove(&self.list).await.map_err(write_error)?;
                        Err(CopyError::Altered.into())
                    }
                    Err(error) => {
                        self.sink = Sink::File { staged, kept };
                        self.left(error).await
                    }
                }
            }
            Sink::Object { mut upload, resumed, part } => {
                let settled = upload.settle().await;
                self.sink = Sink::Object { upload, resumed, part };
                if let Err(error) = settled {
                    return self.left(write_error(error)).await;
                }
                if self.noted > self.began || resumed {
                    self.note().await;
                }
                if let Sink::Object { upload, .. } = &mut self.sink
                    && let Err(error) = upload.finish().await
                {
                    return self.left(write_error(error)).await;
                }
                self.sink = Sink::There;
                match self.read_back(None).await {
                    Ok(Some(record)) => {
                        self.ground.to.remove(&self.list).await.map_err(write_error)?;
                        Ok(record)
                    }
                    Ok(None) => {
                        self.ground.to.remove(&self.item.target).await.map_err(write_error)?;
                        self.ground.to.remove(&self.list).await.map_err(write_error)?;
                        Err(CopyError::Altered.into())
                    }
                    // It is whole as far as the store says, but nobody has seen it: the next try reads it.
                    Err(error) => Err(error.into()),
                }
            }
            Sink::There => Err(CopyError::Stopped.into()),
        }
    }

    /// Reads all of it and compares part by part; none where it is not what the source gave.
    async fn read_back(&self, staged: Option<&Staged>) -> Result<Option<Record>, CopyError> {
        let item = self.item;
        let mut reader = match staged {
            Some(staged) => Reader::File(staged.read_back().map_err(write_error)?),
            None => self.ground.to.read(&item.target).await.map_err(write_error)?.1,
        };
        let (mut whole, mut tally) = (Context::new(&SHA256), Tally::new(self.known.part));
        let mut wanted = self.digests.iter();
        while let Some(bytes) = next(&mut reader, &self.ground.stop).await.map_err(write_error)? {
            whole.update(&bytes);
            if tally.add(bytes).iter().any(|digest| wanted.next() != Some(digest)) {
                return Ok(None);
            }
        }
        if tally.end().is_some_and(|digest| wanted.next() != Some(&digest)) || wanted.next().is_some() {
            return Ok(None);
        }
        let (name, source) = (item.target.clone(), item.entry.seen.clone());
        Ok(Some(Record { name, source, digest: finish(whole) }))
    }
}

/// Removes what earlier tries left of files that are not to be copied any more, or are other files now.
pub async fn clear(ground: &Ground, left: &[Name], items: &[Item]) -> Result<(), PlaceError> {
    let large = items.iter().filter(|item| item.entry.seen.size > LARGE && item.record.is_none());
    let wanted: HashSet<String> = large.map(|item| parts::stem(&item.target, &item.entry.seen)).collect();
    let stale = |name: &&Name| parts::stem_of(name).is_none_or(|stem| !wanted.contains(&stem));
    for name in left.iter().filter(stale) {
        if name.bytes().ends_with(BYTES) {
            // Dropped, it leaves nothing behind. Another worker's stays.
            drop(ground.to.resume(name).await?);
            continue;
        }
        if let Place::Bucket(bucket) = &ground.to
            && let Ok(bytes) = ground.to.whole(name, MOST_BYTES).await
            && let Ok(Parts { name: target, upload: Some(id), .. }) = Parts::read(&bytes)
        {
            bucket.resume(&target, &id, Vec::new())?.abort().await;
        }
        ground.to.remove(name).await?;
    }
    Ok(())
}
