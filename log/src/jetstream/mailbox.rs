//! Requests that are answered by several messages.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::{Client, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::connection::unavailable;
use crate::Result;

/// One subscription to which the answers to many requests come.
pub(super) struct Mailbox {
    client: Client,
    /// Ends with a dot; the number of the request follows.
    prefix: String,
    next: AtomicU64,
    waiting: Arc<Waiting>,
}

type Waiting = Mutex<HashMap<u64, mpsc::Sender<Message>>>;

/// The answers to one request, until it is dropped.
pub(super) struct Answers {
    number: u64,
    messages: mpsc::Receiver<Message>,
    waiting: Arc<Waiting>,
}

impl Mailbox {
    pub(super) async fn open(client: &Client, stop: CancellationToken) -> Result<Self> {
        let prefix = format!("{}.", client.new_inbox());
        let subscriber = client.subscribe(format!("{prefix}*")).await.map_err(unavailable)?;
        let waiting = Arc::<Waiting>::default();
        drop(tokio::spawn(hand_out(subscriber, prefix.len(), Arc::clone(&waiting), stop)));
        Ok(Self { client: client.clone(), prefix, next: AtomicU64::new(0), waiting })
    }

    /// Sends a request to which at most `most` messages are the answer; more are dropped.
    pub(super) async fn ask(&self, subject: String, payload: Bytes, most: usize) -> Result<Answers> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, messages) = mpsc::channel(most);
        self.waiting.lock().insert(number, sender);
        let answers = Answers { number, messages, waiting: Arc::clone(&self.waiting) };
        let reply = format!("{}{number}", self.prefix);
        self.client.publish_with_reply(subject, reply, payload).await.map_err(unavailable)?;
        Ok(answers)
    }
}

impl Answers {
    /// The next message.
    pub(super) async fn next(&mut self) -> Option<Message> {
        self.messages.recv().await
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.number);
    }
}

async fn hand_out(mut subscriber: Subscriber, prefix: usize, waiting: Arc<Waiting>, stop: CancellationToken) {
    while let Some(Some(message)) = stop.run_until_cancelled(subscriber.next()).await {
        let Some(number) = message.subject.get(prefix..).and_then(|number| number.parse::<u64>().ok()) else {
            continue;
        };
        let full = waiting.lock().get(&number).is_some_and(|sender| sender.try_send(message).is_err());
        if full {
            // The request then ends as one whose answers were lost on the way.
            waiting.lock().remove(&number);
        }
    }
}
