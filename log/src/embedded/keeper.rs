//! What is done now and then: the index and the progress of consumers are written down, old ids and old entries are
//! let go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use types::{ConversationId, Timestamp};

use super::consumers::Consumers;
use super::indexer;
use super::layout::Span;
use super::shard::Shard;
use super::store::Store;
use crate::Result;

/// The time between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// Entries that are removed in one go: appends wait no longer than for that.
const STEP_ENTRIES: usize = 256;
/// The same in bytes of payload.
const STEP_BYTES: usize = 4 << 20;
/// Goes per round after which it is left for the next: some 100,000 entries a second at most.
const STEPS: usize = 400;

/// Keeps the log tidy, on a thread of its own.
pub(crate) struct Keeper {
    pub(crate) shard: Arc<Shard>,
    pub(crate) store: Arc<Store>,
    pub(crate) consumers: Arc<Consumers>,
    /// How long entries are kept at least.
    pub(crate) retention: Duration,
}

impl Keeper {
    /// Runs until the other end of `woken` is dropped, and then writes down the progress of consumers once more.
    /// Each word that comes before means that it is time to index.
    pub(crate) fn run(&self, woken: &Receiver<()>) {
        let mut next_round = Instant::now() + ROUND;
        loop {
            match woken.recv_timeout(next_round.saturating_duration_since(Instant::now())) {
                Ok(()) => report("the log could not be indexed", indexer::advance(&self.shard, &self.store)),
                Err(RecvTimeoutError::Timeout) => {
                    next_round = Instant::now() + ROUND;
                    report("the log could not be tidied", self.tidy(Instant::now(), Timestamp::now()));
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        report("the progress of consumers could not be written down", self.save_progress());
    }

    /// One round, at the moment `now` of the two clocks.
    pub(crate) fn tidy(&self, instant: Instant, now: Timestamp) -> Result<()> {
        self.save_progress()?;
        self.shard.recent.lock().expire(instant);
        let until = now.minus(self.retention);
        let mut steps = 0;
        while steps < STEPS
            && let Some(span) = self.removable(until)?
        {
            steps += self.remove(span)?;
        }
        Ok(())
    }

    fn save_progress(&self) -> Result<()> {
        let mut batch = self.store.batch(0);
        if !self.consumers.save(&self.store, &mut batch) {
            return Ok(());
        }
        self.store.commit_lazily(batch)
    }

    /// The oldest span, if all of it was stored before `until`, has left memory and the duplicate window and is
    /// acknowledged by every consumer.
    ///
    /// The last entry always stays, so the next `seq` and the next moment are known when the log is opened.
    fn removable(&self, until: Timestamp) -> Result<Option<Span>> {
        let Some((span, _)) = self.store.outer_spans()? else { return Ok(None) };
        if span.last < self.shard.oldest() {
            // Its removal was broken off.
            return Ok(Some(span));
        }
        let tail = &self.shard.tail;
        let needed = tail.first_seq().min(tail.last_seq());
        let needed = needed.min(self.shard.recent.lock().oldest_seq().unwrap_or(u64::MAX));
        if span.last >= needed || self.consumers.acked_by_all().is_some_and(|acked| span.last > acked) {
            return Ok(None);
        }
        let is_old = self.store.entry(span.last)?.is_none_or(|(_, last)| last.at < until);
        Ok(is_old.then_some(span))
    }

    /// Removes the span in steps. How many it took.
    fn remove(&self, span: Span) -> Result<usize> {
        let oldest = self.shard.oldest().max(span.last + 1);
        self.shard.set_oldest(oldest);
        let mut batch = self.store.batch(1);
        self.store.put_oldest(&mut batch, oldest);
        self.store.commit_lazily(batch)?;
        let (mut from, mut steps) = (span.first, 1);
        loop {
            let entries = self.store.entries(from, span.last, STEP_ENTRIES, STEP_BYTES)?;
            let Some(last) = entries.last() else { break };
            let mut batch = self.store.batch(entries.len() * 2);
            for entry in &entries {
                self.store.remove_entry(&mut batch, entry.position.seq);
            }
            let conversations: BTreeSet<ConversationId> = entries.iter().map(|entry| entry.conversation).collect();
            for conversation in conversations {
                self.store.remove_in_span(&mut batch, conversation, span.first);
            }
            self.store.commit_lazily(batch)?;
            from = last.position.seq + 1;
            steps += 1;
        }
        let mut batch = self.store.batch(1);
        self.store.remove_span(&mut batch, span.first);
        self.store.commit_lazily(batch)?;
        Ok(steps)
    }
}

fn report(what: &str, result: Result<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, "{what}");
    }
}
