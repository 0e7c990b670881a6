//! From the directory's outbox into the log.
//!
//! One task brings the rows over in their order: it hands them to the log, waits until they are stored, sends
//! their notices, and takes them out of the outbox. It can be interrupted at any point and begins anew with the
//! same rows and ids, and the log refuses an id that it has. But the log remembers ids for a while only. So
//! after a start, and after any failure, until the outbox has once been empty, a row may be one that was stored
//! long ago; every row is then looked for in the log (`trace`) before it is handed over. Rows that come into
//! an outbox which had been empty are new, and are handed over unseen.
//!
//! Notices go out before the rows leave the outbox: a crash between the two repeats them, which does no harm,
//! while the other way round it would lose them.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use directory::{Directory, OutboxRow};
use futures_util::future::{self, BoxFuture, FutureExt, TryFutureExt};
use log::{Append, Log, Topic};
use tokio::sync::watch;
use types::{Body, ConversationId, Event, EventId, Notice, UserId};

use super::trace;
use crate::{Error, Result};

/// Rows that are on their way at the same time.
const BATCH: usize = 512;
/// How long an answer waits for its events to be in the log. They get there without it, too.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// How long a batch may take to be stored before it is begun anew.
const STORE_WAIT: Duration = Duration::from_secs(10);
/// The pause after a first failure; it doubles with every further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Wakes the relay.
pub(super) struct Handle {
    /// How often it was asked.
    asked: watch::Sender<u64>,
    /// Up to which asking all is done.
    done: watch::Receiver<u64>,
}

pub(super) struct Relay {
    log: Arc<dyn Log>,
    directory: Arc<dyn Directory>,
    asked: watch::Receiver<u64>,
    done: watch::Sender<u64>,
    /// Whether the outbox holds only rows that were never handed to the log.
    is_fresh: bool,
}

pub(super) fn new(log: Arc<dyn Log>, directory: Arc<dyn Directory>) -> (Handle, Relay) {
    // The first pass, for what was left over, needs nobody to ask for it.
    let (asked, is_asked) = watch::channel(0);
    let (done, is_done) = watch::channel(0);
    let relay = Relay { log, directory, asked: is_asked, done, is_fresh: false };
    (Handle { asked, done: is_done }, relay)
}

impl Handle {
    /// Waits until all that is in the outbox now is in the log, but not for long.
    pub(super) async fn wait(&self) {
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
    }
}

impl Relay {
    /// Brings over what is in the outbox, at once and then whenever asked. May be dropped at any point.
    pub(super) async fn run(mut self) -> Infallible {
        let mut pause = FIRST_PAUSE;
        loop {
            let asked = *self.asked.borrow_and_update();
            match self.empty_outbox().await {
                Ok(()) => {
                    self.is_fresh = true;
                    self.done.send_replace(asked);
                    pause = FIRST_PAUSE;
                    self.next_asking().await;
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

    async fn next_asking(&mut self) {
        if self.asked.changed().await.is_err() {
            // Nobody is left who could ask; whoever runs this drops it.
            future::pending::<()>().await;
        }
    }

    /// Brings over every row that is in the outbox now.
    async fn empty_outbox(&self) -> Result<()> {
        loop {
            let rows = self.directory.outbox(BATCH).await?;
            let together = independent(&rows);
            self.bring_over(&rows[..together]).await?;
            if together == rows.len() && together < BATCH {
                return Ok(());
            }
        }
    }

    /// Brings rows over that may be stored in any order: those that the log takes, though it fails on others.
    async fn bring_over(&self, rows: &[OutboxRow]) -> Result<()> {
        let found = if self.is_fresh { BTreeMap::new() } else { trace::find(&*self.log, rows).await? };
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
            receipts.push(match self.log.append(append).await {
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
            self.directory.relayed(&over).await?;
        }
        failure.map_or(Ok(()), Err)
    }

    async fn tell(&self, row: &OutboxRow, seq: u64) {
        let Some((user, notice)) = notice(row, seq) else { return };
        for topic in [Topic::User(user), Topic::Directory] {
            if let Err(error) = self.log.notify(topic, notice.encode()).await {
                tracing::warn!(%error, "a notice was not sent");
            }
        }
    }
}

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
