//! Appends: one publish each, many on their way at once, each resolved by the server's acknowledgement.
//!
//! All go over one connection ([`line`]), so the server takes them in the order in which they were handed over. When
//! it is lost, all that were on their way on it are refused, and nothing of them is sent any more.

mod line;

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::convert::Infallible;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use types::{ConversationId, Position};

use self::line::{DEAD, Line};
use super::connection::{Address, PATIENCE, closed, pause_before, unavailable};
use super::headers;
use super::link::{Link, Reader};
use super::moments::{Moments, Waiter};
use super::reading::{Reading, Refusal};
use super::wire::{self, Heard, Op};
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
/// Room for subject and headers in what is written for an append.
const ENVELOPE_BYTES: usize = 320;
/// The subscription to which acknowledgements come.
const ANSWERS: u64 = 1;

/// Hands events to the server.
pub(super) struct Appends {
    address: Address,
    /// Connections that were tried.
    attempts: AtomicUsize,
    /// The present connection.
    line: watch::Sender<Option<Arc<Line>>>,
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
        address: &Address,
        reading: &Arc<Reading>,
        moments: &Arc<Moments>,
        stop: &CancellationToken,
    ) -> Result<Arc<Self>> {
        let appends = Arc::new(Self {
            address: address.clone(),
            // Processes are spread over the servers.
            attempts: AtomicUsize::new(usize::try_from(RandomState::new().hash_one(()) >> 33).unwrap_or(0)),
            line: watch::Sender::new(None),
            reading: Arc::clone(reading),
            moments: Arc::clone(moments),
            room: Arc::new(Semaphore::new(IN_FLIGHT)),
            inbox: format!("{}.", reading.client.new_inbox()),
            next: AtomicU64::new(0),
            pending: Mutex::default(),
        });
        let link = appends.connect_to_any().await?;
        let (following, ended) = (Arc::clone(&appends), stop.clone());
        drop(tokio::spawn(async move {
            ended.run_until_cancelled(following.follow(link)).await;
            following.hang_up();
            following.fail_all("the log was closed");
        }));
        let (sweeping, ended) = (Arc::clone(&appends), stop.clone());
        drop(tokio::spawn(async move { ended.run_until_cancelled(sweeping.sweep()).await }));
        Ok(appends)
    }

    /// See [`crate::Log::append`].
    pub(super) async fn push(&self, append: Append) -> Result<Receipt> {
        if append.payload.len() > MAX_PAYLOAD_BYTES {
            let length = append.payload.len();
            return Err(Error::Refused(format!("{length} bytes are too many, {MAX_PAYLOAD_BYTES} are the most")));
        }
        self.is_up().await?;
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
        // The present one: it may have been another when the append began to wait for room.
        let line = self.line.borrow().clone().ok_or_else(no_connection)?;
        let (id, trace) = (append.id.to_string(), append.trace.map(|trace| trace.to_string()));
        let mut headers = vec![(headers::MESSAGE_ID, &*id)];
        headers.extend(trace.as_deref().map(|trace| (headers::TRACE, trace)));
        let subject = self.reading.names.events_of(append.conversation);
        let mut words = BytesMut::with_capacity(append.payload.len() + ENVELOPE_BYTES);
        wire::publish_with_headers(
            &mut words,
            (&subject, &format!("{}{number}", self.inbox)),
            &headers,
            &append.payload,
        );
        if words.len() > line.max_message_bytes {
            let (length, most) = (words.len(), line.max_message_bytes);
            return Err(unavailable(format!("the server takes {most} bytes at most, not {length}")));
        }
        timeout(HANDING_OVER, line.put(&words)).await.map_err(|_| too_slow())?
    }

    /// Waits a moment for a connection that is broken.
    async fn is_up(&self) -> Result<()> {
        if self.line.borrow().is_some() {
            return Ok(());
        }
        let mut line = self.line.subscribe();
        let waiting = timeout(PATIENCE, line.wait_for(Option::is_some));
        waiting.await.map(drop).map_err(|_| no_connection())
    }

    /// Carries appends on one connection after the other.
    async fn follow(self: &Arc<Self>, mut link: Link) {
        loop {
            let Err(error) = self.carry(link).await;
            tracing::warn!(%error, "appends have lost their connection");
            self.fail_all("the connection to NATS was lost before the server acknowledged");
            link = self.connect_again().await;
        }
    }

    /// Carries appends until the connection is lost, which is dropped with all that it was handed.
    async fn carry(self: &Arc<Self>, link: Link) -> Result<Infallible> {
        link.leave_nothing_behind()?;
        let line = Arc::new(Line::new(link.info.max_payload.unwrap_or(usize::MAX)));
        let mut words = BytesMut::new();
        wire::subscribe(&mut words, &format!("{}*", self.inbox), ANSWERS);
        line.say(&words);
        let (reader, writer) = link.split();
        self.line.send_replace(Some(Arc::clone(&line)));
        let lost = tokio::select! {
            lost = self.take_answers(reader, &line) => lost,
            lost = line.write(writer) => lost,
        };
        self.hang_up();
        lost
    }

    fn hang_up(&self) {
        if let Some(line) = self.line.send_replace(None) {
            line.end();
        }
    }

    async fn connect(&self) -> Result<Link> {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        let server = &self.address.servers[attempt % self.address.servers.len()];
        Link::open(server, &self.address, "rookery appends").await
    }

    /// Tries each server once.
    async fn connect_to_any(&self) -> Result<Link> {
        let mut refusal = no_connection();
        for _ in &self.address.servers {
            match self.connect().await {
                Ok(link) => return Ok(link),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// Tries until that succeeds.
    async fn connect_again(&self) -> Link {
        let mut attempts = 0;
        loop {
            sleep(pause_before(attempts)).await;
            attempts += 1;
            match self.connect().await {
                Ok(link) => return link,
                Err(error) => tracing::debug!(%error, "appends have no connection"),
            }
        }
    }

    /// Refuses more and waits for what is on its way.
    pub(super) async fn close(&self) {
        self.room.close();
        let began = Instant::now();
        while !self.pending.lock().is_empty() && began.elapsed() < ACKNOWLEDGEMENT {
            sleep(Duration::from_millis(1)).await;
        }
        self.hang_up();
        self.fail_all("the log was closed before the server acknowledged");
    }

    async fn take_answers(self: &Arc<Self>, mut reader: Reader, line: &Line) -> Result<Infallible> {
        loop {
            let op = timeout(DEAD, reader.read()).await.map_err(|_| unavailable("the server is silent"))??;
            match op {
                Op::Message(answer) => self.answered(&answer),
                Op::Ping => {
                    let mut words = BytesMut::new();
                    wire::pong(&mut words);
                    line.say(&words);
                }
                Op::Error(error) => tracing::warn!(error, "NATS reports"),
                Op::Pong | Op::Info(_) | Op::Nothing => {}
            }
        }
    }

    fn answered(self: &Arc<Self>, answer: &Heard) {
        let number = answer.subject.get(self.inbox.len()..).and_then(|number| std::str::from_utf8(number).ok());
        let Some(number) = number.and_then(|number| number.parse().ok()) else { return };
        // None when it took too long.
        let Some(pending) = self.pending.lock().remove(&number) else { return };
        self.settle(number, pending, answer);
    }

    fn settle(self: &Arc<Self>, number: u64, pending: Pending, answer: &Heard) {
        if answer.headers.starts_with(wire::NO_RESPONDERS) {
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

    /// Tells those that have waited for too long.
    async fn sweep(&self) {
        loop {
            sleep(SWEEP).await;
            self.fail_late();
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

    /// Tells all: what was on its way may or may not have arrived.
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

fn no_connection() -> Error {
    Error::Unavailable("there is no connection to NATS".into())
}
