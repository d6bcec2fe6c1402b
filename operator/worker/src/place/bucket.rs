//! A bucket, or a folder in one, of whatever speaks S3.
//!
//! Asking, signing and asking again is object_store's; here are the limits it works in, and names. An object is
//! visible when it is whole and not before. What an interrupted upload of parts leaves is invisible: it is taken
//! back where that is still possible, and is the bucket's lifecycle rule to remove where not.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload,
    RetryConfig, WriteMultipart,
};

use super::error::PlaceError;
use super::folder::MOST;
use crate::entry::{Entry, Listing, Seen};
use crate::name::Name;
use crate::options::Settings;

/// Objects up to this size go in one request; S3 takes parts from 5 MiB on.
pub const PART: u64 = 8 << 20;

/// S3 takes 10,000 parts.
const MOST_PARTS: u64 = 9_000;

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

/// Bytes of memory that an object of this size takes on its way.
pub fn memory(size: u64) -> u64 {
    if size <= PART { size } else { part(size) * (UNDER_WAY as u64 + 1) }
}

fn part(size: u64) -> u64 {
    size.div_ceil(MOST_PARTS).max(PART)
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
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(20),
            base: 2.0,
        };
        let retry = RetryConfig { backoff, max_retries: patience.retries, retry_timeout: RETRY_TIME };
        let client = ClientOptions::new()
            .with_allow_http(plain)
            .with_connect_timeout(CONNECT_TIME)
            .with_read_timeout(patience.silence)
            .with_timeout_disabled();
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
    pub async fn read(&self, name: &Name) -> Result<(Seen, Arriving), PlaceError> {
        let answer = self.store.get_opts(&self.key(name)?, GetOptions::default()).await?;
        Ok((seen(&answer.meta), answer.into_stream()))
    }

    pub async fn whole(&self, name: &Name, most: u64) -> Result<Vec<u8>, PlaceError> {
        let (seen, mut arriving) = self.read(name).await?;
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

    pub async fn begin(&self, name: &Name, size: u64) -> Result<Sending, PlaceError> {
        let key = self.key(name)?;
        if size <= PART {
            let bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
            return Ok(Sending { bucket: self.clone(), key, way: Way::Whole(bytes) });
        }
        let upload = self.store.put_multipart(&key).await?;
        let part = usize::try_from(part(size)).unwrap_or(usize::MAX);
        let parts = WriteMultipart::new_with_chunk_size(upload, part);
        Ok(Sending { bucket: self.clone(), key, way: Way::Parts(parts) })
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

fn seen(meta: &ObjectMeta) -> Seen {
    // Lists know milliseconds, answers seconds: one object must look the same in both.
    let modified = meta.last_modified.timestamp().saturating_mul(1_000_000_000);
    // Some lists leave out the quotes that answers have.
    let tag = meta.e_tag.as_deref().map(|tag| tag.trim_matches('"').to_owned()).filter(|tag| !tag.is_empty());
    Seen { size: meta.size, modified, tag }
}

pub type Arriving = BoxStream<'static, object_store::Result<Bytes>>;

/// An object on its way to the store.
#[derive(Debug)]
pub struct Sending {
    bucket: Bucket,
    key: Path,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Whole(Vec<u8>),
    Parts(WriteMultipart),
}

impl Sending {
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), PlaceError> {
        match &mut self.way {
            Way::Whole(whole) => {
                whole.extend_from_slice(&bytes);
                // A source that grew is found out when it is counted; memory is not its to take.
                if whole.len() as u64 > PART { Err(PlaceError::Changed) } else { Ok(()) }
            }
            Way::Parts(parts) => {
                parts.wait_for_capacity(UNDER_WAY).await?;
                parts.put(bytes);
                Ok(())
            }
        }
    }

    pub async fn finish(self) -> Result<(), PlaceError> {
        match self.way {
            Way::Whole(whole) => {
                self.bucket.store.put(&self.key, PutPayload::from(whole)).await?;
            }
            Way::Parts(parts) => {
                parts.finish().await?;
            }
        }
        Ok(())
    }

    /// Takes back what was sent.
    pub async fn abort(self) {
        if let Way::Parts(parts) = self.way {
            // Parts that stay are the lifecycle rule's.
            let _ = parts.abort().await;
        }
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
    fn parts_fit_into_what_s3_takes() {
        for size in [PART + 1, 100 << 30, 5 << 40] {
            assert!(size.div_ceil(part(size)) <= 10_000, "{size}");
        }
        assert_eq!((memory(0), memory(5), memory(PART + 1)), (0, 5, 2 * PART));
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
