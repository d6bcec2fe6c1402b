//! One file of a web server, to read from.
//!
//! Plain HTTP has no folders, so a URL names one file. Asking, redirects and asking again are object_store's; at most
//! ten redirects are followed, and none from https to http. A server has to say by ETag or Last-Modified which
//! content it gives, or nobody could tell whether it changed under the copy.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::ready;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::http::{HttpBuilder, HttpStore};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};

use super::bucket::{Patience, seen};
use super::error::PlaceError;
use crate::entry::{Entry, Listing, Seen};
use crate::name::Name;

type Arriving = BoxStream<'static, object_store::Result<Bytes>>;

#[derive(Clone, Debug)]
pub struct Web {
    store: Arc<HttpStore>,
    file: Name,
}

impl Web {
    /// `server` is scheme, host and port.
    pub fn open(server: &str, file: &Name, patience: Patience) -> Result<Self, PlaceError> {
        // Who writes http:// means it; https:// stays what it is, also behind redirects.
        let (retry, client) = patience.limits(server.starts_with("http://"));
        let builder = HttpBuilder::new().with_url(server).with_retry(retry).with_client_options(client);
        Ok(Self { store: Arc::new(builder.build()?), file: file.clone() })
    }

    pub async fn list(&self) -> Result<Listing, PlaceError> {
        let seen = self.look(&self.file).await?.ok_or(PlaceError::Absent)?;
        let entries = vec![Entry { name: self.file.clone(), seen }];
        Ok(Listing { entries, ..Listing::default() })
    }

    pub async fn look(&self, name: &Name) -> Result<Option<Seen>, PlaceError> {
        match self.store.head(&location(name)?).await {
            Ok(meta) => told(seen(&meta)).map(Some),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// One content of the file, from this byte on. A server that gives no part of a file gives all of it, and what
    /// was asked for is taken out.
    pub async fn read(&self, name: &Name, from: u64) -> Result<(Seen, Arriving), PlaceError> {
        let location = location(name)?;
        let ask = async |range| {
            let options = GetOptions { range, ..GetOptions::default() };
            self.store.get_opts(&location, options).await
        };
        let part = ask((from > 0).then_some(GetRange::Offset(from))).await;
        let (answer, skip) = match part {
            Err(object_store::Error::NotSupported { .. }) => (ask(None).await?, from),
            part => (part?, 0),
        };
        let seen = told(seen(&answer.meta))?;
        Ok((seen, behind(answer.into_stream(), skip)))
    }
}

/// Without its first bytes.
fn behind(arriving: Arriving, bytes: u64) -> Arriving {
    if bytes == 0 {
        return arriving;
    }
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    let rest = arriving.map_ok(move |mut bytes| {
        let skipped = left.min(bytes.len());
        left -= skipped;
        bytes.split_off(skipped)
    });
    rest.try_filter(|bytes| ready(!bytes.is_empty())).boxed()
}

fn location(name: &Name) -> Result<Path, PlaceError> {
    let text = name.utf8().ok_or_else(|| PlaceError::Name("the path of a URL is UTF-8".into()))?;
    Path::parse(text).map_err(|_| PlaceError::Name("it holds a control character".into()))
}

fn told(seen: Seen) -> Result<Seen, PlaceError> {
    // object_store's word for a server that says no time.
    if seen.tag.is_none() && seen.modified == 0 { Err(PlaceError::Untold) } else { Ok(seen) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_not_asked_for_is_taken_out() {
        for from in 0..=6 {
            let parts = ["ab", "", "cd", "ef"].map(|part| Ok(Bytes::from_static(part.as_bytes())));
            let rest: Vec<Bytes> =
                behind(futures::stream::iter(parts).boxed(), from).try_collect().await.unwrap();
            assert_eq!(rest.concat(), &b"abcdef"[from as usize..], "{from}");
        }
    }
}
