//! What is done now and then: progress of consumers is written down, old ids and old entries are let go.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use types::Timestamp;

use super::consumers::Consumers;
use super::shard::Shard;
use super::store::Store;
use crate::Result;

/// The time between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// Entries that are removed in one go: appends wait no longer than for that.
const STEP_ENTRIES: usize = 256;
/// The same in bytes of payload.
const STEP_BYTES: usize = 4 << 20;
/// Goes per round, so some 100,000 entries a second at most.
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
    /// Runs until the other end of `stop` is dropped, and then writes down the progress of consumers once more.
    pub(crate) fn run(&self, stop: &Receiver<()>) {
        while stop.recv_timeout(ROUND) == Err(RecvTimeoutError::Timeout) {
            if let Err(error) = self.tidy(Instant::now(), Timestamp::now()) {
                tracing::warn!(%error, "the log could not be tidied");
            }
        }
        if let Err(error) = self.save_progress() {
            tracing::warn!(%error, "the progress of consumers could not be written down; some events will come again");
        }
    }

    /// One round, at the moment `now` of the two clocks.
    pub(crate) fn tidy(&self, instant: Instant, now: Timestamp) -> Result<()> {
        self.save_progress()?;
        self.shard.recent.lock().expire(instant);
        for _ in 0..STEPS {
            if !self.remove_some(now.minus(self.retention))? {
                break;
            }
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

    /// Removes the oldest entries that were stored before `until`, have left memory and the duplicate window and
    /// are acknowledged by every consumer, a bounded number of them. Whether there may be more.
    ///
    /// The last entry always stays, so the next `seq` and the next moment are known when the log is opened.
    fn remove_some(&self, until: Timestamp) -> Result<bool> {
        let oldest = self.shard.oldest();
        let tail = &self.shard.tail;
        let needed = tail.first_seq().min(tail.last_seq());
        let needed = needed.min(self.shard.recent.lock().oldest_seq().unwrap_or(u64::MAX));
        let removable = self.consumers.acked_by_all().unwrap_or(u64::MAX).min(needed.saturating_sub(1));
        let mut entries = self.store.entries(oldest, removable, STEP_ENTRIES, STEP_BYTES)?;
        let found = entries.len();
        entries.truncate(entries.partition_point(|entry| entry.at < until));
        let Some(last) = entries.last() else { return Ok(false) };
        let next = last.position.seq + 1;
        let mut batch = self.store.batch(entries.len() * 2 + 1);
        self.store.put_oldest(&mut batch, next);
        for entry in &entries {
            self.store.remove_entry(&mut batch, entry.conversation, entry.position.seq);
        }
        self.shard.set_oldest(next);
        self.store.commit_lazily(batch)?;
        Ok(entries.len() == found)
    }
}
