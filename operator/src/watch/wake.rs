//! Who must look again, told to whoever listens. Nobody listens while another replica leads.

use std::sync::Arc;

use futures::Stream;
use futures::stream;
use operator_api::crd::operation::OperationKind;
use tokio::sync::broadcast;

/// Wakes that a slow listener may be behind; past that it looks at everything.
const BACKLOG: usize = 16_384;

/// An object that should be looked at again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    Dataset {
        namespace: Arc<str>,
        name: Arc<str>,
    },
    Operation {
        kind: OperationKind,
        namespace: Arc<str>,
        name: Arc<str>,
    },
    /// Something that may concern any Dataset, or any operation.
    Everything,
}

/// The sending side.
#[derive(Clone, Debug)]
pub struct Wakes {
    sender: broadcast::Sender<Wake>,
}

impl Default for Wakes {
    fn default() -> Self {
        Self { sender: broadcast::channel(BACKLOG).0 }
    }
}

impl Wakes {
    pub fn send(&self, wake: Wake) {
        // An error says that nobody listens.
        let _ = self.sender.send(wake);
    }

    pub fn dataset(&self, namespace: &str, name: &str) {
        self.send(Wake::Dataset { namespace: namespace.into(), name: name.into() });
    }

    pub fn operation(&self, kind: OperationKind, namespace: &str, name: &str) {
        self.send(Wake::Operation { kind, namespace: namespace.into(), name: name.into() });
    }

    /// From now on. Whoever falls behind is told [`Wake::Everything`].
    pub fn listen(&self) -> impl Stream<Item = Wake> + Send + use<> {
        stream::unfold(self.sender.subscribe(), |mut receiver| async move {
            match receiver.recv().await {
                Ok(wake) => Some((wake, receiver)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((Wake::Everything, receiver)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        })
    }
}
