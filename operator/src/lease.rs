//! Who leads: one Lease, by client-go's rules.
//!
//! Every change of the Lease names the resourceVersion that it was read at, so that of two that want it one is
//! told that it lost. Whether another's hold has run out is judged by when *this* clock last saw the Lease
//! change, never by the times in it: the clocks of two machines may be ten minutes apart. A leader that cannot
//! renew in time stops before another may begin.
//!
//! Beside the hold, in the same write, stands where the holder is reached: the others have questions for it. It names
//! the holder too, so that what one left behind is never taken for the next one's.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;

/// client-go's defaults: how long a hold lasts, how long its holder tries to renew it, and how often anybody looks.
pub const DURATION: Duration = Duration::from_secs(15);
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// The Lease's annotation that says where its holder is reached: `IDENTITY ADDRESS:PORT`.
const REACHED_AT: &str = "headrace.io/leader";

/// A hold that is older than this when it is told of is renewed before anything is begun: its next renewal would have less
/// than a period to be answered.
const FRESH: Duration = Duration::from_secs(6);
const _: () = assert!(FRESH.as_secs() == RENEW_DEADLINE.as_secs() - 2 * RETRY_PERIOD.as_secs());

/// One that cannot serve leaves a free Lease to others for so long. Those that can look every two seconds; where there
/// is none, Datasets are still given their volumes.
const HANGING_BACK: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    #[error("the Lease could not be read or written: {0}")]
    Api(#[from] Box<kube::Error>),
    #[error("the apiserver did not answer within {} s", RENEW_DEADLINE.as_secs())]
    Late,
}

/// What to do about a Lease. Pure.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Create(LeaseSpec),
    /// Ours already, or free.
    Take(LeaseSpec),
    /// Another's.
    Wait,
}

/// What was last seen of the Lease, and since when by this clock.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The inner none: there was no Lease.
    last: Option<(Option<LeaseSpec>, Instant)>,
}

impl Observed {
    /// Decides what to do about the Lease as it was read just now. One that is free for less than `back` is left to others,
    /// and so is this one's own then.
    pub fn step(
        &mut self,
        lease: Option<&LeaseSpec>,
        identity: &str,
        back: Duration,
        now: Instant,
        wall: Timestamp,
    ) -> Step {
        if self.last.as_ref().is_none_or(|(seen, _)| seen.as_ref() != lease) {
            self.last = Some((lease.cloned(), now));
        }
        let since = self.last.as_ref().map_or(now, |(_, since)| *since);
        let holder = lease.and_then(|lease| lease.holder_identity.as_deref()).unwrap_or_default();
        let lasts = lease.and_then(|lease| lease.lease_duration_seconds).unwrap_or(0);
        let lasts = Duration::from_secs(u64::try_from(lasts).unwrap_or(0));
        let taken = if holder.is_empty() || holder == identity { Duration::ZERO } else { lasts };
        if now < since + taken + back {
            return Step::Wait;
        }
        let fresh = |transitions: i32, acquired: Option<MicroTime>| LeaseSpec {
            holder_identity: Some(identity.into()),
            lease_duration_seconds: Some(i32::try_from(DURATION.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: acquired.or(Some(MicroTime(wall))),
            renew_time: Some(MicroTime(wall)),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        };
        let Some(lease) = lease else { return Step::Create(fresh(0, None)) };
        let transitions = lease.lease_transitions.unwrap_or(0);
        if holder == identity {
            return Step::Take(fresh(transitions, lease.acquire_time.clone()));
        }
        Step::Take(fresh(transitions.saturating_add(1), None))
    }
}

/// Where the holder of a Lease is reached, unless that is `identity` itself; none where it has not said. Pure.
fn elsewhere(lease: &Lease, identity: &str) -> Option<SocketAddr> {
    let holder = lease.spec.as_ref()?.holder_identity.as_deref()?;
    let (of, at) = lease.metadata.annotations.as_ref()?.get(REACHED_AT)?.split_once(' ')?;
    (of == holder && holder != identity).then(|| at.parse().ok())?
}

/// One who wants to lead.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    reached_at: Option<SocketAddr>,
    leader: watch::Sender<Option<SocketAddr>>,
    observed: Observed,
}

impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidate")
            .field("name", &self.name)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Candidate {
    /// `reached_at` is where the others may ask this one, while it leads.
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        identity: &str,
        reached_at: Option<SocketAddr>,
    ) -> Self {
        let api = Api::namespaced(client, namespace);
        Self {
            api,
            name: name.into(),
            identity: identity.into(),
            reached_at,
            leader: watch::Sender::new(None),
            observed: Observed::default(),
        }
    }

    /// Where another one that leads is reached; none while this one does, or nobody has said.
    pub fn leader(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.leader.subscribe()
    }

    /// Waits until this one holds the Lease, and says since when: from when it was asked for, as [`Self::hold`] counts.
    /// While `shut` says why it cannot serve, it leaves the Lease to others that can.
    pub async fn acquire(&mut self, shut: &mut watch::Receiver<Option<String>>) -> Instant {
        let mut told = false;
        loop {
            let asked = Instant::now();
            let hindered = shut.borrow_and_update().is_some();
            match self.attempt(if hindered { HANGING_BACK } else { Duration::ZERO }).await {
                Ok(true) if asked.elapsed() < FRESH => return asked,
                // The answer was on its way for so long that another may begin soon: it is renewed first.
                Ok(true) => continue,
                Ok(false) => told = false,
                Err(error) => {
                    if !told {
                        tracing::warn!(%error, "the Lease cannot be had now; trying again");
                    }
                    told = true;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_PERIOD) => {}
                // A replica that was started just now need not wait to find the Lease free.
                Ok(_) = shut.wait_for(Option::is_none), if hindered => {}
            }
        }
    }

    /// Keeps the Lease, had since `renewed`, until it is lost: taken by another, or not renewed in time.
    pub async fn hold(&mut self, mut renewed: Instant) {
        loop {
            tokio::time::sleep(RETRY_PERIOD).await;
            // An attempt ends with the deadline: a hung connection must not make a leader of two.
            let asked = Instant::now();
            match tokio::time::timeout_at(renewed + RENEW_DEADLINE, self.attempt(Duration::ZERO)).await {
                // From when it was asked for: the answer may have been on its way for long.
                Ok(Ok(true)) => renewed = asked,
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(%error, "the Lease was not renewed; trying again"),
                Err(_) => {}
            }
            if renewed.elapsed() >= RENEW_DEADLINE {
                return;
            }
        }
    }

    /// Gives the Lease back, so that another need not wait.
    pub async fn release(&mut self) -> Result<(), LeaseError> {
        let Some(mut lease) = self.read().await? else { return Ok(()) };
        let Some(spec) = lease.spec.as_mut() else { return Ok(()) };
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(());
        }
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        self.replace(&lease).await.map(|_| ())
    }

    /// `back` as in [`Observed::step`].
    async fn attempt(&mut self, back: Duration) -> Result<bool, LeaseError> {
        let lease = self.read().await?;
        let leader = lease.as_ref().and_then(|lease| elsewhere(lease, &self.identity));
        self.leader.send_if_modified(|known| std::mem::replace(known, leader) != leader);
        let spec = lease.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        let step = self.observed.step(spec.as_ref(), &self.identity, back, Instant::now(), Timestamp::now());
        match (step, lease) {
            (Step::Take(spec), Some(lease)) => {
                let lease = self.signed(Lease { spec: Some(spec), ..lease });
                let won = self.replace(&lease).await?;
                if won {
                    // Whom it was taken from is asked no more, also where this one has just begun.
                    self.leader.send_replace(None);
                }
                Ok(won)
            }
            (Step::Create(spec), _) | (Step::Take(spec), None) => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                let lease = self.signed(Lease { metadata, spec: Some(spec) });
                won(limited(self.api.create(&PostParams::default(), &lease)).await)
            }
            (Step::Wait, _) => Ok(false),
        }
    }

    /// With where this one is reached, in place of what another left there.
    fn signed(&self, mut lease: Lease) -> Lease {
        let annotations = lease.metadata.annotations.get_or_insert_default();
        match self.reached_at {
            Some(at) => annotations.insert(REACHED_AT.into(), format!("{} {at}", self.identity)),
            None => annotations.remove(REACHED_AT),
        };
        lease
    }

    async fn read(&self) -> Result<Option<Lease>, LeaseError> {
        limited(self.api.get_opt(&self.name)).await
    }

    /// The object carries the resourceVersion it was read at: another's change in between makes this a 409.
    async fn replace(&self, lease: &Lease) -> Result<bool, LeaseError> {
        won(limited(self.api.replace(&self.name, &PostParams::default(), lease)).await)
    }
}

fn won<T>(answer: Result<T, LeaseError>) -> Result<bool, LeaseError> {
    match answer {
        Ok(_) => Ok(true),
        Err(LeaseError::Api(error)) if matches!(&*error, kube::Error::Api(status) if status.code == 409) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

async fn limited<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, LeaseError> {
    match tokio::time::timeout(RENEW_DEADLINE, request).await {
        Ok(answer) => answer.map_err(|error| LeaseError::Api(Box::new(error))),
        Err(_) => Err(LeaseError::Late),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By one that can serve.
    const NOW: Duration = Duration::ZERO;

    fn held(by: &str, version: i64) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(by.into()),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(Timestamp::from_second(version).unwrap())),
            lease_transitions: Some(4),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_hold_is_judged_by_this_clock_only() {
        let start = Instant::now();
        let wall = Timestamp::now();
        let mut observed = Observed::default();
        let at = |seconds| start + Duration::from_secs(seconds);
        // The holder's clock is years behind: that is its affair.
        assert_eq!(observed.step(Some(&held("other", 1)), "me", NOW, at(0), wall), Step::Wait);
        assert_eq!(observed.step(Some(&held("other", 1)), "me", NOW, at(14), wall), Step::Wait);
        assert_eq!(observed.step(Some(&held("other", 2)), "me", NOW, at(14), wall), Step::Wait);
        assert_eq!(observed.step(Some(&held("other", 2)), "me", NOW, at(28), wall), Step::Wait);
        let Step::Take(spec) = observed.step(Some(&held("other", 2)), "me", NOW, at(29), wall) else {
            panic!("it had run out");
        };
        assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("me"), Some(5)));
    }

    #[test]
    fn the_holder_is_found_where_it_said_itself() {
        let lease = |holder: Option<&str>, said: &str| Lease {
            metadata: ObjectMeta {
                annotations: Some([(REACHED_AT.to_owned(), said.to_owned())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec { holder_identity: holder.map(Into::into), ..LeaseSpec::default() }),
        };
        let at = Some("10.0.0.7:9444".parse().unwrap());
        assert_eq!(elsewhere(&lease(Some("a_1"), "a_1 10.0.0.7:9444"), "me"), at);
        let six = elsewhere(&lease(Some("a"), "a [fd00::7]:9444"), "me");
        assert_eq!(six, Some("[fd00::7]:9444".parse().unwrap()));
        for (holder, said, why) in [
            (Some("me"), "me 10.0.0.7:9444", "oneself"),
            (Some("b"), "a_1 10.0.0.7:9444", "of one before, by a version that says nothing"),
            (None, "a_1 10.0.0.7:9444", "given back"),
            (Some("a"), "a operator.svc:9444", "names are not looked up"),
            (Some("a"), "", "damaged"),
        ] {
            assert_eq!(elsewhere(&lease(holder, said), "me"), None, "{why}");
        }
        assert_eq!(elsewhere(&Lease::default(), "me"), None);
    }

    #[tokio::test]
    async fn a_hold_counts_from_when_it_was_asked_for() {
        use kube::client::Body;
        const ON_ITS_WAY: Duration = Duration::from_millis(100);
        // There is no Lease, so one is created, and answers take long.
        let slow = tower::service_fn(|request: axum::http::Request<Body>| async move {
            tokio::time::sleep(ON_ITS_WAY).await;
            let (code, text) = match request.method().as_str() {
                "GET" => (404, r#"{"kind":"Status","status":"Failure","reason":"NotFound","code":404}"#),
                _ => {
                    (201, r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"l"}}"#)
                }
            };
            axum::http::Response::builder().status(code).body(Body::from(text.as_bytes().to_vec()))
        });
        let mut candidate = Candidate::new(Client::new(slow, "n"), "n", "l", "me", None);
        let asked = candidate.acquire(&mut watch::Sender::new(None).subscribe()).await;
        assert!(asked.elapsed() >= ON_ITS_WAY * 2, "{:?}", asked.elapsed());

        let silent = tower::service_fn(|_: axum::http::Request<Body>| {
            std::future::pending::<Result<axum::http::Response<Body>, std::convert::Infallible>>()
        });
        let mut candidate = Candidate::new(Client::new(silent, "n"), "n", "l", "me", None);
        let begun = Instant::now();
        // Nearly over when it is told of: another may begin 15 s after it was asked for, not after it was had.
        candidate.hold(begun.checked_sub(RENEW_DEADLINE - Duration::from_secs(1)).unwrap()).await;
        assert!(begun.elapsed() < RENEW_DEADLINE / 2, "{:?}", begun.elapsed());
    }

    #[test]
    fn ones_own_is_renewed_and_a_free_one_taken() {
        let mut observed = Observed::default();
        let (now, wall) = (Instant::now(), Timestamp::now());
        assert!(matches!(observed.step(None, "me", NOW, now, wall), Step::Create(_)));
        let Step::Take(spec) = observed.step(Some(&held("me", 1)), "me", NOW, now, wall) else {
            panic!("it is ours")
        };
        assert_eq!(spec.lease_transitions, Some(4));
        let free = LeaseSpec { holder_identity: None, ..held("", 1) };
        assert!(matches!(observed.step(Some(&free), "me", NOW, now, wall), Step::Take(_)));
    }

    #[test]
    fn one_that_cannot_serve_takes_only_what_nobody_else_does() {
        let (start, wall) = (Instant::now(), Timestamp::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let free = LeaseSpec { holder_identity: None, ..held("", 1) };
        for (lease, waits) in
            [(None, 60), (Some(&free), 60), (Some(&held("other", 1)), 75), (Some(&held("me", 1)), 60)]
        {
            let mut observed = Observed::default();
            assert_eq!(observed.step(lease, "me", HANGING_BACK, at(0), wall), Step::Wait);
            assert_eq!(observed.step(lease, "me", HANGING_BACK, at(waits - 1), wall), Step::Wait);
            let mut opened = observed.clone();
            assert_ne!(observed.step(lease, "me", HANGING_BACK, at(waits), wall), Step::Wait);
            // Once it can serve it stands like any other.
            assert_ne!(opened.step(lease, "me", NOW, at(15), wall), Step::Wait);
        }
    }

    #[tokio::test]
    async fn a_replica_without_a_certificate_stands_when_it_has_one() {
        use kube::client::Body;
        let free = tower::service_fn(|request: axum::http::Request<Body>| async move {
            let (code, text) = match request.method().as_str() {
                "GET" => (404, r#"{"kind":"Status","status":"Failure","reason":"NotFound","code":404}"#),
                _ => {
                    (201, r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"l"}}"#)
                }
            };
            axum::http::Response::builder().status(code).body(Body::from(text.as_bytes().to_vec()))
        });
        let mut candidate = Candidate::new(Client::new(free, "n"), "n", "l", "me", None);
        let shut = watch::Sender::new(Some("no certificate".to_owned()));
        let mut seen = shut.subscribe();
        let standing = candidate.acquire(&mut seen);
        tokio::pin!(standing);
        let early = tokio::time::timeout(RETRY_PERIOD / 4, &mut standing).await;
        assert!(early.is_err(), "it cannot serve");
        shut.send_replace(None);
        tokio::time::timeout(RETRY_PERIOD / 4, standing).await.unwrap();
    }

    #[tokio::test]
    async fn a_hold_that_was_long_on_its_way_is_renewed_before_it_counts() {
        use kube::client::Body;
        let asked = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        // The first answer comes when there would be no time left to renew what it tells of.
        let slow = tower::service_fn(move |request: axum::http::Request<Body>| {
            let first = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
            async move {
                if first {
                    tokio::time::sleep(FRESH + Duration::from_millis(200)).await;
                }
                let text = r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"l"},
                    "spec":{"holderIdentity":"me"}}"#;
                let _ = request;
                axum::http::Response::builder().status(200).body(Body::from(text.as_bytes().to_vec()))
            }
        });
        let mut candidate = Candidate::new(Client::new(slow, "n"), "n", "l", "me", None);
        let since = candidate.acquire(&mut watch::Sender::new(None).subscribe()).await;
        assert!(since.elapsed() < RETRY_PERIOD, "{:?}", since.elapsed());
    }
}
