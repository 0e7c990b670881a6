//! Requests and answers over the bus.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// One request, to be answered once. Dropped without an answer, its caller is told that the service is
/// unavailable.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub payload: Bytes,
    /// Where the answer goes.
    pub(crate) answer: oneshot::Sender<Bytes>,
}

impl Request {
    /// Answers. A caller that no longer waits is no error.
    pub fn answer(self, answer: Bytes) {
        drop(self.answer.send(answer));
    }
}

/// The requests to one service, one after the other. Serving ends when it is dropped.
#[derive(Debug)]
pub struct Requests {
    pub(crate) queue: mpsc::Receiver<Request>,
}

impl Requests {
    /// The next request; `None` when the log was closed. Cancel-safe.
    pub async fn next(&mut self) -> Option<Request> {
        self.queue.recv().await
    }
}
