//! AdmissionReview v1, the envelope: what a webhook is asked, and the answer it owes in every case.

use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// The API server's own limit for a request is 3 MiB; an update carries the object twice, and the envelope.
pub const LARGEST: usize = 8 << 20;

#[derive(Debug, Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request<'a> {
    #[serde(default)]
    pub uid: String,
    pub kind: Option<Kind>,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub operation: Option<String>,
    #[serde(borrow)]
    pub object: Option<&'a RawValue>,
    #[serde(borrow)]
    pub old_object: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
pub struct Kind {
    #[serde(default)]
    pub group: String,
    #[serde(default)]
    pub kind: String,
}

/// What becomes of the object.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    Allowed,
    /// Allowed as it is, and the person who asked is told this.
    Warned(String),
    Patched(Vec<Value>),
    /// Refused; the sentence says what to change.
    Refused(String),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<ByteString>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<[&'a str; 1]>,
}

#[derive(Serialize)]
struct Status<'a> {
    message: &'a str,
    reason: &'static str,
    code: u16,
}

/// Answers a review with what `judge` says of it. What is no review is answered too: allowed, with a warning.
pub fn answer(body: &[u8], judge: impl FnOnce(&Request<'_>) -> Verdict) -> Vec<u8> {
    match serde_json::from_slice::<Envelope<'_>>(body) {
        Ok(Envelope { request: Some(request) }) => {
            let verdict = judge(&request);
            write(&request.uid, &verdict)
        }
        Ok(Envelope { request: None }) => {
            write("", &Verdict::Warned("headrace: the review has no request; nothing was changed".to_owned()))
        }
        Err(error) => write(
            "",
            &Verdict::Warned(format!("headrace: the review cannot be read ({error}); nothing was changed")),
        ),
    }
}

fn write(uid: &str, verdict: &Verdict) -> Vec<u8> {
    let mut response =
        Response { uid, allowed: true, patch_type: None, patch: None, status: None, warnings: None };
    match verdict {
        Verdict::Allowed => {}
        Verdict::Warned(words) => response.warnings = Some([words]),
        Verdict::Patched(patch) => {
            let patch = serde_json::to_vec(patch).unwrap_or_default();
            response.patch_type = Some("JSONPatch");
            response.patch = Some(ByteString(patch));
        }
        Verdict::Refused(words) => {
            response.allowed = false;
            response.status = Some(Status { message: words, reason: "Invalid", code: 422 });
        }
    }
    let answer = Answer { api_version: "admission.k8s.io/v1", kind: "AdmissionReview", response };
    serde_json::to_vec(&answer).unwrap_or_default()
}
