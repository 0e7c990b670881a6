//! The end of the log in memory: what was just stored is read by all who follow without touching the disk, and is
//! found without an index.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;
use types::Entry;

/// How much the tail holds. When either is exceeded, the oldest batches go, as far as they are indexed; when half of
/// either is not indexed, it is time to index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 32_768, bytes: 16 << 20 }
    }
}

/// The last entries of the shard, in the batches in which they were stored.
pub(crate) struct Tail {
    batches: RwLock<Batches>,
    published: watch::Sender<Published>,
    limits: Limits,
}

/// How far the log can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Published {
    /// The last stored `seq`.
    pub(crate) seq: u64,
    /// Nothing will follow.
    pub(crate) closed: bool,
}

/// What follows a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A batch that contains the next entry, and the next entry's index in it.
    Entries(Arc<[Entry]>, usize),
    /// Nothing yet.
    Nothing,
    /// The next entry has left memory; the tail begins at this `seq`.
    OnDisk(u64),
}

struct Batches {
    queue: VecDeque<Batch>,
    entries: usize,
    bytes: usize,
    last_seq: u64,
    /// The last `seq` that the index on disk leads to. What is later stays in memory.
    indexed: u64,
    /// The bytes of what is later.
    unindexed_bytes: usize,
}

/// How much of the tail is not indexed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrears {
    /// Little.
    Few,
    /// It is time to index.
    Due,
    /// No more may be added before it is indexed.
    Overdue,
}

struct Batch {
    first_seq: u64,
    bytes: usize,
    entries: Arc<[Entry]>,
}

impl Tail {
    /// An empty tail after `last_seq`, up to which everything is indexed.
    pub(crate) fn new(last_seq: u64, limits: Limits) -> Self {
        let queue = VecDeque::new();
        let batches = Batches { queue, entries: 0, bytes: 0, last_seq, indexed: last_seq, unindexed_bytes: 0 };
        Self {
            batches: RwLock::new(batches),
            published: watch::Sender::new(Published { seq: last_seq, closed: false }),
            limits,
        }
    }

    /// Adds entries that are stored and follow the last one without a gap, and wakes all who wait for them.
    pub(crate) fn publish(&self, entries: Arc<[Entry]>) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        let (first_seq, last_seq) = (first.position.seq, last.position.seq);
        let bytes = entries.iter().map(|entry| entry.payload.len() + size_of::<Entry>()).sum();
        let batch = Batch { first_seq, bytes, entries };
        let evicted = self.batches.write().push(batch, last_seq, self.limits);
        self.published.send_modify(|published| published.seq = last_seq);
        // Freed after the lock is released and the readers are on their way.
        drop(evicted);
    }

    /// Says that everything up to and with `seq`, the end of a batch, is indexed.
    pub(crate) fn set_indexed(&self, seq: u64) {
        let evicted = self.batches.write().set_indexed(seq, self.limits);
        drop(evicted);
    }

    /// The last `seq` that the index leads to.
    pub(crate) fn indexed(&self) -> u64 {
        self.batches.read().indexed
    }

    /// The batches that are not indexed, oldest first.
    pub(crate) fn unindexed(&self) -> Vec<Arc<[Entry]>> {
        let batches = self.batches.read();
        let from = batches.queue.partition_point(|batch| batch.first_seq <= batches.indexed);
        batches.queue.range(from..).map(|batch| Arc::clone(&batch.entries)).collect()
    }

    /// Whether it is time to index.
    pub(crate) fn arrears(&self) -> Arrears {
        let batches = self.batches.read();
        let entries = usize::try_from(batches.last_seq - batches.indexed).unwrap_or(usize::MAX);
        let exceeds =
            |share| entries > self.limits.entries / share || batches.unindexed_bytes > self.limits.bytes / share;
        if exceeds(1) {
            return Arrears::Overdue;
        }
        if exceeds(2) { Arrears::Due } else { Arrears::Few }
    }

    /// Tells all who follow that nothing will come any more.
    pub(crate) fn close(&self) {
        self.published.send_modify(|published| published.closed = true);
    }

    /// To wait for more.
    pub(crate) fn watch(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }

    /// How far the log can be read now.
    pub(crate) fn published(&self) -> Published {
        *self.published.borrow()
    }

    /// The last stored `seq`, 0 when there is none.
    pub(crate) fn last_seq(&self) -> u64 {
        self.published.borrow().seq
    }

    /// The `seq` from which on entries are in memory: one more than the last when none is.
    pub(crate) fn first_seq(&self) -> u64 {
        self.batches.read().first_seq()
    }

    /// What follows `seq`.
    pub(crate) fn after(&self, seq: u64) -> Next {
        let batches = self.batches.read();
        if seq >= batches.last_seq {
            return Next::Nothing;
        }
        match batches.locate(seq + 1) {
            Some((batch, index)) => Next::Entries(Arc::clone(&batch.entries), index),
            None => Next::OnDisk(batches.first_seq()),
        }
    }

    /// The oldest `limit` events after `after_seq` of the conversation whose last event is `head_seq`, found by
    /// walking back from `prev` to `prev`. `None` when the walk leaves memory or takes more than `steps`.
    pub(crate) fn chain(&self, head_seq: u64, after_seq: u64, limit: usize, steps: usize) -> Option<Vec<Entry>> {
        let batches = self.batches.read();
        let mut found = Vec::new();
        let mut seq = head_seq;
        while seq > after_seq {
            if found.len() == steps {
                return None;
            }
            let (batch, index) = batches.locate(seq)?;
            let entry = &batch.entries[index];
            found.push(entry);
            seq = entry.prev;
        }
        Some(found.into_iter().rev().take(limit).cloned().collect())
    }
}

impl Batches {
    fn first_seq(&self) -> u64 {
        self.queue.front().map_or(self.last_seq + 1, |batch| batch.first_seq)
    }

    /// Adds a batch and gives what no longer fits.
    fn push(&mut self, batch: Batch, last_seq: u64, limits: Limits) -> Vec<Batch> {
        self.entries += batch.entries.len();
        self.bytes += batch.bytes;
        self.unindexed_bytes += batch.bytes;
        self.last_seq = last_seq;
        self.queue.push_back(batch);
        self.evict(limits)
    }

    /// Notes how far the index leads and gives what no longer fits.
    fn set_indexed(&mut self, seq: u64, limits: Limits) -> Vec<Batch> {
        let from = self.queue.partition_point(|batch| batch.first_seq <= self.indexed);
        let to = self.queue.partition_point(|batch| batch.first_seq <= seq);
        self.unindexed_bytes -= self.queue.range(from..to).map(|batch| batch.bytes).sum::<usize>();
        self.indexed = seq;
        self.evict(limits)
    }

    /// The newest batch stays, however large.
    fn evict(&mut self, limits: Limits) -> Vec<Batch> {
        let mut evicted = Vec::new();
        while (self.entries > limits.entries || self.bytes > limits.bytes)
            && self.queue.get(1).is_some_and(|next| next.first_seq <= self.indexed + 1)
        {
            let Some(oldest) = self.queue.pop_front() else { break };
            self.entries -= oldest.entries.len();
            self.bytes -= oldest.bytes;
            evicted.push(oldest);
        }
        evicted
    }

    /// The batch that holds `seq`, and where in it.
    fn locate(&self, seq: u64) -> Option<(&Batch, usize)> {
        let after = self.queue.partition_point(|batch| batch.first_seq <= seq);
        let batch = self.queue.get(after.checked_sub(1)?)?;
        let index = usize::try_from(seq - batch.first_seq).ok()?;
        (index < batch.entries.len()).then_some((batch, index))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use types::{ConversationId, Epoch, GroupId, Position, Region, Timestamp};

    use super::*;

    fn entries(conversation: ConversationId, seqs: std::ops::RangeInclusive<u64>) -> Arc<[Entry]> {
        let entry = |seq| Entry {
            conversation,
            position: Position { epoch: Epoch::default(), seq },
            prev: seq - 1,
            at: Timestamp::default(),
            payload: Bytes::from_static(b"{}"),
            trace: None,
        };
        seqs.map(entry).collect()
    }

    fn conversation() -> ConversationId {
        GroupId::generate(Region::default()).into()
    }

    #[test]
    fn every_place_leads_to_the_next_entry() {
        let tail = Tail::new(4, Limits::default());
        assert_eq!((tail.after(4), tail.first_seq()), (Next::Nothing, 5));
        let conversation = conversation();
        tail.publish(entries(conversation, 5..=7));
        tail.publish(entries(conversation, 8..=8));
        for seq in 4..8 {
            let Next::Entries(batch, index) = tail.after(seq) else { panic!("nothing after {seq}") };
            assert_eq!(batch[index].position.seq, seq + 1);
        }
        assert_eq!(tail.after(8), Next::Nothing);
        assert_eq!(tail.after(3), Next::OnDisk(5));
    }

    #[test]
    fn the_oldest_batches_leave_when_there_are_too_many_entries() {
        let tail = Tail::new(0, Limits { entries: 3, bytes: usize::MAX });
        tail.publish(entries(conversation(), 1..=2));
        tail.set_indexed(2);
        tail.publish(entries(conversation(), 3..=4));
        assert_eq!((tail.first_seq(), tail.last_seq()), (3, 4));
    }

    #[test]
    fn the_oldest_batches_leave_when_there_are_too_many_bytes() {
        let tail = Tail::new(0, Limits { entries: usize::MAX, bytes: 1 });
        tail.publish(entries(conversation(), 1..=2));
        tail.set_indexed(2);
        tail.publish(entries(conversation(), 3..=3));
        assert_eq!((tail.first_seq(), tail.last_seq()), (3, 3));
    }

    #[test]
    fn what_is_not_indexed_stays_and_says_when_it_is_time() {
        let tail = Tail::new(10, Limits { entries: 4, bytes: usize::MAX });
        tail.publish(entries(conversation(), 11..=12));
        assert_eq!(tail.arrears(), Arrears::Few);
        tail.publish(entries(conversation(), 13..=14));
        assert_eq!(tail.arrears(), Arrears::Due);
        tail.publish(entries(conversation(), 15..=15));
        assert_eq!((tail.arrears(), tail.first_seq(), tail.unindexed().len()), (Arrears::Overdue, 11, 3));
        tail.set_indexed(14);
        assert_eq!((tail.arrears(), tail.first_seq(), tail.unindexed().len()), (Arrears::Few, 13, 1));
        tail.set_indexed(15);
        assert_eq!((tail.first_seq(), tail.unindexed().len()), (13, 0));
        assert_eq!(tail.batches.read().unindexed_bytes, 0);
    }

    #[test]
    fn a_chain_is_walked_back_to_the_place_asked_for() {
        let tail = Tail::new(0, Limits::default());
        let conversation = conversation();
        tail.publish(entries(conversation, 1..=6));
        let seqs = |found: Option<Vec<Entry>>| {
            found.map(|entries| entries.iter().map(|entry| entry.position.seq).collect::<Vec<_>>())
        };
        assert_eq!(seqs(tail.chain(6, 2, 10, 10)), Some(vec![3, 4, 5, 6]));
        assert_eq!(seqs(tail.chain(6, 2, 2, 10)), Some(vec![3, 4]));
        assert_eq!(seqs(tail.chain(6, 6, 10, 10)), Some(vec![]));
        assert_eq!(seqs(tail.chain(6, 0, 10, 3)), None, "too many steps");
    }

    #[test]
    fn a_chain_that_leaves_memory_is_not_found() {
        let tail = Tail::new(5, Limits::default());
        tail.publish(entries(conversation(), 6..=7));
        assert_eq!(tail.chain(7, 4, 10, 10), None);
    }
}
