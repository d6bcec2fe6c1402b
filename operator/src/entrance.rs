//! Who is let in at a port: so many at a time, and of one address fewer.
//!
//! Whoever can reach a port can take all of its places by doing nothing. So who comes is accepted first, and let go of
//! again where its address has its share already: it stands in nobody's way, and others come in.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

/// Who is turned away is told of in the log this often at most.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The places of one port.
#[derive(Clone, Debug)]
pub struct Entrance(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The port, in words.
    port: &'static str,
    most: usize,
    from_one: usize,
    /// Whether the share holds for this machine's own addresses too.
    loopback: bool,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    all: usize,
    by: FxHashMap<IpAddr, usize>,
    turned_away: u64,
    told: Option<Instant>,
}

/// A place; free again when dropped.
#[derive(Debug)]
pub struct Place {
    shared: Arc<Shared>,
    from: IpAddr,
}

impl Entrance {
    /// `port` is its name in the log.
    pub fn new(port: &'static str, most: usize, from_one: usize) -> Self {
        Self(Arc::new(Shared { port, most, from_one, loopback: true, now: Mutex::default() }))
    }

    /// The same where any number may come from loopback: whoever is on this machine has other ways to be in the way.
    pub fn new_but_for_loopback(port: &'static str, most: usize, from_one: usize) -> Self {
        Self(Arc::new(Shared { port, most, from_one, loopback: false, now: Mutex::default() }))
    }

    /// A place for who comes from there; none where all are taken, or its share is.
    pub fn enter(&self, from: IpAddr) -> Option<Place> {
        let Shared { port, most, from_one, loopback, .. } = *self.0;
        // A socket of both families shows IPv4 within IPv6.
        let from = from.to_canonical();
        let mut now = self.0.lock();
        let own = now.by.get(&from).copied().unwrap_or(0);
        let shares = loopback || !from.is_loopback();
        if now.all < most && (own < from_one || !shares) {
            now.all += 1;
            now.by.insert(from, own + 1);
            return Some(Place { shared: self.0.clone(), from });
        }
        now.turned_away += 1;
        if now.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            let count = std::mem::take(&mut now.turned_away);
            now.told = Some(Instant::now());
            drop(now);
            tracing::warn!(
                "{count} connections to the {port} port were turned away since this was last said, the last from \
                 {from}, which has {own}: at most {most} are open, and {from_one} of one address; look at what runs there"
            );
        }
        None
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut now = self.shared.lock();
        now.all = now.all.saturating_sub(1);
        if let Some(count) = now.by.get_mut(&self.from) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                now.by.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_takes_its_share_and_all_together_no_more_than_there_are() {
        let entrance = Entrance::new("test", 3, 2);
        let first = entrance.enter(ip("10.0.0.1"));
        let _second = entrance.enter(ip("::ffff:10.0.0.1")).unwrap();
        assert!(first.is_some());
        assert!(entrance.enter(ip("10.0.0.1")).is_none());
        let _other = entrance.enter(ip("10.0.0.2")).unwrap();
        assert!(entrance.enter(ip("10.0.0.3")).is_none(), "there are three");
        drop(first);
        let again = entrance.enter(ip("10.0.0.1"));
        assert!(again.is_some());
        drop((again, _second, _other));
        let now = entrance.0.lock();
        assert!(now.all == 0 && now.by.is_empty(), "{now:?}");
    }

    #[test]
    fn loopback_has_no_share_where_that_is_said() {
        let entrance = Entrance::new_but_for_loopback("test", 3, 1);
        let all: Vec<_> = (0..3).map(|_| entrance.enter(ip("127.0.0.1")).unwrap()).collect();
        assert!(entrance.enter(ip("127.0.0.1")).is_none());
        drop(all);
        let _one = entrance.enter(ip("10.0.0.1")).unwrap();
        assert!(entrance.enter(ip("10.0.0.1")).is_none());
    }
}
