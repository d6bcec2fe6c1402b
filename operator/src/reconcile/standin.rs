//! An apiserver for tests: answers as it is told to, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// What was asked: the method, the path, and the body where there was one.
pub type Asked = (String, String, Value);

/// Everything that was asked so far.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<Asked>>>);

impl Log {
    pub fn all(&self) -> Vec<Asked> {
        self.0.lock().unwrap().clone()
    }

    /// How often something was asked of a path that holds these words.
    pub fn count(&self, method: &str, words: &str) -> usize {
        self.all().iter().filter(|(asked, path, _)| asked == method && path.contains(words)).count()
    }
}

/// A client of an apiserver that answers each question with a code and an object.
pub fn client(answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static) -> (Client, Log) {
    let (log, answer) = (Log::default(), Arc::new(answer));
    let seen = log.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (seen, answer) = (seen.clone(), answer.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let asked = (head.method.to_string(), head.uri.path().to_owned(), body);
            let (code, object) = answer(&asked);
            seen.0.lock().unwrap().push(asked);
            let answered = Response::builder().status(code).body(Body::from(object.to_string().into_bytes()));
            Ok::<_, kube::Error>(answered.unwrap())
        }
    });
    (Client::new(service, "n"), log)
}

/// A `Status` as the apiserver has it.
pub fn status(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code});
    (code, status)
}
