//! What a feed of the embedded log is made of: a cursor over the shard, a set of topics, and a bounded queue of
//! notices.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use types::{ConversationId, Entry};

use super::queue::closed;
use super::shard::{CHUNK_ENTRIES, Shard};
use super::tail::{Next, Published};
use crate::{Delivery, Result, Topic};

/// Notices that wait for a feed, at most.
pub(super) const NOTICES: usize = 65_536;
/// The same in bytes.
const NOTICE_BYTES: usize = 16 << 20;
/// Batches that one call looks through before others get the thread.
const BATCHES_AT_ONCE: usize = 64;

/// Every feed that is open.
#[derive(Default)]
pub(crate) struct Listeners {
    open: RwLock<Vec<Arc<Listener>>>,
}

/// The side of a feed that others reach: its topics and what is sent to them.
pub(crate) struct Listener {
    shard: Arc<Shard>,
    /// Each topic, and the last `seq` that was stored before it was subscribed to.
    topics: RwLock<HashMap<Topic, u64>>,
    notices: Mutex<Notices>,
    arrived: Notify,
}

#[derive(Default)]
struct Notices {
    queue: VecDeque<(Topic, Bytes)>,
    bytes: usize,
    /// Some did not fit since the feed was last told.
    is_lossy: bool,
}

/// The side of a feed that reads. Events are read where they lie, so however slow a reader is, it takes no memory
/// and loses nothing that the log still holds.
pub(crate) struct Cursor {
    listener: Arc<Listener>,
    listeners: Arc<Listeners>,
    published: watch::Receiver<Published>,
    /// Everything up to here was looked at.
    seq: u64,
    /// Read from disk and not yet looked at to the end.
    chunk: Option<Arc<[Entry]>>,
    /// The second half of a direct event for which the batch had no room.
    second: Option<Delivery>,
}

impl Listeners {
    /// A new feed that begins at the end of the log.
    pub(crate) fn open(self: &Arc<Self>, shard: &Arc<Shard>) -> Cursor {
        let listener = Arc::new(Listener {
            shard: Arc::clone(shard),
            topics: RwLock::default(),
            notices: Mutex::default(),
            arrived: Notify::new(),
        });
        self.open.write().push(Arc::clone(&listener));
        let published = shard.tail.watch();
        let seq = published.borrow().seq;
        Cursor { listener, listeners: Arc::clone(self), published, seq, chunk: None, second: None }
    }

    /// Gives the notice to every feed that listens to the topic.
    pub(crate) fn notify(&self, topic: Topic, notice: &Bytes) {
        for listener in &*self.open.read() {
            if listener.topics.read().contains_key(&topic) {
                listener.notices.lock().push(topic, notice.clone());
                listener.arrived.notify_one();
            }
        }
    }
}

impl Listener {
    pub(crate) fn subscribe(&self, topic: Topic) {
        let mut topics = self.topics.write();
        // Read under the lock: what the cursor passes over meanwhile is not later than this.
        let last_seq = self.shard.tail.last_seq();
        topics.entry(topic).or_insert(last_seq);
    }

    pub(crate) fn unsubscribe(&self, topic: &Topic) {
        self.topics.write().remove(topic);
    }
}

impl Notices {
    fn push(&mut self, topic: Topic, notice: Bytes) {
        if self.queue.len() >= NOTICES || self.bytes + notice.len() > NOTICE_BYTES {
            self.is_lossy = true;
            return;
        }
        self.bytes += notice.len();
        self.queue.push_back((topic, notice));
    }

    /// Moves up to `room` notices. Those that were lost are the last, so the feed is told of them at the end.
    fn take(&mut self, batch: &mut Vec<Delivery>, room: usize) {
        let count = room.min(self.queue.len());
        for (topic, notice) in self.queue.drain(..count) {
            self.bytes -= notice.len();
            batch.push(Delivery::Notice { topic, notice });
        }
        if count < room && std::mem::take(&mut self.is_lossy) {
            batch.push(Delivery::Lost);
        }
    }
}

impl Cursor {
    pub(crate) fn listener(&self) -> Arc<Listener> {
        Arc::clone(&self.listener)
    }

    /// See [`crate::Feed::next_batch`].
    pub(crate) async fn next_batch(&mut self, batch: &mut Vec<Delivery>, limit: usize) -> Result<()> {
        let end = batch.len() + limit.max(1);
        let began = batch.len();
        loop {
            let is_closed = self.published.borrow_and_update().closed;
            let next = self.take_from_memory(batch, end);
            if batch.len() > began {
                return Ok(());
            }
            match next {
                Next::Entries(..) => tokio::task::coop::consume_budget().await,
                Next::OnDisk(_) => self.catch_up(batch).await?,
                Next::Nothing if is_closed => return Err(closed()),
                Next::Nothing => tokio::select! {
                    _ = self.published.changed() => {}
                    () = self.listener.arrived.notified() => {}
                },
            }
            if batch.len() > began {
                return Ok(());
            }
        }
    }

    /// Fills the batch up to `end` with notices and with what lies in memory, and tells what comes next.
    fn take_from_memory(&mut self, batch: &mut Vec<Delivery>, end: usize) -> Next {
        batch.extend(self.second.take());
        self.listener.notices.lock().take(batch, end.saturating_sub(batch.len()));
        for _ in 0..BATCHES_AT_ONCE {
            let next = match &self.chunk {
                Some(chunk) => Next::Entries(Arc::clone(chunk), self.index_in(chunk)),
                None => self.listener.shard.tail.after(self.seq),
            };
            let Next::Entries(entries, index) = &next else { return next };
            if batch.len() >= end {
                return next;
            }
            let is_whole = self.take_entries(&entries[*index..], batch, end);
            if is_whole {
                self.chunk = None;
            }
        }
        self.listener.shard.tail.after(self.seq)
    }

    /// Where in the chunk the first entry is that was not looked at.
    fn index_in(&self, chunk: &[Entry]) -> usize {
        chunk.partition_point(|entry| entry.position.seq <= self.seq)
    }

    /// Delivers those entries that are listened to. Whether all were looked at.
    fn take_entries(&mut self, entries: &[Entry], batch: &mut Vec<Delivery>, end: usize) -> bool {
        let listener = Arc::clone(&self.listener);
        let topics = listener.topics.read();
        for entry in entries {
            if batch.len() >= end {
                return false;
            }
            self.seq = entry.position.seq;
            let mut heard = topics_of(entry.conversation)
                .into_iter()
                .flatten()
                .filter(|topic| topics.get(topic).is_some_and(|since| self.seq > *since));
            let Some(topic) = heard.next() else { continue };
            let second = heard.next().map(|topic| Delivery::Event { topic, entry: entry.clone() });
            batch.push(Delivery::Event { topic, entry: entry.clone() });
            if batch.len() < end {
                batch.extend(second);
            } else {
                self.second = second;
            }
        }
        true
    }

    /// Reads what has left memory from disk. Tells of a loss when it was removed.
    async fn catch_up(&mut self, batch: &mut Vec<Delivery>) -> Result<()> {
        let entries = self.listener.shard.catch_up(self.seq, CHUNK_ENTRIES).await?;
        let next = entries.first().map_or_else(|| self.listener.shard.oldest(), |entry| entry.position.seq);
        if next > self.seq + 1 {
            self.seq = next - 1;
            batch.push(Delivery::Lost);
        }
        self.chunk = (!entries.is_empty()).then(|| entries.into());
        Ok(())
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.listeners.open.write().retain(|listener| !Arc::ptr_eq(listener, &self.listener));
        // Handles to change the topics may outlive the feed.
        self.listener.topics.write().clear();
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cursor").field("seq", &self.seq).finish_non_exhaustive()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("topics", &self.topics.read().len()).finish_non_exhaustive()
    }
}

/// The topics of a conversation's events: the group, or each of the two users once.
fn topics_of(conversation: ConversationId) -> [Option<Topic>; 2] {
    match conversation {
        ConversationId::Group(group) => [Some(Topic::Group(group)), None],
        ConversationId::Direct(first, second) => {
            [Some(Topic::User(first)), (first != second).then_some(Topic::User(second))]
        }
    }
}
