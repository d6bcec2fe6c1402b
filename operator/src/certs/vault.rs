//! Where the authority is kept, and who makes it when it is missing: the first replica that comes.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;

use super::authority::Authority;
use super::error::CertError;
use super::secret::Credential;

/// Replicas that start together settle in the second round; more rounds than this are a fight.
const ROUNDS: usize = 8;

/// What is kept. `authority.chain` holds one certificate; `former` are still trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub authority: Credential,
    pub former: Vec<CertificateDer<'static>>,
}

/// What was kept, with what a writer must have seen to replace it.
#[derive(Clone, Debug)]
pub struct Found {
    pub kept: Kept,
    pub version: Option<String>,
}

/// A place that keeps one thing, and never lets two writers win.
pub trait Vault: Send + Sync {
    /// How a person finds it.
    fn name(&self) -> String;
    fn load(&self) -> impl Future<Output = Result<Option<Found>, CertError>> + Send;
    /// Keeps it if nothing (or still what `over` had) is there; false when somebody was faster.
    fn store(
        &self,
        kept: &Kept,
        over: Option<&Found>,
    ) -> impl Future<Output = Result<bool, CertError>> + Send;
}

/// The authority in use, and every certificate that agents and the operator should trust.
#[derive(Debug)]
pub struct Roots {
    pub authority: Authority,
    pub trusted: Vec<CertificateDer<'static>>,
}

/// Takes the kept authority; makes one where there is none, or where the kept one nears its end.
pub async fn obtain(vault: &impl Vault, now: SystemTime) -> Result<Roots, CertError> {
    for _ in 0..ROUNDS {
        let found = vault.load().await?;
        if let Some(found) = &found {
            let authority = Authority::open(&found.kept.authority)?;
            if !authority.is_old(now) {
                let mut trusted = vec![authority.certificate().clone()];
                trusted.extend(found.kept.former.iter().cloned());
                return Ok(Roots { authority, trusted });
            }
        }
        let fresh = Authority::create(now)?;
        let former = found.as_ref().map(|f| f.kept.authority.chain.clone()).unwrap_or_default();
        let kept = Kept { authority: fresh.credential(), former };
        // Whoever lost reads what the winner has kept.
        vault.store(&kept, found.as_ref()).await?;
    }
    Err(CertError::Contended { secret: vault.name() })
}

/// In memory: for tests, and for an operator that runs without a cluster.
#[derive(Clone, Debug, Default)]
pub struct MemoryVault(Arc<Mutex<Option<(Kept, u64)>>>);

impl Vault for MemoryVault {
    fn name(&self) -> String {
        "in memory".into()
    }

    async fn load(&self) -> Result<Option<Found>, CertError> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(held.clone().map(|(kept, version)| Found { kept, version: Some(version.to_string()) }))
    }

    async fn store(&self, kept: &Kept, over: Option<&Found>) -> Result<bool, CertError> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there = held.as_ref().map(|(_, version)| version.to_string());
        if there != over.and_then(|found| found.version.clone()) {
            return Ok(false);
        }
        let next = held.as_ref().map_or(0, |(_, version)| version + 1);
        *held = Some((kept.clone(), next));
        Ok(true)
    }
}
