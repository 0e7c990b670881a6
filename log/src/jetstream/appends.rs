//! Appends: one publish each, many on their way at once, each resolved by the server's acknowledgement.
//!
//! All go over one connection, so the server takes them in the order in which they were handed over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{HeaderMap, Message, StatusCode, Subscriber};
use futures_util::StreamExt;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use types::{ConversationId, Position};

use super::connection::{Connection, closed, unavailable};
use super::headers;
use super::moments::{Moments, Waiter};
use super::reading::{Reading, Refusal};
use crate::{Append, Error, MAX_PAYLOAD_BYTES, Receipt, Result};

/// Appends that are on their way at once. It bounds what waits in this process.
const IN_FLIGHT: usize = 8_192;
/// How long an acknowledgement may take.
const ACKNOWLEDGEMENT: Duration = Duration::from_secs(5);
/// How often it is looked for those that have taken too long.
const SWEEP: Duration = Duration::from_millis(250);
/// How long the connection may take to accept an append.
const HANDING_OVER: Duration = Duration::from_secs(2);
/// The pause before an append whose repetition is being stored is sent again.
const CONFLICT_PAUSE: Duration = Duration::from_millis(20);
/// The same id is being stored at this moment, in a stream with replicas.
const CONFLICT: u64 = 10_158;
/// The message is too large for the stream.
const TOO_LARGE: u64 = 10_054;

/// Hands events to the server.
pub(super) struct Appends {
    connection: Connection,
    reading: Arc<Reading>,
    moments: Arc<Moments>,
    room: Arc<Semaphore>,
    /// Ends with a dot; the number of the append follows.
    inbox: String,
    next: AtomicU64,
    /// By number, and so by age.
    pending: Mutex<BTreeMap<u64, Pending>>,
}

/// What waits for its acknowledgement.
struct Pending {
    append: Append,
    shard: u16,
    waiter: Waiter,
    since: Instant,
    _room: OwnedSemaphorePermit,
}

#[derive(Deserialize)]
struct Acknowledgement {
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<Refusal>,
}

impl Appends {
    pub(super) async fn open(
        connection: &Connection,
        reading: &Arc<Reading>,
        moments: &Arc<Moments>,
        stop: &CancellationToken,
    ) -> Result<Arc<Self>> {
        let inbox = format!("{}.", connection.client.new_inbox());
        let answers = connection.client.subscribe(format!("{inbox}*")).await.map_err(unavailable)?;
        let appends = Arc::new(Self {
            connection: connection.clone(),
            reading: Arc::clone(reading),
            moments: Arc::clone(moments),
            room: Arc::new(Semaphore::new(IN_FLIGHT)),
            inbox,
            next: AtomicU64::new(0),
            pending: Mutex::default(),
        });
        let (taking, sweeping, ended) = (Arc::clone(&appends), Arc::clone(&appends), stop.clone());
        drop(tokio::spawn(async move { ended.run_until_cancelled(taking.take_answers(answers)).await }));
        let ended = stop.clone();
        drop(tokio::spawn(async move { ended.run_until_cancelled(sweeping.sweep()).await }));
        Ok(appends)
    }

    /// See [`crate::Log::append`].
    pub(super) async fn push(&self, append: Append) -> Result<Receipt> {
        if append.payload.len() > MAX_PAYLOAD_BYTES {
            let length = append.payload.len();
            return Err(Error::Refused(format!("{length} bytes are too many, {MAX_PAYLOAD_BYTES} are the most")));
        }
        self.connection.is_up().await?;
        let waiting_for_room = Arc::clone(&self.room).acquire_owned();
        let room = timeout(ACKNOWLEDGEMENT, waiting_for_room).await.map_err(|_| too_slow())?.map_err(|_| closed())?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (waiter, receipt) = oneshot::channel();
        let shard = self.reading.names.shard_of(append.conversation);
        let pending = Pending { append: append.clone(), shard, waiter, since: Instant::now(), _room: room };
        self.pending.lock().insert(number, pending);
        if let Err(error) = self.publish(number, append).await {
            self.pending.lock().remove(&number);
            return Err(error);
        }
        Ok(Box::pin(async move { receipt.await.unwrap_or_else(|_| Err(closed())) }))
    }

    async fn publish(&self, number: u64, append: Append) -> Result<()> {
        let subject = self.reading.names.events_of(append.conversation);
        let mut headers = HeaderMap::new();
        headers.insert(headers::MESSAGE_ID, append.id.to_string());
        if let Some(trace) = append.trace {
            headers.insert(headers::TRACE, trace.to_string());
        }
        let reply = format!("{}{number}", self.inbox);
        let client = &self.connection.client;
        let handing_over = client.publish_with_reply_and_headers(subject, reply, headers, append.payload);
        timeout(HANDING_OVER, handing_over).await.map_err(|_| too_slow())?.map_err(unavailable)
    }

    /// Refuses more and waits for what is on its way.
    pub(super) async fn close(&self) {
        self.room.close();
        let began = Instant::now();
        while !self.pending.lock().is_empty() && began.elapsed() < ACKNOWLEDGEMENT {
            sleep(Duration::from_millis(1)).await;
        }
        self.fail_all("the log was closed before the server acknowledged");
    }

    async fn take_answers(self: Arc<Self>, mut answers: Subscriber) {
        while let Some(answer) = answers.next().await {
            let Some(number) = answer.subject.get(self.inbox.len()..).and_then(|number| number.parse().ok()) else {
                continue;
            };
            // None when it took too long.
            let Some(pending) = self.pending.lock().remove(&number) else { continue };
            self.settle(number, pending, &answer);
        }
        self.fail_all("the connection to NATS has ended");
    }

    fn settle(self: &Arc<Self>, number: u64, pending: Pending, answer: &Message) {
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return pending.fail("the stream has no leader at the moment");
        }
        match serde_json::from_slice::<Acknowledgement>(&answer.payload) {
            Err(_) => pending.fail("the server's acknowledgement cannot be read"),
            Ok(Acknowledgement { error: Some(Refusal { err_code: CONFLICT, .. }), .. }) => {
                drop(tokio::spawn(Arc::clone(self).send_again(number, pending)));
            }
            Ok(Acknowledgement { error: Some(Refusal { err_code, description }), .. }) => {
                let error = if err_code == TOO_LARGE { Error::Refused } else { Error::Unavailable };
                drop(pending.waiter.send(Err(error(description))));
            }
            Ok(Acknowledgement { seq, duplicate, error: None }) => {
                let Pending { append: Append { conversation, .. }, shard, waiter, .. } = pending;
                self.stored(conversation, shard, (seq, duplicate), waiter);
            }
        }
    }

    fn stored(&self, conversation: ConversationId, shard: u16, (seq, duplicate): (u64, bool), waiter: Waiter) {
        self.reading.learn_end(shard, seq);
        if !waiter.is_closed() {
            let position = Position { epoch: self.reading.epoch, seq };
            self.moments.resolve(conversation, shard, (position, duplicate), waiter);
        }
    }

    /// Asks again how a repetition ended that was being stored when this one came.
    async fn send_again(self: Arc<Self>, number: u64, pending: Pending) {
        sleep(CONFLICT_PAUSE).await;
        if pending.since.elapsed() > ACKNOWLEDGEMENT {
            return pending.fail("another append of the same event does not end");
        }
        let append = pending.append.clone();
        self.pending.lock().insert(number, pending);
        if let Err(error) = self.publish(number, append).await
            && let Some(pending) = self.pending.lock().remove(&number)
        {
            pending.fail(&error.to_string());
        }
    }

    /// Tells those that have waited for too long, and all once the connection is lost: what was on its way then may
    /// or may not have arrived.
    async fn sweep(self: Arc<Self>) {
        let mut link = self.connection.watch();
        let mut losses = link.borrow_and_update().losses;
        loop {
            tokio::select! {
                () = sleep(SWEEP) => self.fail_late(),
                changed = link.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
            let lost = link.borrow_and_update().losses;
            if lost != losses {
                losses = lost;
                self.fail_all("the connection to NATS was lost before the server acknowledged");
            }
        }
    }

    fn fail_late(&self) {
        let mut pending = self.pending.lock();
        while let Some(oldest) = pending.first_entry()
            && oldest.get().since.elapsed() > ACKNOWLEDGEMENT
        {
            oldest.remove().fail("the server did not acknowledge in time");
        }
    }

    fn fail_all(&self, why: &str) {
        for pending in std::mem::take(&mut *self.pending.lock()).into_values() {
            pending.fail(why);
        }
    }
}

impl Pending {
    fn fail(self, why: &str) {
        drop(self.waiter.send(Err(Error::Unavailable(why.to_owned()))));
    }
}

fn too_slow() -> Error {
    Error::Unavailable("the connection to NATS takes no more at the moment".into())
}
