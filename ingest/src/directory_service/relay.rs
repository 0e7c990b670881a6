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
//! All this is so for each shard by itself: a shard may be without a leader while the others go on. Rows of a shard
//! that has failed stay where they are, and the relay goes past them to those of the others.
//!
//! Notices go out before the rows leave the outbox: a crash between the two repeats them, which does no harm,
//! while the other way round it would lose them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use directory::{Lease, OutboxRow};
use futures_util::StreamExt;
use futures_util::future::{self, BoxFuture, FutureExt, TryFutureExt};
use log::{Append, Log, Request, Topic};
use tokio::sync::watch;
use tokio::time::Instant;
use types::{Body, ConversationId, Event, EventId, Notice, UserId};

use super::trace;
use crate::{Error, Result, Seams};

/// The service of whoever relays: it answers when all that was in the outbox is in the log.
const SERVICE: &str = "directory-relay";
/// Processes that are waited on at the same time.
const IN_FLIGHT: usize = 64;
/// Rows that are on their way at the same time.
pub(super) const BATCH: usize = 512;
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
    /// One for each shard.
    lanes: Vec<Lane>,
}

/// What is known of a shard's rows.
#[derive(Clone, Debug)]
struct Lane {
    /// Whether the outbox holds only such that were never handed to the log.
    is_fresh: bool,
    /// Until when they stay where they are, after a failure.
    rests_until: Option<Instant>,
    /// How long they do so after the next one.
    pause: Duration,
}

/// A way through the outbox, from its beginning to its end.
struct Pass {
    /// Rows at the beginning that stay where they are.
    staying: usize,
    /// Whose rows they are. What follows of these stays as well, or it would be told before them.
    shards: BTreeSet<u16>,
}

pub(super) fn new(seams: Seams) -> (Handle, Relay) {
    // The first pass, for what was left over, needs nobody to ask for it.
    let (asked, is_asked) = watch::channel(0);
    let (done, is_done) = watch::channel(0);
    let handle = Handle { asked, done: is_done };
    let lanes = vec![Lane::doubtful(); usize::from(seams.log.layout().shards)];
    (handle.clone(), Relay { seams, handle, asked: is_asked, done, lanes })
}

impl Lane {
    const fn doubtful() -> Self {
        Self { is_fresh: false, rests_until: None, pause: FIRST_PAUSE }
    }

    const fn fresh() -> Self {
        Self { is_fresh: true, ..Self::doubtful() }
    }

    fn rest(&mut self) {
        self.is_fresh = false;
        self.rests_until = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
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
        self.lanes.fill(Lane::doubtful());
        let mut pass = self.begin_pass();
        loop {
            // Before every batch: whoever lost the lease must not hand over what another one has taken up.
            lease.check().await?;
            let asked = *self.asked.borrow_and_update();
            match self.bring_batch(&mut pass).await {
                Ok(IsEnd(false)) => continue,
                Ok(IsEnd(true)) => {
                    pause = FIRST_PAUSE;
                    let patience = self.end_pass(&pass, asked);
                    // Whether anybody asks or not.
                    tokio::time::timeout(patience, self.asked.changed()).await.ok();
                }
                Err(error) => {
                    self.lanes.fill(Lane::doubtful());
                    tracing::warn!(%error, pause_ms = pause.as_millis(), "events wait in the directory's outbox");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            pass = self.begin_pass();
        }
    }

    fn begin_pass(&self) -> Pass {
        let now = Instant::now();
        let resting = (0..).zip(&self.lanes).filter(|(_, lane)| lane.rests_until.is_some_and(|until| until > now));
        Pass { staying: 0, shards: resting.map(|(shard, _)| shard).collect() }
    }

    /// Draws conclusions from having seen the whole outbox, and tells how long to wait before the next pass.
    fn end_pass(&mut self, pass: &Pass, asked: u64) -> Duration {
        for (shard, lane) in (0..).zip(&mut self.lanes) {
            if !pass.shards.contains(&shard) {
                *lane = Lane::fresh();
            }
        }
        if pass.staying == 0 {
            self.done.send_replace(asked);
        }
        let next = self.lanes.iter().filter_map(|lane| lane.rests_until).min();
        next.map_or(IDLE_PAUSE, |until| until.duration_since(Instant::now()).min(IDLE_PAUSE))
    }

    /// Brings over the first rows of the outbox behind those that stay, and tells whether they were all.
    async fn bring_batch(&mut self, pass: &mut Pass) -> Result<IsEnd> {
        let rows = self.seams.directory.outbox(pass.staying, BATCH).await?;
        let shards = self.seams.log.layout().shards;
        let stays = |row: &OutboxRow| pass.shards.contains(&row.conversation.shard(shards));
        let together = independent(&rows, stays);
        let is_end = together == rows.len() && together < BATCH;
        let (staying, ready) = rows.into_iter().take(together).partition::<Vec<_>, _>(stays);
        pass.staying += staying.len();
        if !ready.is_empty() {
            self.bring_all_over(ready, pass).await?;
        }
        Ok(IsEnd(is_end))
    }

    /// Brings rows over that may be stored in any order, each shard's by themselves.
    async fn bring_all_over(&mut self, rows: Vec<OutboxRow>, pass: &mut Pass) -> Result<()> {
        // Before the events, so that whoever reads because of one sees what it tells of.
        let version = self.seams.directory.version().await?;
        super::announce(&*self.seams.log, version).await;
        let mut by_shard = BTreeMap::<u16, Vec<OutboxRow>>::new();
        for row in rows {
            by_shard.entry(row.conversation.shard(self.seams.log.layout().shards)).or_default().push(row);
        }
        let bringing = by_shard.iter().map(|(shard, rows)| self.bring_over(*shard, rows));
        let brought = future::join_all(bringing).await;
        for (shard, brought) in by_shard.into_keys().zip(brought) {
            let Brought { staying, failure } = brought?;
            let Some(error) = failure else { continue };
            let lane = &mut self.lanes[usize::from(shard)];
            let pause_ms = lane.pause.as_millis();
            tracing::warn!(shard, %error, pause_ms, "events of a shard wait in the directory's outbox");
            lane.rest();
            pass.shards.insert(shard);
            pass.staying += staying;
        }
        Ok(())
    }

    /// Brings over those rows of a shard that the log takes, though it fails on others.
    async fn bring_over(&self, shard: u16, rows: &[OutboxRow]) -> Result<Brought> {
        match self.hand_over(shard, rows).await {
            Ok(stored) => self.settle(rows, stored).await,
            Err(error) => Ok(Brought { staying: rows.len(), failure: Some(error) }),
        }
    }

    /// Gives the `seq` of each row, once it is stored.
    async fn hand_over(&self, shard: u16, rows: &[OutboxRow]) -> Result<Vec<log::Result<u64>>> {
        let is_fresh = self.lanes[usize::from(shard)].is_fresh;
        let found = if is_fresh { BTreeMap::new() } else { trace::find(&self.seams, rows).await? };
        let storing = tokio::time::timeout(STORE_WAIT, self.store(rows, &found));
        storing.await.map_err(|_| log::Error::Unavailable(format!("nothing was stored in {STORE_WAIT:?}")).into())
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
    async fn settle(&self, rows: &[OutboxRow], stored: Vec<log::Result<u64>>) -> Result<Brought> {
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
        Ok(Brought { staying: rows.len() - over.len(), failure })
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
struct IsEnd(bool);

/// What became of the rows of a shard.
struct Brought {
    /// How many of them stay in the outbox.
    staying: usize,
    /// Why they do.
    failure: Option<Error>,
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

/// How many rows from the first on may be stored in any order, not counting those that stay: one fails, those behind
/// it do not, and when it is stored at last, nothing it says has been superseded.
fn independent(rows: &[OutboxRow], stays: impl Fn(&OutboxRow) -> bool) -> usize {
    let mut seen = HashSet::new();
    rows.iter().take_while(|row| stays(row) || seen.insert(subject(row))).count()
}

/// What a row is about: one user's membership, or else the conversation itself.
fn subject(row: &OutboxRow) -> (ConversationId, Option<UserId>) {
    let user = match Event::decode(&row.payload).map(|event| event.body) {
        Ok(Body::MemberAdded { user } | Body::MemberRemoved { user }) => Some(user),
        _ => None,
    };
    (row.conversation, user)
}
