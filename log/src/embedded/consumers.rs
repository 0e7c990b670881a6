//! How far each consumer has read.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::Instant;
use types::Entry;

use super::queue::closed;
use super::shard::Shard;
use super::store::{Batch, Store};
use super::tail::Next;
use crate::{Consumer, Error, Lag, Result};

/// Consumers that are known, at most: there is one per role and shard.
const MOST: usize = 256;

/// Every consumer that ever fetched or acknowledged.
pub(crate) struct Consumers {
    known: RwLock<Vec<Arc<Reader>>>,
    lease: Duration,
}

/// One consumer.
struct Reader {
    shard: u16,
    group: String,
    progress: Mutex<Progress>,
    /// Wakes those who wait in `fetch` when what was given is to be given again.
    rewound: Notify,
}

/// A consumer's place. What lies between `acked` and `given` was given and not acknowledged.
#[derive(Debug)]
struct Progress {
    acked: u64,
    given: u64,
    /// When what was given counts as lost with whoever took it.
    lease_ends: Option<Instant>,
    /// Whether `acked` is to be written to disk.
    is_dirty: bool,
}

impl Consumers {
    /// The consumers on disk. What is given and not acknowledged within `lease` is given again.
    pub(crate) fn recover(store: &Store, lease: Duration) -> Result<Self> {
        let known = store.consumers()?.into_iter();
        let known = known.map(|(shard, group, acked)| Arc::new(Reader::new(shard, group, acked))).collect();
        Ok(Self { known: RwLock::new(known), lease })
    }

    /// See [`crate::Log::fetch`].
    pub(crate) async fn fetch(&self, shard: &Arc<Shard>, consumer: Consumer, limit: usize) -> Result<Vec<Entry>> {
        let reader = self.reader_or_new(consumer)?;
        let mut published = shard.tail.watch();
        loop {
            // Listened for before the look, so that nothing between the two is missed.
            let rewound = reader.rewound.notified();
            if published.borrow_and_update().closed {
                return Err(closed());
            }
            let (given, lease_ends) = reader.progress.lock().place(Instant::now());
            // What was removed before this consumer was known is passed over.
            let after = given.max(shard.oldest() - 1);
            let entries = match shard.tail.after(after) {
                Next::Entries(batch, index) => take_batches(shard, &batch[index..], limit),
                Next::OnDisk(_) => shard.catch_up(after, limit.max(1)).await?,
                Next::Nothing => {
                    tokio::select! {
                        _ = published.changed() => {}
                        () = rewound => {}
                        () = expired(lease_ends) => {}
                    }
                    continue;
                }
            };
            // Otherwise another caller was given the same meanwhile.
            if let Some(last) = entries.last()
                && reader.progress.lock().give(given, last.position.seq, self.lease)
            {
                return Ok(entries);
            }
        }
    }

    /// See [`crate::Log::ack`].
    pub(crate) fn ack(&self, shard: &Shard, consumer: Consumer, seq: u64) -> Result<()> {
        let published = shard.tail.published();
        if published.closed {
            return Err(closed());
        }
        if seq > published.seq {
            return Err(Error::Refused(format!("{seq} is not stored, it cannot be acknowledged")));
        }
        self.reader_or_new(consumer)?.progress.lock().ack(seq, self.lease);
        Ok(())
    }

    /// See [`crate::Log::resume`].
    pub(crate) fn resume(&self, consumer: Consumer) {
        let Some(reader) = self.reader(consumer) else { return };
        reader.progress.lock().rewind();
        reader.rewound.notify_waiters();
    }

    /// See [`crate::Log::lag`].
    pub(crate) fn lag(&self, shard: &Shard, consumer: Consumer) -> Lag {
        let acked_seq = self.reader(consumer).map_or(0, |reader| reader.progress.lock().acked);
        let removed = shard.oldest() - 1;
        let end_seq = shard.tail.last_seq();
        Lag { events: end_seq.saturating_sub(acked_seq.max(removed)), acked_seq, end_seq }
    }

    /// The last `seq` that every known consumer has acknowledged, `None` when there is no consumer.
    pub(crate) fn acked_by_all(&self) -> Option<u64> {
        self.known.read().iter().map(|reader| reader.progress.lock().acked).min()
    }

    /// Adds to the batch what consumers acknowledged since the last time. Whether there was anything.
    pub(crate) fn save(&self, store: &Store, batch: &mut Batch) -> bool {
        let mut is_any = false;
        for reader in &*self.known.read() {
            let mut progress = reader.progress.lock();
            if std::mem::take(&mut progress.is_dirty) {
                store.put_consumer(batch, reader.shard, &reader.group, progress.acked);
                is_any = true;
            }
        }
        is_any
    }

    fn reader(&self, consumer: Consumer) -> Option<Arc<Reader>> {
        self.known.read().iter().find(|reader| reader.is(consumer)).cloned()
    }

    fn reader_or_new(&self, consumer: Consumer) -> Result<Arc<Reader>> {
        if let Some(reader) = self.reader(consumer) {
            return Ok(reader);
        }
        let mut known = self.known.write();
        if let Some(reader) = known.iter().find(|reader| reader.is(consumer)) {
            return Ok(Arc::clone(reader));
        }
        if known.len() >= MOST {
            return Err(Error::Refused(format!("there are {MOST} consumers already")));
        }
        let reader = Arc::new(Reader::new(consumer.shard, consumer.group.to_owned(), 0));
        // Written down before it acknowledges anything, so that nothing it needs is removed.
        reader.progress.lock().is_dirty = true;
        known.push(Arc::clone(&reader));
        Ok(reader)
    }
}

/// Up to `limit` entries: `first`, and then what follows in memory.
fn take_batches(shard: &Shard, first: &[Entry], limit: usize) -> Vec<Entry> {
    let mut entries: Vec<Entry> = first.iter().take(limit.max(1)).cloned().collect();
    while entries.len() < limit
        && let Some(last) = entries.last()
        && let Next::Entries(batch, index) = shard.tail.after(last.position.seq)
    {
        entries.extend(batch[index..].iter().take(limit - entries.len()).cloned());
    }
    entries
}

/// Waits until the lease ends, for ever when there is none.
async fn expired(lease_ends: Option<Instant>) {
    match lease_ends {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

impl Reader {
    fn new(shard: u16, group: String, acked: u64) -> Self {
        let progress = Progress { acked, given: acked, lease_ends: None, is_dirty: false };
        Self { shard, group, progress: Mutex::new(progress), rewound: Notify::new() }
    }

    fn is(&self, consumer: Consumer) -> bool {
        self.shard == consumer.shard && self.group == consumer.group
    }
}

impl Progress {
    /// After which `seq` to go on, and when that may change by itself.
    fn place(&mut self, now: Instant) -> (u64, Option<Instant>) {
        if self.lease_ends.is_some_and(|end| end <= now) {
            self.rewind();
        }
        (self.given, self.lease_ends)
    }

    /// Gives what lies between `from` and `to`, unless somebody else was given it.
    fn give(&mut self, from: u64, to: u64, lease: Duration) -> bool {
        if self.given != from {
            return false;
        }
        self.given = to;
        self.lease_ends.get_or_insert_with(|| Instant::now() + lease);
        true
    }

    fn ack(&mut self, seq: u64, lease: Duration) {
        if seq <= self.acked {
            return;
        }
        self.acked = seq;
        self.given = self.given.max(seq);
        self.is_dirty = true;
        // Whoever acknowledges is alive: the rest gets a new lease.
        self.lease_ends = (self.given > self.acked).then(|| Instant::now() + lease);
    }

    fn rewind(&mut self) {
        self.given = self.acked;
        self.lease_ends = None;
    }
}
