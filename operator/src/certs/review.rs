//! Tokens checked by the API server: a TokenReview, and what its answer must say.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::{Api, PostParams};

use super::enrol::{Authenticator, Bearer, Refusal};

/// For whom the agents' tokens are made; a token made for somebody else is worth nothing here.
pub const AUDIENCE: &str = "headrace.io/operator";

/// Where the API server writes the node of the pod that a token was made for.
const NODE: &str = "authentication.kubernetes.io/node-name";

/// Asks the API server.
#[derive(Clone)]
pub struct TokenReviews {
    api: Api<TokenReview>,
    /// `system:serviceaccount:NAMESPACE:NAME`.
    agents: String,
}

impl std::fmt::Debug for TokenReviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenReviews({})", self.agents)
    }
}

impl TokenReviews {
    /// Only this ServiceAccount's pods are agents.
    pub fn new(client: kube::Client, namespace: &str, account: &str) -> Self {
        let agents = format!("system:serviceaccount:{namespace}:{account}");
        Self { api: Api::all(client), agents }
    }
}

impl Authenticator for TokenReviews {
    async fn authenticate(&self, token: &str) -> Result<Bearer, Refusal> {
        let spec =
            TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![AUDIENCE.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = self.api.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(|error| Refusal::Unavailable(error.to_string()))?;
        judge(&answer.status.unwrap_or_default(), &self.agents)
    }
}

/// What the API server's answer proves.
pub fn judge(status: &TokenReviewStatus, agents: &str) -> Result<Bearer, Refusal> {
    if status.authenticated != Some(true) {
        let reason = status.error.clone().unwrap_or_else(|| "the API server does not know it".into());
        return Err(Refusal::Invalid(reason.chars().take(200).collect()));
    }
    // A server that does not know audiences answers without them, and its word is for itself only.
    if !status.audiences.iter().flatten().any(|audience| audience == AUDIENCE) {
        return Err(Refusal::Invalid("it was made for another audience".into()));
    }
    let user = status.user.as_ref();
    let name = user.and_then(|user| user.username.as_deref()).unwrap_or_default();
    if name != agents {
        return Err(Refusal::Stranger { found: name.to_owned(), wanted: agents.to_owned() });
    }
    let extra = user.and_then(|user| user.extra.as_ref());
    match extra.and_then(|extra| extra.get(NODE)).map(Vec::as_slice) {
        Some([node]) => Ok(Bearer { node: node.clone() }),
        _ => Err(Refusal::NoNode),
    }
}
