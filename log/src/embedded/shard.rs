//! What all parts of the embedded log share: the disk, and what is kept of it in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use types::{ConversationId, Entry, EventId, Position, Timestamp};

use super::heads::Heads;
use super::layout::Head;
use super::queue::closed;
use super::recent::Recent;
use super::store::Store;
use super::tail::{Limits, Next, Tail};
use crate::{Error, Result};

/// Entries that one step of catching up reads from disk, at most.
pub(crate) const CHUNK_ENTRIES: usize = 512;
/// The same in bytes.
const CHUNK_BYTES: usize = 1 << 20;
/// Heads that one call looks up on disk without leaving the runtime's thread.
const FEW: usize = 16;
/// Events of one conversation that a read walks back through in memory before it asks the disk.
const STEPS: usize = 1_024;

/// The one shard of an embedded log.
pub(crate) struct Shard {
    pub(crate) tail: Tail,
    pub(crate) recent: Mutex<Recent>,
    heads: RwLock<Heads>,
    /// The oldest entry that is kept. It grows before entries are removed, and whoever reads looks at it
    /// after: so no reader takes a half-removed stretch for a whole one.
    oldest: AtomicU64,
    /// Held by whoever writes the index: one at a time.
    pub(crate) indexing: Mutex<()>,
    /// Empty once the log is closed.
    store: RwLock<Option<Arc<Store>>>,
}

impl Shard {
    /// The shard as it lies on disk, and the moment of its last entry. Reads the duplicate window back.
    pub(crate) fn recover(store: Arc<Store>, window: Duration, limits: Limits) -> Result<(Self, Timestamp)> {
        let (last_seq, last_at) = store.last()?.map_or_else(Default::default, |last| (last.position.seq, last.at));
        let oldest = store.oldest()?;
        let mut recent = Recent::new(window, Instant::now());
        let from = first_since(&store, oldest, last_seq, Timestamp::now().minus(window))?;
        store.scan(from, last_seq, |seq, record| recent.insert(&record.id, seq, Instant::now()))?;
        let indexed = store.outer_spans()?.map_or(0, |(_, newest)| newest.last).max(oldest - 1);
        let shard = Self {
            tail: Tail::new(indexed, limits),
            recent: Mutex::new(recent),
            heads: RwLock::default(),
            oldest: oldest.into(),
            indexing: Mutex::default(),
            store: RwLock::new(Some(Arc::clone(&store))),
        };
        shard.load(&store, last_seq)?;
        Ok((shard, last_at))
    }

    /// Reads what is not indexed into memory.
    fn load(&self, store: &Store, last_seq: u64) -> Result<()> {
        while self.tail.last_seq() < last_seq {
            let entries = store.entries(self.tail.last_seq() + 1, last_seq, CHUNK_ENTRIES, CHUNK_BYTES)?;
            if entries.is_empty() {
                return Err(Error::Damaged("entries are missing before the last".into()));
            }
            let mut heads = self.heads.write();
            for Entry { conversation, position, at, .. } in &entries {
                heads.set(*conversation, Head { seq: position.seq, at: *at });
            }
            self.tail.publish(entries.into());
        }
        Ok(())
    }

    /// The disk, unless the log is closed.
    pub(crate) fn store(&self) -> Result<Arc<Store>> {
        self.store.read().clone().ok_or_else(closed)
    }

    /// Lets go of the disk. Reads that are under way end first.
    pub(crate) fn close(&self) {
        self.tail.close();
        drop(self.store.write().take());
    }

    /// The oldest entry that is kept.
    pub(crate) fn oldest(&self) -> u64 {
        self.oldest.load(Ordering::Acquire)
    }

    /// From now on nothing below `seq` counts as kept.
    pub(crate) fn set_oldest(&self, seq: u64) {
        self.oldest.store(seq, Ordering::Release);
    }

    /// Takes into memory what the disk now holds: `ids` are those of `entries`.
    pub(crate) fn remember(&self, ids: &[EventId], entries: &[Entry], heads: &HashMap<ConversationId, Head>) {
        let now = Instant::now();
        let mut recent = self.recent.lock();
        for (id, entry) in ids.iter().zip(entries) {
            recent.insert(id, entry.position.seq, now);
        }
        drop(recent);
        let mut cache = self.heads.write();
        #[expect(clippy::iter_over_hash_type, reason = "the order of different conversations means nothing")]
        for (conversation, head) in heads {
            cache.set(*conversation, *head);
        }
    }

    /// The conversation's last event, even if it was removed since.
    pub(crate) fn head(&self, store: &Store, conversation: ConversationId) -> Result<Option<Head>> {
        let cached = self.heads.read().get(&conversation);
        if cached.is_some() {
            return Ok(cached);
        }
        store.head(conversation)
    }

    /// See [`crate::Log::heads`].
    pub(crate) async fn heads(self: &Arc<Self>, conversations: &[ConversationId]) -> Result<Vec<Option<crate::Head>>> {
        let store = self.store()?;
        let misses = {
            let cache = self.heads.read();
            conversations.iter().filter(|conversation| cache.get(conversation).is_none()).count()
        };
        if misses <= FEW {
            return self.heads_now(&store, conversations);
        }
        let (shard, conversations) = (Arc::clone(self), conversations.to_vec());
        blocking(move || shard.heads_now(&store, &conversations)).await
    }

    fn heads_now(&self, store: &Store, conversations: &[ConversationId]) -> Result<Vec<Option<crate::Head>>> {
        let epoch = store.layout.epoch;
        let look_up = |conversation: &ConversationId| {
            let head = self.head(store, *conversation)?.filter(|head| head.seq >= self.oldest());
            Ok(head.map(|Head { seq, at }| crate::Head { position: Position { epoch, seq }, at }))
        };
        conversations.iter().map(look_up).collect()
    }

    /// See [`crate::Log::read`].
    pub(crate) async fn read(
        self: &Arc<Self>,
        conversation: ConversationId,
        after_seq: u64,
        limit: usize,
    ) -> Result<Vec<Entry>> {
        let store = self.store()?;
        let Some(head) = self.head(&store, conversation)? else { return Ok(Vec::new()) };
        if head.seq <= after_seq || limit == 0 {
            return Ok(Vec::new());
        }
        if let Some(entries) = self.tail.chain(head.seq, after_seq, limit, STEPS) {
            return Ok(entries);
        }
        let shard = Arc::clone(self);
        blocking(move || shard.read_index(&store, conversation, (after_seq, head.seq), limit)).await
    }

    /// The conversation's events after the first `seq` up to and with the second, at most `limit`: as far as they are
    /// indexed from disk, and from memory what is not.
    fn read_index(
        &self,
        store: &Store,
        conversation: ConversationId,
        (after_seq, head_seq): (u64, u64),
        limit: usize,
    ) -> Result<Vec<Entry>> {
        loop {
            let indexed = self.tail.indexed();
            let from = (after_seq + 1).max(self.oldest());
            let mut entries = store.conversation(conversation, from, indexed.min(head_seq), limit)?;
            let rest = self.tail.chain(head_seq, indexed.max(after_seq), limit - entries.len(), usize::MAX);
            if let Some(rest) = rest {
                entries.extend(rest);
                entries.retain(|entry| entry.position.seq >= self.oldest());
                return Ok(entries);
            }
            // Some of it has been indexed and has left memory meanwhile; that ends when `head_seq` is indexed.
        }
    }

    /// At most `limit` of the entries after `seq` that have left memory, from disk, without a gap; empty when
    /// there are none. The first is later than `seq + 1` when what was between has been removed.
    pub(crate) async fn catch_up(self: &Arc<Self>, seq: u64, limit: usize) -> Result<Vec<Entry>> {
        let Next::OnDisk(in_memory) = self.tail.after(seq) else { return Ok(Vec::new()) };
        let store = self.store()?;
        let shard = Arc::clone(self);
        blocking(move || {
            let from = (seq + 1).max(shard.oldest());
            let mut entries = store.entries(from, in_memory - 1, limit.min(CHUNK_ENTRIES), CHUNK_BYTES)?;
            entries.retain(|entry| entry.position.seq >= shard.oldest());
            Ok(entries)
        })
        .await
    }
}

/// Runs what may wait for the disk where it keeps nobody else waiting.
async fn blocking<T: Send + 'static>(read: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let read = tokio::task::spawn_blocking(read);
    read.await.map_err(|error| Error::Unavailable(format!("a read was broken off: {error}")))?
}

/// The first of the entries from `oldest` to `last_seq` that was stored at `since` or later, `last_seq + 1` when
/// none was. Moments do not decrease, so halving finds it.
fn first_since(store: &Store, oldest: u64, last_seq: u64, since: Timestamp) -> Result<u64> {
    let (mut low, mut high) = (oldest, last_seq + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        // A missing entry was removed, and so is older than all that are there.
        let is_before = store.entry(middle)?.is_none_or(|(_, entry)| entry.at < since);
        if is_before {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
