//! From the directory's outbox into the log.
//!
//! Of all processes that serve, one has the directory's lease and relays for all; the others ask it over the
//! log's bus when they have put something into the outbox, and stand ready to follow it.
//!
//! The relay brings the rows over in their order: it hands them to the log, waits until they are stored, sends
//! their notices, and takes them out of the outbox. It can be interrupted at any point, and it or the next one
//! begins anew with the same rows and ids, and the log refuses an id that it has. But the log remembers ids for
//! a while only. So after a start, and after any failure, until the outbox has once been empty, a row may be one
//! that was stored long ago; every row is then looked for (`trace`) before it is handed over. Rows that come into
//! an outbox which had been empty are new, and are handed over unseen.
//!
//! Notices go out before the rows leave the outbox: a crash between the two repeats them, which does no harm,
//! while the other way round it would lose them.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use directory::{Lease, OutboxRow};
use futures_util::StreamExt;
use futures_util::future::{self, BoxFuture, FutureExt, TryFutureExt};
use log::{Append, Log, Request, Topic};
use tokio::sync::watch;
use types::{Body, ConversationId, Event, EventId, Notice, UserId};

use super::trace;
use crate::{Error, Result, Seams};

/// The service of whoever relays: it answers when all that was in the outbox is in the log.
const SERVICE: &str = "directory-relay";
/// Processes that are waited on at the same time.
const IN_FLIGHT: usize = 64;
/// Rows that are on their way at the same time.
const BATCH: usize = 512;
/// How long an answer waits for its events to be in the log. They get there without it, too.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// How long a batch may take to be stored before it is begun anew.
const STORE_WAIT: Duration = Duration::from_secs(10);
/// How often the outbox is looked into, and the lease looked after, when nobody asks.
const IDLE_PAUSE: Duration = Duration::from_secs(1);
/// The pause after a first failure; it doubles with every further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Wakes the relay.
#[derive(Clone)]
pub(super) struct Handle {
    /// How often it was asked.
    asked: watch::Sender<u64>,
    /// Up to which asking all is done.
    done: watch::Receiver<u64>,
}

pub(super) struct Relay {
    seams: Seams,
    handle: Handle,
    asked: watch::Receiver<u64>,
    done: watch::Sender<u64>,
    /// Whether the outbox holds only rows that were never handed to the log.
    is_fresh: bool,
}

pub(super) fn new(seams: Seams) -> (Handle, Relay) {
    // The first pass, for what was left over, needs nobody to ask for it.
    let (asked, is_asked) = watch::channel(0);
    let (done, is_done) = watch::channel(0);
    let handle = Handle { asked, done: is_done };
    (handle.clone(), Relay { seams, handle, asked: is_asked, done, is_fresh: false })
}

impl Handle {
    /// Waits until all that is in the outbox now is in the log, but not for long. Tells whether it is.
    pub(super) async fn wait(&self) -> bool {
        let mut turn = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            turn = *asked;
        });
        let mut done = self.done.clone();
        let in_time = tokio::time::timeout(ANSWER_WAIT, done.wait_for(|done| *done >= turn)).await;
        if in_time.is_err() {
            tracing::debug!("an answer went ahead of its events");
        }
        in_time.is_ok()
    }

    /// Has other processes wait in the same way.
    async fn serve(&self, log: &dyn Log) -> Result<Infallible> {
        let requests = log.serve(SERVICE).await?;
        let answer = async |request: Request| {
            if self.wait().await {
                request.answer(Bytes::new());
            }
        };
        super::each(requests).for_each_concurrent(IN_FLIGHT, answer).await;
        Err(log::Error::Unavailable("the log was closed".into()).into())
    }
}

impl Relay {
    /// Relays whenever this process has the lease. May be dropped at any point.
    pub(super) async fn run(mut self) -> Infallible {
        let mut pause = FIRST_PAUSE;
        loop {
            let ended = match self.seams.directory.lease().await {
                Ok(Some(lease)) => self.lead(lease).await,
                Ok(None) => self.follow().await,
                Err(error) => Err(error.into()),
            };
            match ended {
                Ok(()) => pause = FIRST_PAUSE,
                Err(error) => {
                    tracing::warn!(%error, pause_ms = pause.as_millis(), "this process cannot relay events");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Has the process that relays bring over what this one put into the outbox, and sees from time to time
    /// whether the lease is free.
    async fn follow(&mut self) -> Result<()> {
        let asked = *self.asked.borrow_and_update();
        if asked <= *self.done.borrow() {
            // Whether anybody asks or not.
            tokio::time::timeout(IDLE_PAUSE, self.asked.changed()).await.ok();
            return Ok(());
        }
        match self.seams.log.request(SERVICE, Bytes::new(), ANSWER_WAIT).await {
            Ok(_) => {
                self.done.send_replace(asked);
            }
            Err(error) => {
                tracing::debug!(%error, "the process that relays did not answer");
                tokio::time::sleep(FIRST_PAUSE).await;
            }
        }
        Ok(())
    }

    /// Relays as long as the lease holds, at once and then whenever asked.
    async fn lead(&mut self, lease: Lease) -> Result<()> {
        let (handle, log) = (self.handle.clone(), self.seams.log.clone());
        tokio::select! {
            lost = self.relay(lease) => lost,
            failed = handle.serve(&*log) => failed.map(|never| match never {}),
        }
    }

    async fn relay(&mut self, mut lease: Lease) -> Result<()> {
        let mut pause = FIRST_PAUSE;
        self.is_fresh = false;
        loop {
            // Before every batch: whoever lost the lease must not hand over what another one has taken up.
            lease.check().await?;
            let asked = *self.asked.borrow_and_update();
            match self.bring_batch().await {
                Ok(IsEmpty(false)) => {}
                Ok(IsEmpty(true)) => {
                    self.is_fresh = true;
                    self.done.send_replace(asked);
                    pause = FIRST_PAUSE;
                    // Whether anybody asks or not.
                    tokio::time::timeout(IDLE_PAUSE, self.asked.changed()).await.ok();
                }
                Err(error) => {
                    self.is_fresh = false;
                    tracing::warn!(%error, pause_ms = pause.as_millis(), "events wait in the directory's outbox");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Brings over the first rows of the outbox, and tells whether they were all.
    async fn bring_batch(&self) -> Result<IsEmpty> {
        let rows = self.seams.directory.outbox(BATCH).await?;
        let together = independent(&rows);
        if together > 0 {
            self.bring_over(&rows[..together]).await?;
        }
        Ok(IsEmpty(together == rows.len() && together < BATCH))
    }

    /// Brings rows over that may be stored in any order: those that the log takes, though it fails on others.
    async fn bring_over(&self, rows: &[OutboxRow]) -> Result<()> {
        // Before the events, so that whoever reads because of one sees what it tells of.
        let version = self.seams.directory.version().await?;
        super::announce(&*self.seams.log, version).await;
        let found = if self.is_fresh { BTreeMap::new() } else { trace::find(&self.seams, rows).await? };
        let Ok(stored) = tokio::time::timeout(STORE_WAIT, self.store(rows, &found)).await else {
            return Err(log::Error::Unavailable(format!("nothing was stored in {STORE_WAIT:?}")).into());
        };
        self.settle(rows, stored).await
    }

    /// Stores rows that are not `found` in the log, and gives the `seq` of each.
    async fn store(&self, rows: &[OutboxRow], found: &BTreeMap<EventId, u64>) -> Vec<log::Result<u64>> {
        let mut receipts: Vec<BoxFuture<'_, _>> = Vec::with_capacity(rows.len());
        for row in rows {
            if let Some(seq) = found.get(&row.id) {
                receipts.push(future::ready(Ok(*seq)).boxed());
                continue;
            }
            let append =
                Append { conversation: row.conversation, id: row.id, payload: row.payload.clone(), trace: None };
            receipts.push(match self.seams.log.append(append).await {
                Ok(receipt) => receipt.map_ok(|appended| appended.position.seq).boxed(),
                Err(error) => future::ready(Err(error)).boxed(),
            });
        }
        future::join_all(receipts).await
    }

    /// Tells of rows that are stored and takes them out of the outbox.
    async fn settle(&self, rows: &[OutboxRow], stored: Vec<log::Result<u64>>) -> Result<()> {
        let mut over = Vec::with_capacity(rows.len());
        let mut failure = None;
        for (row, stored) in rows.iter().zip(stored) {
            match stored {
                Ok(seq) => {
                    self.tell(row, seq).await;
                    over.push(row.id);
                }
                // It would be refused for ever, and hold up everything behind it.
                Err(error @ log::Error::Refused(_)) => {
                    tracing::error!(%error, event = %row.id, conversation = %row.conversation, "an event was given up");
                    over.push(row.id);
                }
                Err(error) => failure = Some(Error::Log(error)),
            }
        }
        if !over.is_empty() {
            self.seams.directory.relayed(&over).await?;
        }
        failure.map_or(Ok(()), Err)
    }

    async fn tell(&self, row: &OutboxRow, seq: u64) {
        let Some((user, notice)) = notice(row, seq) else { return };
        for topic in [Topic::User(user), Topic::Directory] {
            if let Err(error) = self.seams.log.notify(topic, notice.encode()).await {
                tracing::warn!(%error, "a notice was not sent");
            }
        }
    }
}

/// Whether the outbox has been seen to its end.
struct IsEmpty(bool);

/// Whom a row concerns, and what it and the edges are told.
fn notice(row: &OutboxRow, seq: u64) -> Option<(UserId, Notice)> {
    let ConversationId::Group(group) = row.conversation else { return None };
    match Event::decode(&row.payload).ok()?.body {
        Body::MemberAdded { user } => Some((user, Notice::MemberAdded { group, user, seq })),
        Body::MemberRemoved { user } => Some((user, Notice::MemberRemoved { group, user })),
        _ => None,
    }
}

/// How many rows from the first on may be stored in any order: one fails, those behind it do not, and when it
/// is stored at last, nothing it says has been superseded.
fn independent(rows: &[OutboxRow]) -> usize {
    let mut seen = HashSet::new();
    rows.iter().take_while(|row| seen.insert(subject(row))).count()
}

/// What a row is about: one user's membership, or else the conversation itself.
fn subject(row: &OutboxRow) -> (ConversationId, Option<UserId>) {
    let user = match Event::decode(&row.payload).map(|event| event.body) {
        Ok(Body::MemberAdded { user } | Body::MemberRemoved { user }) => Some(user),
        _ => None,
    };
    (row.conversation, user)
}
