//! Who is let stay: so many connections at once, of one node a few, and of one address a share of the visits.
//!
//! Handshakes are bounded before this ([`super::accept`]). Afterwards one certificate, or one address without any, must
//! not take what all others need. Many nodes may stand behind one address: those with a certificate are told apart by it.

use std::collections::VecDeque;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Sleep, sleep};

use crate::entrance::{self, Entrance};
use crate::inventory::Name;

/// Connections with one node's certificate: an agent has one, and comes again while the operator has not noticed yet that
/// the former is dead. One more, and the oldest is ended: its agent has left it.
const OF_NODE: usize = 4;

/// Connections without a certificate at once, and how long one may stay: enrolling takes under a second.
const VISITORS: usize = 256;
const VISIT: Duration = Duration::from_secs(30);

/// Of these, from one address: four have to conspire to keep new nodes out, and of those behind a gateway some thousands
/// have enrolled within a minute or two. Loopback is exempt, as with handshakes.
const VISITORS_FROM_ONE: usize = 64;

#[derive(Debug)]
pub struct Places {
    all: Arc<Semaphore>,
    nodes: Arc<Mutex<Nodes>>,
    visitors: Entrance,
}

/// Each node's connections, the oldest first; one that is dropped ends its connection.
#[derive(Debug, Default)]
struct Nodes {
    by: FxHashMap<Name, VecDeque<(u64, oneshot::Sender<()>)>>,
    next: u64,
}

/// A connection's place; free again when dropped.
#[derive(Debug)]
pub enum Stay {
    Node { _place: OwnedSemaphorePermit, room: Room },
    Visitor { _place: entrance::Place, until: Pin<Box<Sleep>> },
}

/// One of a node's connections.
#[derive(Debug)]
pub struct Room {
    nodes: Arc<Mutex<Nodes>>,
    node: Name,
    number: u64,
    ended: oneshot::Receiver<()>,
    over: bool,
}

impl Places {
    /// So many connections with a certificate.
    pub fn new(connections: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(connections)),
            nodes: Arc::default(),
            visitors: Entrance::new_but_for_loopback("agents' enrolment", VISITORS, VISITORS_FROM_ONE),
        }
    }

    /// A place for a node's connection, or for a visitor's; none where all are taken.
    pub fn take(&self, node: Option<&Name>, from: IpAddr) -> Option<Stay> {
        let Some(node) = node else {
            let place = self.visitors.enter(from)?;
            return Some(Stay::Visitor { _place: place, until: Box::pin(sleep(VISIT)) });
        };
        let place = self.all.clone().try_acquire_owned().ok()?;
        let (ends, ended) = oneshot::channel();
        let mut nodes = lock(&self.nodes);
        nodes.next += 1;
        let number = nodes.next;
        let own = nodes.by.entry(node.clone()).or_default();
        own.push_back((number, ends));
        if own.len() > OF_NODE {
            own.pop_front();
            tracing::debug!("node {node} has more than {OF_NODE} connections, and its oldest is ended");
        }
        let room = Room { nodes: self.nodes.clone(), node: node.clone(), number, ended, over: false };
        Some(Stay::Node { _place: place, room })
    }
}

impl Stay {
    /// Ready when the connection is to end; wakes the task that asks when that changes.
    pub fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Visitor { until, .. } => until.as_mut().poll(cx),
            Self::Node { room, .. } => {
                room.over = room.over || Pin::new(&mut room.ended).poll(cx).is_ready();
                if room.over { Poll::Ready(()) } else { Poll::Pending }
            }
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut nodes = lock(&self.nodes);
        if let Some(own) = nodes.by.get_mut(&self.node) {
            own.retain(|(number, _)| *number != self.number);
            if own.is_empty() {
                nodes.by.remove(&self.node);
            }
        }
    }
}

fn lock(nodes: &Mutex<Nodes>) -> MutexGuard<'_, Nodes> {
    nodes.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::poll_fn;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_over(stay: &mut Stay) -> bool {
        poll_fn(|cx| stay.poll_over(cx)).now_or_never().is_some()
    }

    #[test]
    fn one_certificate_has_a_few_connections_and_the_newest_stay() {
        let (places, nat) = (Places::new(2 * OF_NODE), ip("10.0.0.1"));
        let mut own: Vec<Stay> =
            (0..2 * OF_NODE).map(|_| places.take(Some(&"n1".into()), nat).unwrap()).collect();
        assert!(places.take(Some(&"n2".into()), nat).is_none(), "they are on their way out");
        let over: Vec<bool> = own.iter_mut().map(is_over).collect();
        assert_eq!(over, [[true; OF_NODE], [false; OF_NODE]].concat());
        assert!(is_over(&mut own[0]), "and stays so");
        own.retain_mut(|stay| !is_over(stay));
        // Many nodes come from one address.
        let others: Vec<Stay> =
            (0..OF_NODE).map(|n| places.take(Some(&format!("m{n}").into()), nat).unwrap()).collect();
        assert!(own.iter_mut().all(|stay| !is_over(stay)));
        drop((own, others));
        assert!(lock(&places.nodes).by.is_empty(), "no room is kept for who has gone");
        assert_eq!(places.all.available_permits(), 2 * OF_NODE);
    }

    #[tokio::test]
    async fn one_address_takes_a_share_of_the_visits_for_as_long_as_they_last() {
        let places = Places::new(1);
        let mut visits: Vec<Stay> =
            (0..VISITORS_FROM_ONE).map(|_| places.take(None, ip("10.0.0.1")).unwrap()).collect();
        assert!(places.take(None, ip("10.0.0.1")).is_none());
        assert!(places.take(None, ip("10.0.0.2")).is_some());
        assert!(!is_over(&mut visits[0]));
        visits.pop();
        assert!(places.take(None, ip("10.0.0.1")).is_some());
    }
}
