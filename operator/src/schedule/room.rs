//! Room for questions and answers of one kind: bytes of bodies, and turns at taking them apart.
//!
//! Each kind has room of its own, so that webhooks never wait for schedulers' large questions.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies are counted in these. Those of at most one need no room, and so wait for none: the bound on connections bounds
/// them.
pub const UNIT: usize = 64 << 10;

#[derive(Clone, Debug)]
pub struct Room {
    /// In units.
    bytes: Arc<Semaphore>,
    units: u32,
    turns: Arc<Semaphore>,
}

impl Room {
    /// So many units, and so many turns at once.
    pub fn new(units: u32, turns: usize) -> Self {
        let bytes = Arc::new(Semaphore::new(units as usize));
        Self { bytes, units, turns: Arc::new(Semaphore::new(turns)) }
    }

    /// Waits for room for so many bytes.
    pub async fn hold(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.bytes.clone().acquire_many_owned(self.units(bytes)).await.ok()
    }

    /// Waits until a body may be taken apart.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.turns.clone().acquire_owned().await.ok()
    }

    /// An answer that nobody takes off the connection stays in memory: the room, `held` for the question, is free when
    /// it is let go of.
    pub fn json(
        &self,
        answer: impl AsRef<[u8]> + Send + 'static,
        held: Option<OwnedSemaphorePermit>,
    ) -> Response {
        let has = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let has = u32::try_from(has).unwrap_or(u32::MAX);
        let more = self.units(answer.as_ref().len()).saturating_sub(has);
        let Ok(more) = self.bytes.clone().try_acquire_many_owned(more) else {
            return (StatusCode::SERVICE_UNAVAILABLE, "no room for the answer; ask again").into_response();
        };
        let body = Body::from(Bytes::from_owner(Held { answer, _room: (held, more) }));
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    }

    fn units(&self, bytes: usize) -> u32 {
        let units = if bytes <= UNIT { 0 } else { bytes.div_ceil(UNIT) };
        u32::try_from(units).unwrap_or(u32::MAX).min(self.units)
    }

    #[cfg(test)]
    pub fn free(&self) -> usize {
        self.bytes.available_permits()
    }
}

struct Held<T> {
    answer: T,
    _room: (Option<OwnedSemaphorePermit>, OwnedSemaphorePermit),
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Held<T> {
    fn as_ref(&self) -> &[u8] {
        self.answer.as_ref()
    }
}
