//! Requests within the process: each goes to one of those who serve.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{mpsc, oneshot};

use crate::{Error, MAX_PAYLOAD_BYTES, Request, Requests, Result};

/// Requests that wait for one server, at most; further ones wait with their callers.
const WAITING: usize = 256;

/// Who serves what.
#[derive(Default)]
pub(crate) struct Services {
    by_name: Mutex<Registry>,
}

#[derive(Default)]
struct Registry {
    by_name: HashMap<&'static str, Servers>,
    is_closed: bool,
}

#[derive(Default)]
struct Servers {
    queues: Vec<mpsc::Sender<Request>>,
    /// Whose turn it is.
    next: usize,
}

impl Services {
    /// See [`crate::Log::serve`].
    pub(crate) fn serve(&self, service: &'static str) -> Result<Requests> {
        let mut registry = self.by_name.lock();
        if registry.is_closed {
            return Err(super::queue::closed());
        }
        let (sender, queue) = mpsc::channel(WAITING);
        let servers = registry.by_name.entry(service).or_default();
        servers.queues.retain(|queue| !queue.is_closed());
        servers.queues.push(sender);
        Ok(Requests { queue })
    }

    /// See [`crate::Log::request`].
    pub(crate) async fn request(&self, service: &'static str, payload: Bytes, timeout: Duration) -> Result<Bytes> {
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(Error::Refused(format!(
                "a request of {} bytes; {MAX_PAYLOAD_BYTES} is the most",
                payload.len()
            )));
        }
        let answered = tokio::time::timeout(timeout, self.ask(service, payload));
        answered.await.map_err(|_| Error::Unavailable(format!("{service} did not answer within {timeout:?}")))?
    }

    async fn ask(&self, service: &'static str, payload: Bytes) -> Result<Bytes> {
        let (answer, answered) = oneshot::channel();
        let mut request = Request { payload, answer };
        // A server that ends meanwhile hands the request back and is not picked again, so this comes to an end.
        while let Some(queue) = self.pick(service) {
            let Err(SendError(back)) = queue.send(request).await else {
                return answered.await.map_err(|_| Error::Unavailable(format!("{service} dropped the request")));
            };
            request = back;
        }
        Err(Error::Unavailable(format!("nobody serves {service}")))
    }

    /// The server whose turn it is, or the next one that has room.
    fn pick(&self, service: &'static str) -> Option<mpsc::Sender<Request>> {
        let mut registry = self.by_name.lock();
        let servers = registry.by_name.get_mut(service)?;
        servers.queues.retain(|queue| !queue.is_closed());
        let count = servers.queues.len();
        if count == 0 {
            return None;
        }
        let turn = servers.next % count;
        let has_room = |index: &usize| servers.queues[*index].capacity() > 0;
        let index = (0..count).map(|step| (turn + step) % count).find(has_room).unwrap_or(turn);
        servers.next = index + 1;
        Some(servers.queues[index].clone())
    }

    /// Ends all serving.
    pub(crate) fn close(&self) {
        let mut registry = self.by_name.lock();
        registry.is_closed = true;
        registry.by_name.clear();
    }
}
