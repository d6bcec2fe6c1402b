//! Authorities, identities and tokens, without a cluster.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls::pki_types::CertificateDer;

use super::authority::RequestError;
use super::enrol::Refusal;
use super::identity::{IdentityError, is_node_name, peer_of, uri};
use super::review::{AUDIENCE, judge};
use super::vault::{Kept, MemoryVault, Vault, obtain};
use super::*;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn request() -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    CertificateParams::default().serialize_request(&key).unwrap().der().to_vec()
}

/// A certificate with these names, signed by nobody who matters: `peer_of` reads what TLS has verified.
fn with_names(common: Option<&str>, uris: &[&str]) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    if let Some(common) = common {
        params.distinguished_name.push(DnType::CommonName, common);
    }
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
}

#[test]
fn a_certificate_names_one_node() {
    let authority = Authority::create(now()).unwrap();
    let certificate = authority.sign_node(&request(), "node-1.example", now()).unwrap();
    let peer = peer_of(&certificate).unwrap();
    assert_eq!((&*peer.node, peer.until), ("node-1.example", 1_800_086_400));

    let node = |common, uris: &[&str]| peer_of(&with_names(common, uris)).map(|peer| peer.node.to_string());
    assert_eq!(node(None, &[&uri("a")]).as_deref(), Ok("a"));
    assert_eq!(node(Some("headrace.io/node/a"), &[]).as_deref(), Ok("a"));
    assert_eq!(node(Some("headrace.io/node/b"), &[&uri("a")]).as_deref(), Ok("a"), "the URI is what counts");
    assert_eq!(node(Some("x"), &["spiffe://other.example/node/a", &uri("a")]).as_deref(), Ok("a"));
    assert_eq!(node(None, &[&uri("a"), &uri("b")]), Err(IdentityError::SeveralNodes));
    for uris in [
        &[][..],
        &["spiffe://headrace.io/node/"],
        &["spiffe://headrace.io/node/A_b"],
        &["https://headrace.io/node/a"],
    ] {
        assert_eq!(node(Some("node/a"), uris), Err(IdentityError::NoNode), "{uris:?}");
    }
    assert_eq!(peer_of(&CertificateDer::from(vec![1, 2, 3])), Err(IdentityError::Unreadable));
    assert!(
        is_node_name("a.b-c")
            && !is_node_name("-a")
            && !is_node_name("a..b")
            && !is_node_name(&"a".repeat(254))
    );
}

#[test]
fn requests_that_are_none_are_turned_down() {
    let authority = Authority::create(now()).unwrap();
    let sign = |bytes: &[u8]| authority.sign_node(bytes, "a", now()).unwrap_err();
    assert_eq!(sign(&[0; 9_000]), RequestError::TooLarge);
    assert_eq!(sign(b"x"), RequestError::Unreadable);
    // Another key than the one that signed it.
    let mut forged = request();
    let at = forged.len() - 5;
    forged[at] ^= 1;
    assert_eq!(sign(&forged), RequestError::Unreadable);
}

#[tokio::test]
async fn replicas_agree_on_one_authority() {
    let vault = MemoryVault::default();
    let (a, b) = tokio::join!(obtain(&vault, now()), obtain(&vault, now()));
    assert_eq!(a.unwrap().authority.certificate(), b.unwrap().authority.certificate());

    // Near its end another one takes over, and the former is still trusted.
    let first = obtain(&vault, now()).await.unwrap();
    let later = now() + Duration::from_secs(3_400 * 86_400);
    let second = obtain(&vault, later).await.unwrap();
    assert_ne!(first.authority.certificate(), second.authority.certificate());
    assert_eq!(
        second.trusted,
        [second.authority.certificate().clone(), first.authority.certificate().clone()]
    );
    assert_eq!(obtain(&vault, later).await.unwrap().authority.certificate(), second.authority.certificate());
}

#[tokio::test]
async fn a_damaged_authority_is_said_and_not_replaced() {
    let vault = MemoryVault::default();
    let (one, other) = (Authority::create(now()).unwrap(), Authority::create(now()).unwrap());
    let mixed = Credential { key: other.credential().key, ..one.credential() };
    assert!(vault.store(&Kept { authority: mixed, former: vec![] }, None).await.unwrap());
    let error = obtain(&vault, now()).await.unwrap_err().to_string();
    assert!(error.contains("not that of the certificate") && error.contains("delete it"), "{error}");
}

#[test]
fn keys_are_never_shown() {
    let authority = Authority::create(now()).unwrap();
    let credential = authority.credential();
    let shown = format!("{credential:?} {authority:?}");
    assert!(shown.contains("PrivateKey(not shown)"));
    let key = credential.key.expose();
    assert!(!shown.contains(&format!("{:?}", &key[key.len() - 8..]).replace(['[', ']'], "")));
}

#[tokio::test]
async fn certificates_are_read_from_files_and_serve() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::create(SystemTime::now()).unwrap();
    let server = authority.sign_server(&["operator.headrace".to_owned()], SystemTime::now()).unwrap();
    let source: Source<MemoryVault> = Source::Files { folder: folder.path().to_owned() };
    let error = open(&source).await.unwrap_err().to_string();
    assert!(error.contains("tls.key") && error.contains("mount"), "{error}");
    let pem = |label: &str, der: &[u8]| {
        let body = base64(der);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    };
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    write("ca.crt", pem("CERTIFICATE", authority.certificate()));
    write("tls.crt", pem("CERTIFICATE", &server.chain[0]));
    write("tls.key", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0!\n-----END PRIVATE KEY-----\n".to_owned());
    let error = open(&source).await.unwrap_err().to_string();
    assert!(error.contains("no private key") && !error.contains("c2VjcmV0"), "{error}");
    write("tls.key", pem("PRIVATE KEY", server.key.expose()));
    let (_, signer) = open(&source).await.unwrap();
    assert!(signer.read().unwrap().is_none(), "others sign the agents' certificates");
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let word =
            part.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for n in 0..4 {
            let digit = char::from(DIGITS[(word >> (18 - 6 * n)) as usize & 63]);
            text.push(if n <= part.len() { digit } else { '=' });
        }
    }
    text
}

#[test]
fn tokens_prove_a_node_only_for_agents() {
    const AGENTS: &str = "system:serviceaccount:headrace:headrace-agent";
    let good = || {
        let extra =
            BTreeMap::from([("authentication.kubernetes.io/node-name".to_owned(), vec!["n1".to_owned()])]);
        let user = UserInfo { username: Some(AGENTS.into()), extra: Some(extra), ..UserInfo::default() };
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec![AUDIENCE.into()]),
            user: Some(user),
            ..TokenReviewStatus::default()
        }
    };
    assert_eq!(judge(&good(), AGENTS), Ok(Bearer { node: "n1".into() }));
    assert!(matches!(judge(&TokenReviewStatus::default(), AGENTS), Err(Refusal::Invalid(_))));
    let audience = TokenReviewStatus { audiences: None, ..good() };
    assert!(matches!(judge(&audience, AGENTS), Err(Refusal::Invalid(_))));
    let other = "system:serviceaccount:evil:headrace-agent";
    assert!(matches!(judge(&good(), other), Err(Refusal::Stranger { .. })));
    let mut status = good();
    status.user.as_mut().unwrap().extra = None;
    assert_eq!(judge(&status, AGENTS), Err(Refusal::NoNode));
}
