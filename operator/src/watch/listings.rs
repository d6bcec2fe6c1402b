//! Which kinds have been listed, and what the others wait for.
//!
//! However many wait here, all are woken: of those that wait for a store of kube-runtime 5.0 (`DelayedInit`) only
//! the last that asked is.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::core::Status;
use kube::runtime::watcher;
use tokio::sync::watch;

/// Bytes of a reason: an apiserver's answer is quoted in it.
const MAX_WHY: usize = 300;

/// How far the list of a kind is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// With what the last try ended, if there was one.
    Waits(Option<String>),
    Listed,
}

/// All kinds. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Listings {
    board: Arc<watch::Sender<BTreeMap<String, State>>>,
}

/// One kind's place there.
#[derive(Clone, Debug)]
pub struct Listing {
    all: Listings,
    kind: String,
}

impl Default for Listings {
    fn default() -> Self {
        Self { board: Arc::new(watch::Sender::new(BTreeMap::new())) }
    }
}

impl Listings {
    /// A kind that is waited for from now on.
    pub fn expect(&self, kind: &str) -> Listing {
        self.board.send_modify(|board| {
            board.insert(kind.to_owned(), State::Waits(None));
        });
        Listing { all: self.clone(), kind: kind.to_owned() }
    }

    /// What is waited for and why, in a sentence; none when every kind has been listed.
    pub fn waits_for(&self) -> Option<String> {
        words(&self.board.borrow())
    }

    /// Waits until every kind has been listed.
    pub async fn wait(&self) {
        // The sender lives as long as this does.
        let _ = self.board.subscribe().wait_for(|board| words(board).is_none()).await;
    }

    /// Waits until one kind has been listed.
    pub async fn wait_for(&self, kind: &str) {
        let listed = |board: &BTreeMap<String, State>| board.get(kind) == Some(&State::Listed);
        let _ = self.board.subscribe().wait_for(listed).await;
    }

    pub fn turns(&self) -> Turns {
        Turns { board: self.board.subscribe(), _all: self.clone() }
    }
}

/// The board's changes, one by one.
#[derive(Debug)]
pub struct Turns {
    board: watch::Receiver<BTreeMap<String, State>>,
    /// A board that lives has changes to come.
    _all: Listings,
}

impl Turns {
    /// Waits for the next change.
    pub async fn next(&mut self) {
        let _ = self.board.changed().await;
    }
}

impl Listing {
    pub fn kind(&self) -> &str {
        &self.kind
    }

    pub fn listed(&self) {
        self.set(State::Listed);
    }

    /// A kind that was listed once stays so: what is known of it is old, and not wrong.
    pub fn failed(&self, why: &str) {
        let end = why.floor_char_boundary(MAX_WHY);
        self.set(State::Waits(Some(why.get(..end).unwrap_or_default().to_owned())));
    }

    fn set(&self, state: State) {
        self.all.board.send_if_modified(|board| {
            let old = board.get(&self.kind);
            if old == Some(&State::Listed) || old == Some(&state) {
                return false;
            }
            board.insert(self.kind.clone(), state);
            true
        });
    }
}

fn words(board: &BTreeMap<String, State>) -> Option<String> {
    let mut silent = Vec::new();
    let mut failing = Vec::new();
    for (kind, state) in board {
        match state {
            State::Listed => {}
            State::Waits(None) => silent.push(kind.as_str()),
            State::Waits(Some(why)) => failing.push(format!("{kind} cannot be listed: {why}")),
        }
    }
    if !silent.is_empty() {
        failing.push(format!("no answer yet to the list of {}", silent.join(", ")));
    }
    (!failing.is_empty()).then(|| failing.join("; "))
}

/// Why a watch fails, and what to do about it.
pub fn why(kind: &str, error: &watcher::Error) -> String {
    let failed = |error: &kube::Error| match error {
        kube::Error::Api(status) => refusal(kind, status),
        other => format!("the apiserver does not answer ({other}); it is asked again"),
    };
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => failed(error),
        watcher::Error::WatchError(status) => refusal(kind, status),
        watcher::Error::NoResourceVersion => {
            "the apiserver's answer has no resourceVersion; it is asked again".into()
        }
    }
}

fn refusal(kind: &str, status: &Status) -> String {
    match status.code {
        404 => format!("the apiserver does not know the kind {kind}: kubectl apply -f deploy/crd"),
        403 => format!("the operator may not ({}): kubectl apply -f deploy/rbac", status.message),
        401 => {
            "the apiserver does not accept the operator's credentials: see its ServiceAccount, or KUBECONFIG"
                .into()
        }
        code => format!("the apiserver answers {code} ({}); it is asked again", status.message),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn status(code: u16, message: &str) -> watcher::Error {
        let status = Status { code, message: message.into(), ..Status::default() };
        watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status)))
    }

    #[tokio::test]
    async fn all_who_wait_are_woken() {
        let listings = Listings::default();
        let kinds = [listings.expect("A"), listings.expect("B")];
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let listings = listings.clone();
            waiting.spawn(async move { listings.wait().await });
        }
        tokio::task::yield_now().await;
        for kind in &kinds {
            assert!(waiting.try_join_next().is_none(), "{kind:?} is missing");
            let mut one = std::pin::pin!(listings.wait_for(kind.kind()));
            assert!(futures::poll!(&mut one).is_pending(), "{kind:?} is missing");
            kind.listed();
            one.await;
            tokio::task::yield_now().await;
        }
        for _ in 0..5 {
            let woken = tokio::time::timeout(Duration::from_secs(10), waiting.join_next()).await;
            woken.unwrap().unwrap().unwrap();
        }
        listings.wait().await;
    }

    #[test]
    fn it_is_said_what_waits_for_what() {
        let listings = Listings::default();
        let [profile, node, pod] = ["AccessProfile", "Node", "Pod"].map(|kind| listings.expect(kind));
        assert_eq!(listings.waits_for().unwrap(), "no answer yet to the list of AccessProfile, Node, Pod");
        profile
            .failed(&why(profile.kind(), &status(404, "the server could not find the requested resource")));
        node.failed(&why(node.kind(), &status(403, "nodes is forbidden")));
        assert_eq!(
            listings.waits_for().unwrap(),
            "AccessProfile cannot be listed: the apiserver does not know the kind AccessProfile: kubectl apply -f \
             deploy/crd; Node cannot be listed: the operator may not (nodes is forbidden): kubectl apply -f \
             deploy/rbac; no answer yet to the list of Pod"
        );
        for kind in [&profile, &node, &pod] {
            kind.listed();
        }
        assert_eq!(listings.waits_for(), None);
        node.failed("the apiserver is away");
        assert_eq!(listings.waits_for(), None, "what is known stays");
        pod.failed(&"ä".repeat(1_000));
    }
}
