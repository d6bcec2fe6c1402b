//! A bucket, or a folder in one, of whatever speaks S3.
//!
//! Asking, signing and asking again is object_store's; here are the limits it works in, and names. An object is
//! visible when it is whole and not before. What an interrupted upload of parts leaves is invisible: the next try
//! goes on with it, and what no try came for is the bucket's lifecycle rule to remove.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, MultipartId, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutPayload, RetryConfig,
};
use tokio::task::JoinSet;

use super::error::PlaceError;
use super::folder::MOST;
use crate::entry::{Entry, Listing, Seen};
use crate::name::Name;
use crate::options::Settings;
use crate::parts::{LARGE, part};

/// Parts of one object on their way at once, while the next fills.
const UNDER_WAY: usize = 1;

/// Seven tries from 0.2 s on last about a minute: a restart of the store is outlasted, an outage is told while the
/// operation may still be tried again.
const RETRIES: usize = 6;
const RETRY_TIME: Duration = Duration::from_secs(120);
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Without a byte for so long, an answer is taken for lost.
const SILENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct Bucket {
    store: Arc<AmazonS3>,
    prefix: Option<Name>,
}

/// How fast the store's limits are reached; tests are in more of a hurry.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub retries: usize,
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { retries: RETRIES, silence: SILENCE }
    }
}

impl Patience {
    /// How often and how long a server is asked; `plain` lets it be asked without TLS.
    pub fn limits(self, plain: bool) -> (RetryConfig, ClientOptions) {
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(20),
            base: 2.0,
        };
        let retry = RetryConfig { backoff, max_retries: self.retries, retry_timeout: RETRY_TIME };
        let client = ClientOptions::new()
            .with_allow_http(plain)
            .with_connect_timeout(CONNECT_TIME)
            .with_read_timeout(self.silence)
            .with_timeout_disabled();
        (retry, client)
    }
}

/// Bytes of memory that an object of this size takes on its way.
pub fn memory(size: u64) -> u64 {
    if size <= LARGE { size } else { part(size) * (UNDER_WAY as u64 + 1) }
}

impl Bucket {
    pub fn open(
        bucket: &str,
        prefix: Option<&Name>,
        settings: &Settings,
        patience: Patience,
    ) -> Result<Self, PlaceError> {
        let Settings { access_key, secret_key, token, region, endpoint, virtual_hosted, anonymous } =
            settings;
        // The surroundings' keys and a Secret's are never mixed.
        let given = access_key.is_some() || *anonymous;
        let mut builder = if given { AmazonS3Builder::new() } else { AmazonS3Builder::from_env() };
        builder = builder.with_bucket_name(bucket).with_virtual_hosted_style_request(*virtual_hosted);
        if let (Some(id), Some(secret)) = (access_key, secret_key) {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        }
        if let Some(token) = token {
            builder = builder.with_token(token);
        }
        if let Some(region) = region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        // Who writes http:// means it, here or in the surroundings; keys are never sent, only signatures.
        let plain = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
        let plain = plain.is_some_and(|endpoint| endpoint.starts_with("http://"));
        let (retry, client) = patience.limits(plain);
        let store =
            builder.with_skip_signature(*anonymous).with_retry(retry).with_client_options(client).build()?;
        if let Some(prefix) = prefix {
            key(None, prefix)?;
        }
        Ok(Self { store: Arc::new(store), prefix: prefix.cloned() })
    }

    fn key(&self, name: &Name) -> Result<Path, PlaceError> {
        key(self.prefix.as_ref(), name)
    }

    fn name(&self, location: &Path) -> Result<Option<Name>, crate::name::NameError> {
        let key = location.as_ref().as_bytes();
        let rest = match &self.prefix {
            None => key,
            Some(prefix) => match key.strip_prefix(prefix.bytes()) {
                // The mark of the folder itself.
                Some(b"") => return Ok(None),
                Some(rest) => rest.strip_prefix(b"/").unwrap_or(rest),
                None => key,
            },
        };
        if rest.is_empty() { Ok(None) } else { Name::parse(rest).map(Some) }
    }

    /// All objects of it, or below `only`, or that object.
    pub async fn list(&self, only: Option<&Name>) -> Result<Listing, PlaceError> {
        let mut listing = Listing::default();
        let folder = match (&self.prefix, only) {
            (None, None) => None,
            (Some(prefix), None) => Some(key(None, prefix)?),
            (_, Some(only)) => Some(self.key(only)?),
        };
        let mut found = self.store.list(folder.as_ref());
        while let Some(meta) = found.try_next().await? {
            match self.name(&meta.location) {
                Ok(None) => listing.left_out += 1,
                Ok(Some(name)) => listing.entries.push(Entry { name, seen: seen(&meta) }),
                Err(why) => listing.refuse(meta.location.as_ref().as_bytes(), &why),
            }
            if listing.entries.len() > MOST {
                return Err(PlaceError::Large { found: listing.entries.len() as u64, most: MOST as u64 });
            }
        }
        // Marks of folders are empty objects; where there are files below, they say nothing.
        let folders: HashSet<Name> = listing.entries.iter().filter_map(|entry| entry.name.folder()).collect();
        let before = listing.entries.len();
        listing.entries.retain(|entry| entry.seen.size > 0 || !folders.contains(&entry.name));
        listing.left_out += (before - listing.entries.len()) as u64;
        if let (Some(only), true) = (only, listing.entries.is_empty())
            && let Some(seen) = self.look(only).await?
        {
            listing.entries.push(Entry { name: only.clone(), seen });
        }
        Ok(listing)
    }

    /// Whether a name is no object, but the mark of an empty folder (`name/`).
    pub async fn is_mark(&self, name: &Name) -> Result<bool, PlaceError> {
        let key = self.key(name)?;
        let mut found = self.store.list(Some(&key));
        Ok(found.try_next().await?.is_some_and(|meta| meta.location == key && meta.size == 0))
    }

    pub async fn look(&self, name: &Name) -> Result<Option<Seen>, PlaceError> {
        match self.store.head(&self.key(name)?).await {
            Ok(meta) => Ok(Some(seen(&meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// One content of the object: where a connection breaks, the rest is asked for under the same ETag.
    pub async fn read(&self, name: &Name, from: u64) -> Result<(Seen, Arriving), PlaceError> {
        let range = (from > 0).then_some(GetRange::Offset(from));
        let options = GetOptions { range, ..GetOptions::default() };
        let answer = self.store.get_opts(&self.key(name)?, options).await?;
        Ok((seen(&answer.meta), answer.into_stream()))
    }

    pub async fn whole(&self, name: &Name, most: u64) -> Result<Vec<u8>, PlaceError> {
        let (seen, mut arriving) = self.read(name, 0).await?;
        let too_large = |found| PlaceError::Large { found, most };
        if seen.size > most {
            return Err(too_large(seen.size));
        }
        let mut whole = Vec::new();
        while let Some(bytes) = arriving.next().await.transpose()? {
            whole.extend_from_slice(&bytes);
            if whole.len() as u64 > most {
                return Err(too_large(whole.len() as u64));
            }
        }
        Ok(whole)
    }

    pub async fn put(&self, name: &Name, bytes: Vec<u8>) -> Result<(), PlaceError> {
        self.store.put(&self.key(name)?, PutPayload::from(bytes)).await?;
        Ok(())
    }

    pub async fn begin(&self, name: &Name) -> Result<Upload, PlaceError> {
        let key = self.key(name)?;
        let id = self.store.create_multipart(&key).await?;
        Ok(Upload { bucket: self.clone(), key, id, under_way: JoinSet::new(), tags: Vec::new() })
    }

    /// Goes on with an upload that an earlier try began, of which the store has these parts. Nobody is asked.
    pub fn resume(&self, name: &Name, id: &str, tags: Vec<String>) -> Result<Upload, PlaceError> {
        let tags = tags.into_iter().map(Some).collect();
        let (bucket, key) = (self.clone(), self.key(name)?);
        Ok(Upload { bucket, key, id: id.to_owned(), under_way: JoinSet::new(), tags })
    }

    pub async fn remove(&self, name: &Name) -> Result<(), PlaceError> {
        match self.store.delete(&self.key(name)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn key(prefix: Option<&Name>, name: &Name) -> Result<Path, PlaceError> {
    let full = prefix.map_or_else(|| name.clone(), |prefix| prefix.below(name));
    let text =
        full.utf8().ok_or_else(|| PlaceError::Name("keys of objects are UTF-8, and it is not".into()))?;
    if text.len() > 1024 {
        return Err(PlaceError::Name("keys of objects have at most 1,024 bytes".into()));
    }
    Path::parse(text).map_err(|_| PlaceError::Name("it holds a control character".into()))
}

pub fn seen(meta: &ObjectMeta) -> Seen {
    // Lists know milliseconds, answers seconds: one object must look the same in both.
    let modified = meta.last_modified.timestamp().saturating_mul(1_000_000_000);
    // Some lists leave out the quotes that answers have.
    let tag = meta.e_tag.as_deref().map(|tag| tag.trim_matches('"').to_owned()).filter(|tag| !tag.is_empty());
    Seen { size: meta.size, modified, tag }
}

pub type Arriving = BoxStream<'static, object_store::Result<Bytes>>;

/// A large object on its way to the store, part by part. Its parts outlive this process, and its name is the next
/// try's to go on with.
#[derive(Debug)]
pub struct Upload {
    bucket: Bucket,
    key: Path,
    id: MultipartId,
    /// Ended with it.
    under_way: JoinSet<(usize, object_store::Result<PartId>)>,
    /// The store's marks of the parts that it has.
    tags: Vec<Option<String>>,
}

impl Upload {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The mark of a part that the store has.
    pub fn tag(&self, part: usize) -> Option<&str> {
        self.tags.get(part)?.as_deref()
    }

    /// Whether the store still knows it. A large part would tell too, but a store that refuses it closes the connection
    /// before it has come, and that looks like any other broken one. So the next part is sent as one byte: the real
    /// one takes its place.
    pub async fn is_there(&self) -> Result<bool, PlaceError> {
        let byte = PutPayload::from_static(b"?");
        match self.bucket.store.put_part(&self.key, &self.id, self.tags.len(), byte).await {
            Ok(_) => Ok(true),
            Err(error) => match PlaceError::from(error) {
                PlaceError::Absent => Ok(false),
                other => Err(other),
            },
        }
    }

    /// Begins to send the next part. At most [`UNDER_WAY`] are on their way when it returns.
    pub async fn send(&mut self, part: Vec<u8>) -> Result<(), PlaceError> {
        while self.under_way.len() >= UNDER_WAY {
            self.settle_one().await?;
        }
        let number = self.tags.len();
        self.tags.push(None);
        let (store, key, id) = (self.bucket.store.clone(), self.key.clone(), self.id.clone());
        self.under_way
            .spawn(async move { (number, store.put_part(&key, &id, number, PutPayload::from(part)).await) });
        Ok(())
    }

    /// Waits for all that was sent.
    pub async fn settle(&mut self) -> Result<(), PlaceError> {
        while !self.under_way.is_empty() {
            self.settle_one().await?;
        }
        Ok(())
    }

    async fn settle_one(&mut self) -> Result<(), PlaceError> {
        let Some(ended) = self.under_way.join_next().await else { return Ok(()) };
        // It is ended early only with the runtime.
        let (number, sent) = ended.map_err(|_| PlaceError::Stopped)?;
        let sent = sent?;
        if let Some(tag) = self.tags.get_mut(number) {
            *tag = Some(sent.content_id);
        }
        Ok(())
    }

    /// Makes it visible.
    pub async fn finish(&mut self) -> Result<(), PlaceError> {
        self.settle().await?;
        let parts: Option<Vec<PartId>> =
            self.tags.iter().map(|tag| tag.clone().map(|content_id| PartId { content_id })).collect();
        let parts = parts.ok_or(PlaceError::Stopped)?;
        self.bucket.store.complete_multipart(&self.key, &self.id, parts).await?;
        Ok(())
    }

    /// Takes back what was sent.
    pub async fn abort(self) {
        let Self { bucket, key, id, under_way, .. } = self;
        drop(under_way);
        // Parts that stay are the lifecycle rule's.
        let _ = bucket.store.abort_multipart(&key, &id).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &[u8]) -> Name {
        Name::parse(text).unwrap()
    }

    fn bucket(prefix: Option<&str>) -> Bucket {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let settings = Settings { anonymous: true, ..Settings::default() };
        let prefix = prefix.map(|prefix| name(prefix.as_bytes()));
        Bucket::open("b", prefix.as_ref(), &settings, Patience::default()).unwrap()
    }

    #[test]
    fn memory_is_that_of_parts_on_their_way() {
        assert_eq!((memory(0), memory(5)), (0, 5));
        assert_eq!(memory(LARGE + 1), (UNDER_WAY as u64 + 1) * LARGE);
    }

    #[test]
    fn names_are_keys_below_the_prefix_and_back() {
        let bucket = bucket(Some("a/b"));
        let key = bucket.key(&name(b"c d/%41")).unwrap();
        assert_eq!(key.as_ref(), "a/b/c d/%41");
        assert_eq!(bucket.name(&key), Ok(Some(name(b"c d/%41"))));
        assert_eq!(bucket.name(&Path::parse("a/b").unwrap()), Ok(None));
        for bad in [&b"new\nline"[..], b"\xff", &[b'x'; 1100]] {
            assert!(matches!(bucket.key(&name(bad)), Err(PlaceError::Name(_))));
        }
    }
}
