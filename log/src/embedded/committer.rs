//! The one writer: takes what waits, orders it, stores it in one go and tells everybody.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use metrics::{Counter, Histogram};
use tokio::sync::{mpsc, oneshot};
use types::{ConversationId, Entry, EventId, Position, Timestamp};

use super::indexer;
use super::layout::{Head, Record};
use super::queue::{Pending, Queue};
use super::shard::Shard;
use super::store::{Batch, Store};
use super::tail::Arrears;
use crate::{Append, Appended, Error, Result};

/// Events that are stored in one go, at most.
const BATCH: usize = 1_000;

/// Stores what is in the queue, on a thread of its own. There is no delay to gather more: while one batch is
/// written to disk the next piles up.
///
/// What a batch changes is kept aside until the disk has it. When the disk fails, its receipts fail, nothing of
/// it shows in memory, and the committer stores nothing more: whether the batch is on disk is known only after
/// the log is opened anew, and until then no `seq` may be given twice.
pub(crate) struct Committer {
    shard: Arc<Shard>,
    store: Arc<Store>,
    queue: Arc<Queue>,
    keeper: SyncSender<()>,
    waiting: mpsc::UnboundedReceiver<Pending>,
    /// The last moment given to an event: the next is not earlier, whatever the clock says.
    last_at: Timestamp,
    /// Why the disk can no longer be written to.
    broken: Option<String>,
    staged: Staged,
    metrics: Metrics,
}

/// What the batch in the making will change.
#[derive(Default)]
struct Staged {
    entries: Vec<Entry>,
    /// The entries' ids, in the same order.
    ids: Vec<EventId>,
    /// Where in `entries` an id is.
    index_of: HashMap<EventId, usize>,
    heads: HashMap<ConversationId, Head>,
    receipts: Vec<(oneshot::Sender<Result<Appended>>, Outcome)>,
}

/// What becomes of an append when the batch is stored.
enum Outcome {
    /// It is the entry at this index; `duplicate` when another append in the batch has stored it.
    Entry { index: usize, duplicate: bool },
    /// Known already.
    Settled(Result<Appended>),
}

struct Metrics {
    events: Counter,
    duplicates: Counter,
    batch_events: Histogram,
    commit_seconds: Histogram,
}

impl Committer {
    /// A committer of what comes out of the queue; `last_at` is the moment of the last entry. `keeper` is told when
    /// it is time to index.
    pub(crate) fn new(
        shard: Arc<Shard>,
        store: Arc<Store>,
        (queue, waiting): (Arc<Queue>, mpsc::UnboundedReceiver<Pending>),
        keeper: SyncSender<()>,
        last_at: Timestamp,
    ) -> Self {
        let metrics = Metrics {
            events: metrics::counter!("rookery_log_events_total"),
            duplicates: metrics::counter!("rookery_log_duplicates_total"),
            batch_events: metrics::histogram!("rookery_log_batch_events"),
            commit_seconds: metrics::histogram!("rookery_log_commit_seconds"),
        };
        let staged = Staged::default();
        Self { shard, store, queue, keeper, waiting, last_at, broken: None, staged, metrics }
    }

    /// Runs until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let mut pending = Vec::with_capacity(BATCH);
        while self.waiting.blocking_recv_many(&mut pending, BATCH) > 0 {
            let room = pending.iter().map(|pending| pending.room as usize).sum();
            self.store(&mut pending);
            self.queue.release(room);
            self.keep_indexed();
        }
    }

    /// Has the index brought up to date when there is much that it does not lead to.
    fn keep_indexed(&mut self) {
        match self.shard.tail.arrears() {
            _ if self.broken.is_some() => {}
            Arrears::Few => {}
            // When it was told already, once is enough.
            Arrears::Due => drop(self.keeper.try_send(())),
            // The keeper does not keep up, so it is done here and appends wait.
            Arrears::Overdue => {
                if let Err(error) = indexer::advance(&self.shard, &self.store) {
                    self.fail(&error);
                }
            }
        }
    }

    /// Stores `pending` and settles every receipt.
    fn store(&mut self, pending: &mut Vec<Pending>) {
        let began = Instant::now();
        let mut batch = self.store.batch(pending.len());
        self.last_at = self.last_at.max(Timestamp::now());
        for Pending { append, receipt, .. } in pending.drain(..) {
            let outcome = self.stage(&mut batch, append).unwrap_or_else(|error| Outcome::Settled(Err(error)));
            self.staged.receipts.push((receipt, outcome));
        }
        if !self.staged.entries.is_empty() {
            self.commit(batch, began);
        }
        self.settle();
    }

    /// Decides what becomes of an append, and adds it to the batch if it is new.
    fn stage(&mut self, batch: &mut Batch, append: Append) -> Result<Outcome> {
        if let Some(reason) = &self.broken {
            return Err(Error::Unavailable(reason.clone()));
        }
        let Append { conversation, id, payload, trace } = append;
        if let Some(index) = self.staged.index_of.get(&id) {
            return Ok(Outcome::Entry { index: *index, duplicate: true });
        }
        if let Some(first) = self.find_stored(&id)? {
            return Ok(Outcome::Settled(Ok(first)));
        }
        let prev = self.head(conversation)?.map_or(0, |head| head.seq);
        let index = self.staged.entries.len();
        let seq = self.shard.tail.last_seq() + 1 + index as u64;
        let at = self.last_at;
        self.store.put_entry(batch, seq, &Record { prev, at, id, conversation, payload: &payload, trace });
        self.staged.heads.insert(conversation, Head { seq, at });
        self.staged.ids.push(id);
        self.staged.index_of.insert(id, index);
        let position = Position { epoch: self.store.layout.epoch, seq };
        self.staged.entries.push(Entry { conversation, position, prev, at, payload, trace });
        Ok(Outcome::Entry { index, duplicate: false })
    }

    /// The event with this id, if it was stored within the duplicate window.
    fn find_stored(&self, id: &EventId) -> Result<Option<Appended>> {
        let recent = self.shard.recent.lock();
        for seq in recent.candidates(id) {
            if let Some((stored, entry)) = self.store.entry(seq)?
                && stored == *id
            {
                return Ok(Some(Appended { position: entry.position, at: entry.at, duplicate: true }));
            }
        }
        if recent.is_full() {
            return Err(Error::Unavailable("there are too many events for the duplicate window".into()));
        }
        Ok(None)
    }

    /// The conversation's last event, of this batch or stored.
    fn head(&self, conversation: ConversationId) -> Result<Option<Head>> {
        if let Some(head) = self.staged.heads.get(&conversation) {
            return Ok(Some(*head));
        }
        self.shard.head(&self.store, conversation)
    }

    /// Writes the batch to disk, then to memory.
    fn commit(&mut self, batch: Batch, began: Instant) {
        let Staged { entries, ids, heads, receipts, .. } = &mut self.staged;
        if let Err(error) = self.store.commit_durably(batch) {
            return self.fail(&error);
        }
        self.metrics.events.increment(entries.len() as u64);
        self.metrics.batch_events.record(entries.len() as f64);
        self.metrics.commit_seconds.record(began.elapsed().as_secs_f64());
        self.shard.remember(ids, entries, heads);
        for (_, outcome) in receipts {
            if let Outcome::Entry { index, duplicate } = *outcome {
                let Entry { position, at, .. } = entries[index];
                *outcome = Outcome::Settled(Ok(Appended { position, at, duplicate }));
            }
        }
        self.shard.tail.publish(entries.drain(..).collect());
    }

    /// Turns what was to be stored into errors, now and from now on.
    fn fail(&mut self, error: &Error) {
        tracing::error!(%error, events = self.staged.entries.len(), "the log cannot be written to any more");
        let reason = format!("its disk failed: {error}");
        for (_, outcome) in &mut self.staged.receipts {
            if matches!(outcome, Outcome::Entry { .. }) {
                *outcome = Outcome::Settled(Err(Error::Unavailable(reason.clone())));
            }
        }
        self.broken = Some(reason);
    }

    /// Sends every receipt and clears the stage.
    fn settle(&mut self) {
        let Staged { entries, ids, index_of, heads, receipts } = &mut self.staged;
        entries.clear();
        ids.clear();
        index_of.clear();
        heads.clear();
        let mut duplicates = 0;
        for (receipt, outcome) in receipts.drain(..) {
            let Outcome::Settled(result) = outcome else { continue };
            duplicates += u64::from(matches!(result, Ok(Appended { duplicate: true, .. })));
            // Whoever no longer waits for the receipt does not take the append back.
            drop(receipt.send(result));
        }
        self.metrics.duplicates.increment(duplicates);
    }
}

impl Drop for Committer {
    /// Nobody may wait for a committer that is gone, be it by a panic.
    fn drop(&mut self) {
        self.queue.close();
        self.shard.tail.close();
    }
}
