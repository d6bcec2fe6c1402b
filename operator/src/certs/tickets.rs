//! Tickets with which an agent that was here before comes back without a signature on either side.
//!
//! After a restart of the operator all agents come at once, and what their handshakes cost is signatures. A ticket holds
//! what the first handshake found out, the agent's certificate above all, sealed with a key that every replica derives
//! from what all of them have: the authority's private key, with which one could sign certificates as well. Where
//! certificates are mounted it is the server's: who has stolen that one is the operator to every agent, and by tickets any
//! agent to the operator too. Sessions made from a ticket still have keys of their own from an exchange of their own, and
//! no early data: nothing can be replayed.
//!
//! The key changes each day, and with what is trusted: who was signed by an authority that is trusted no more comes with
//! a certificate again. TLS looks at a resumed certificate's dates no more, so whoever accepts connections does.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use rustls::pki_types::CertificateDer;
use rustls::server::ProducesTickets;

use super::secret::PrivateKey;

/// Seconds for which one key seals; it opens for as long again, and replicas' clocks may differ by as much.
const DAY: u64 = 86_400;

/// The day in front, which tells with which key a ticket was sealed.
const HEAD: usize = size_of::<u64>();

/// A certificate's chain and some numbers are 1 to 2 KiB.
const LARGEST: usize = 16 << 10;

pub(super) struct Tickets {
    secret: Prk,
    clock: fn() -> SystemTime,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets(not shown)")
    }
}

impl Tickets {
    pub(super) fn new(secret: &PrivateKey, trusted: &[CertificateDer<'static>]) -> Self {
        let mut all = Context::new(&SHA256);
        for certificate in trusted {
            all.update(&(certificate.len() as u64).to_be_bytes());
            all.update(certificate);
        }
        let salt = Salt::new(HKDF_SHA256, all.finish().as_ref());
        Self { secret: salt.extract(secret.expose()), clock: SystemTime::now }
    }

    fn today(&self) -> u64 {
        (self.clock)().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) / DAY
    }

    fn key(&self, day: u64) -> Option<RandomizedNonceKey> {
        let day = day.to_be_bytes();
        let info = [b"headrace.io tickets".as_slice(), &day];
        let mut key = zeroize::Zeroizing::new([0; 32]);
        self.secret.expand(&info, &AES_256_GCM).ok()?.fill(&mut *key).ok()?;
        RandomizedNonceKey::new(&AES_256_GCM, &*key).ok()
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    /// Sealed at a day's end a ticket still opens for a day.
    fn lifetime(&self) -> u32 {
        DAY as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        if plain.len() > LARGEST {
            return None;
        }
        let day = self.today();
        let mut sealed = plain.to_vec();
        let nonce =
            self.key(day)?.seal_in_place_append_tag(Aad::from(day.to_be_bytes()), &mut sealed).ok()?;
        Some([&day.to_be_bytes()[..], nonce.as_ref(), &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > 2 * LARGEST {
            return None;
        }
        let (day, rest) = ticket.split_first_chunk::<HEAD>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let sealed_on = u64::from_be_bytes(*day);
        if sealed_on.abs_diff(self.today()) > 1 {
            return None;
        }
        let mut plain = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.key(sealed_on)?.open_in_place(nonce, Aad::from(*day), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn tickets(secret: u8, trusted: &[u8], day: fn() -> SystemTime) -> Tickets {
        let trusted: Vec<_> = trusted.iter().map(|byte| CertificateDer::from(vec![*byte; 9])).collect();
        Tickets { clock: day, ..Tickets::new(&PrivateKey::new(vec![secret; 40]), &trusted) }
    }

    /// The last second of day 100.
    fn evening() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(101 * DAY - 1)
    }

    #[test]
    fn another_replica_opens_what_one_has_sealed_and_nobody_else_does() {
        let sealed = tickets(1, &[1, 2], evening).encrypt(b"who it was").unwrap();
        let opened = |secret, trusted: &[u8]| tickets(secret, trusted, evening).decrypt(&sealed);
        assert_eq!(opened(1, &[1, 2]).as_deref(), Some(&b"who it was"[..]));
        assert_eq!(opened(2, &[1, 2]), None, "another authority's key");
        assert_eq!(opened(1, &[1]), None, "one that signed is trusted no more");
        assert_eq!(opened(1, &[1, 3]), None, "another is trusted in its place");
    }

    #[test]
    fn a_ticket_opens_on_its_day_and_on_those_beside_it() {
        let sealed = tickets(1, &[1], evening).encrypt(b"x").unwrap();
        let on = |clock| tickets(1, &[1], clock).decrypt(&sealed).is_some();
        assert!(on(|| evening() - Duration::from_secs(DAY)), "sealed by a replica whose clock is ahead");
        assert!(on(|| evening() + Duration::from_secs(DAY)));
        assert!(!on(|| evening() + Duration::from_secs(DAY + 1)));
        assert!(!on(|| UNIX_EPOCH - Duration::from_secs(1)));
    }

    #[test]
    fn what_is_no_ticket_opens_as_nothing() {
        let one = tickets(1, &[1], evening);
        let sealed = one.encrypt(&[7; 100]).unwrap();
        for at in 0..sealed.len() {
            assert_eq!(one.decrypt(&sealed[..at]), None, "its first {at} bytes");
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(one.decrypt(&changed), None, "with byte {at} changed");
        }
        assert_eq!(one.decrypt(&vec![0; 1 << 20]), None);
        assert_eq!(one.encrypt(&vec![0; 1 << 20]), None);
    }
}
