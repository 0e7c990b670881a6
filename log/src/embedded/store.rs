//! The disk: one fjall database, opened by one process at a time.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::mpsc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, UserKey, UserValue};
use types::{ConversationId, Entry, Epoch, EventId, Region};

use super::layout::{FORMAT, Head, Key, Record, Span, read_distances, read_seq};
use crate::{Error, Layout, Result};

/// The cache of blocks read from disk, in bytes.
const CACHE_BYTES: u64 = 8 << 20;
/// What is written stays in memory up to this size, then goes to a table: of entries, in bytes.
const ENTRIES_MEMTABLE_BYTES: u64 = 8 << 20;
/// The same of all else.
const INDEX_MEMTABLE_BYTES: u64 = 2 << 20;
/// Journals are cut back at this size, in bytes: a bound on disk and on the time to open after a crash.
const JOURNAL_BYTES: u64 = 64 << 20;
/// Threads that write tables and compact. With two, fjall's first one spins while the second compacts.
const BACKGROUND_THREADS: usize = 1;
/// The embedded log's one shard.
const SHARDS: u16 = 1;

/// The keyspaces of the log.
pub(crate) struct Store {
    pub(crate) layout: Layout,
    db: Database,
    entries: Keyspace,
    index: Keyspace,
    /// Makes every later commit fail, as a broken disk does.
    #[cfg(test)]
    pub(crate) broken: std::sync::atomic::AtomicBool,
    /// Let go after the database, so that the next one to take it finds the database closed.
    _lock: File,
    /// Dropped last: whoever holds the other end learns that all is closed.
    _alive: mpsc::Sender<()>,
}

/// What belongs together: stored all or not at all.
pub(crate) struct Batch {
    inner: OwnedWriteBatch,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Store {
    /// Opens the log in `folder`, or makes it there.
    pub(crate) fn open(folder: &Path, region: Region, alive: mpsc::Sender<()>) -> Result<Self> {
        let unavailable = |error: std::io::Error| Error::Unavailable(format!("{}: {error}", folder.display()));
        std::fs::create_dir_all(folder).map_err(unavailable)?;
        let lock = File::create(folder.join("lock")).map_err(unavailable)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                Error::Unavailable(format!("{} is in use by another process", folder.display()))
            }
            TryLockError::Error(error) => unavailable(error),
        })?;
        let db = Database::builder(folder.join("fjall"))
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(BACKGROUND_THREADS)
            .open()
            .map_err(failed)?;
        let keyspace = |name, bytes| {
            let options = || KeyspaceCreateOptions::default().max_memtable_size(bytes);
            db.keyspace(name, options).map_err(failed)
        };
        let entries = keyspace("entries", ENTRIES_MEMTABLE_BYTES)?;
        let index = keyspace("index", INDEX_MEMTABLE_BYTES)?;
        let is_new = number(&index, Key::Format)?.is_none();
        if is_new && !entries.is_empty().map_err(failed)? {
            return Err(Error::Damaged("there are entries, but nothing says of which format".into()));
        }
        if is_new {
            describe(&db, &index, region)?;
            // The folder itself must be found again, too.
            for folder in folder.ancestors().take(2).filter(|folder| !folder.as_os_str().is_empty()) {
                File::open(folder).and_then(|folder| folder.sync_all()).map_err(unavailable)?;
            }
        }
        let layout = read_layout(&index, region)?;
        Ok(Self {
            layout,
            db,
            entries,
            index,
            #[cfg(test)]
            broken: false.into(),
            _lock: lock,
            _alive: alive,
        })
    }

    /// The `seq` of the oldest entry that is kept.
    pub(crate) fn oldest(&self) -> Result<u64> {
        Ok(number(&self.index, Key::Oldest)?.unwrap_or(1))
    }

    /// The last entry, with its place.
    pub(crate) fn last(&self) -> Result<Option<Entry>> {
        let Some(guard) = self.entries.last_key_value() else { return Ok(None) };
        let (key, value) = guard.into_inner().map_err(failed)?;
        self.entry_of(&key, &value).map(Some)
    }

    /// The entry at `seq` and its event's id.
    pub(crate) fn entry(&self, seq: u64) -> Result<Option<(EventId, Entry)>> {
        let Some(value) = self.entries.get(Key::Entry { seq }.bytes()).map_err(failed)? else { return Ok(None) };
        let record = Record::read(&value)?;
        Ok(Some((record.id, record.to_entry(self.layout.epoch, seq))))
    }

    /// The entries from `from` up to and with `to`, at most `limit` of them and about `bytes` of payload, but
    /// at least one if there is one.
    pub(crate) fn entries(&self, from: u64, to: u64, limit: usize, mut bytes: usize) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        if from > to {
            return Ok(entries);
        }
        for guard in self.entries.range(Key::Entry { seq: from }.bytes()..=Key::Entry { seq: to }.bytes()).take(limit) {
            let (key, value) = guard.into_inner().map_err(failed)?;
            entries.push(self.entry_of(&key, &value)?);
            bytes = bytes.saturating_sub(value.len());
            if bytes == 0 {
                break;
            }
        }
        Ok(entries)
    }

    /// Calls `each` with every record from `from` up to and with `to`.
    pub(crate) fn scan(&self, from: u64, to: u64, mut each: impl FnMut(u64, &Record<'_>)) -> Result<()> {
        if from > to {
            return Ok(());
        }
        for guard in self.entries.range(Key::Entry { seq: from }.bytes()..=Key::Entry { seq: to }.bytes()) {
            let (key, value) = guard.into_inner().map_err(failed)?;
            each(read_seq(&key)?, &Record::read(&value)?);
        }
        Ok(())
    }

    /// The conversation's indexed entries from `from` up to and with `to`, at most `limit`.
    pub(crate) fn conversation(
        &self,
        conversation: ConversationId,
        from: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        if from > to {
            return Ok(entries);
        }
        // The first span may begin before `from`, but not by more than its length.
        let first = Key::InSpan { conversation, first: from.saturating_sub(Span::MAX_ENTRIES) }.bytes();
        let last = Key::InSpan { conversation, first: to }.bytes();
        for guard in self.index.range(first..=last) {
            let (key, value) = guard.into_inner().map_err(failed)?;
            let first = read_seq(&key)?;
            let seqs = read_distances(&value)?.map(|distance| first + distance);
            let wanted = seqs.filter(|seq| (from..=to).contains(seq));
            let found = wanted.filter_map(|seq| self.entry(seq).transpose());
            for entry in found.take(limit - entries.len()) {
                entries.push(entry?.1);
            }
            if entries.len() >= limit {
                break;
            }
        }
        Ok(entries)
    }

    /// The conversation's last event.
    pub(crate) fn head(&self, conversation: ConversationId) -> Result<Option<Head>> {
        let value = self.index.get(Key::Head { conversation }.bytes()).map_err(failed)?;
        value.map(|value| Head::decode(&value)).transpose()
    }

    /// Every known consumer: its shard, its group and what it acknowledged last.
    pub(crate) fn consumers(&self) -> Result<Vec<(u16, String, u64)>> {
        let mut consumers = Vec::new();
        for guard in self.index.prefix(Key::CONSUMERS) {
            let (key, value) = guard.into_inner().map_err(failed)?;
            let (shard, group) = Key::read_consumer(&key)?;
            consumers.push((shard, group.to_owned(), read_seq(&value)?));
        }
        Ok(consumers)
    }

    /// The first span that is indexed and not wholly removed, and the last.
    pub(crate) fn outer_spans(&self) -> Result<Option<(Span, Span)>> {
        let read = |guard: Option<fjall::Guard>| {
            let Some(guard) = guard else { return Ok(None) };
            let (key, value) = guard.into_inner().map_err(failed)?;
            Ok(Some(Span { first: read_seq(&key)?, last: read_seq(&value)? }))
        };
        let mut spans = self.index.prefix(Key::SPANS);
        let Some(first) = read(spans.next())? else { return Ok(None) };
        let last = read(spans.next_back())?.unwrap_or(first);
        Ok(Some((first, last)))
    }

    /// A batch with room for so many writes.
    pub(crate) fn batch(&self, capacity: usize) -> Batch {
        Batch { inner: OwnedWriteBatch::with_capacity(self.db.clone(), capacity), key: Vec::new(), value: Vec::new() }
    }

    pub(crate) fn put_entry(&self, batch: &mut Batch, seq: u64, record: &Record<'_>) {
        record.write(&mut batch.value);
        Key::Entry { seq }.write(&mut batch.key);
        let value = UserValue::from(batch.value.as_slice());
        batch.inner.insert(&self.entries, UserKey::from(batch.key.as_slice()), value);
    }

    /// Stores at which `distances` from the span's first entry those of the conversation are.
    pub(crate) fn put_in_span(&self, batch: &mut Batch, conversation: ConversationId, first: u64, distances: &[u8]) {
        Key::InSpan { conversation, first }.write(&mut batch.key);
        batch.inner.insert(&self.index, UserKey::from(batch.key.as_slice()), UserValue::from(distances));
    }

    pub(crate) fn put_span(&self, batch: &mut Batch, Span { first, last }: Span) {
        batch.inner.insert(&self.index, Key::Span { first }.bytes(), last.to_be_bytes());
    }

    pub(crate) fn put_head(&self, batch: &mut Batch, conversation: ConversationId, head: Head) {
        Key::Head { conversation }.write(&mut batch.key);
        batch.inner.insert(&self.index, UserKey::from(batch.key.as_slice()), head.encode());
    }

    pub(crate) fn put_consumer(&self, batch: &mut Batch, shard: u16, group: &str, acked: u64) {
        batch.inner.insert(&self.index, Key::Consumer { shard, group }.bytes(), acked.to_be_bytes());
    }

    pub(crate) fn put_oldest(&self, batch: &mut Batch, seq: u64) {
        batch.inner.insert(&self.index, Key::Oldest.bytes(), seq.to_be_bytes());
    }

    pub(crate) fn remove_entry(&self, batch: &mut Batch, seq: u64) {
        Key::Entry { seq }.write(&mut batch.key);
        batch.inner.remove(&self.entries, UserKey::from(batch.key.as_slice()));
    }

    pub(crate) fn remove_in_span(&self, batch: &mut Batch, conversation: ConversationId, first: u64) {
        Key::InSpan { conversation, first }.write(&mut batch.key);
        batch.inner.remove(&self.index, UserKey::from(batch.key.as_slice()));
    }

    pub(crate) fn remove_span(&self, batch: &mut Batch, first: u64) {
        batch.inner.remove(&self.index, Key::Span { first }.bytes());
    }

    /// Stores the batch; on return it survives a loss of power.
    pub(crate) fn commit_durably(&self, batch: Batch) -> Result<()> {
        self.commit(batch, PersistMode::SyncData)
    }

    /// Stores the batch; on return it survives the end of the process.
    pub(crate) fn commit_lazily(&self, batch: Batch) -> Result<()> {
        self.commit(batch, PersistMode::Buffer)
    }

    /// Stores an event at `seq`, past the committer.
    #[cfg(test)]
    pub(crate) fn append_for_test(&self, seq: u64, at: types::Timestamp, conversation: ConversationId) {
        let id = EventId::generate(self.layout.region);
        let mut batch = self.batch(1);
        self.put_entry(&mut batch, seq, &Record { prev: 0, at, id, conversation, payload: b"{}", trace: None });
        self.commit_durably(batch).unwrap();
    }

    fn commit(&self, batch: Batch, mode: PersistMode) -> Result<()> {
        #[cfg(test)]
        if self.broken.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Error::Unavailable("the disk is broken".into()));
        }
        batch.inner.durability(Some(mode)).commit().map_err(failed)
    }

    fn entry_of(&self, key: &[u8], value: &[u8]) -> Result<Entry> {
        Ok(Record::read(value)?.to_entry(self.layout.epoch, read_seq(key)?))
    }
}

/// Writes down what a new log is.
fn describe(db: &Database, index: &Keyspace, region: Region) -> Result<()> {
    let mut batch = db.batch().durability(Some(PersistMode::SyncAll));
    let mut put = |key: Key<'_>, number: u64| batch.insert(index, key.bytes(), number.to_be_bytes());
    put(Key::Format, FORMAT);
    put(Key::Region, region.number().into());
    put(Key::Shards, SHARDS.into());
    put(Key::Epoch, random_epoch(region).into());
    batch.commit().map_err(failed)
}

/// The last four bytes of a new id are random.
fn random_epoch(region: Region) -> u32 {
    let id = EventId::generate(region);
    u32::from_be_bytes(*id.as_bytes().last_chunk().unwrap_or(&[0; 4]))
}

fn read_layout(index: &Keyspace, region: Region) -> Result<Layout> {
    let need = |key| number(index, key)?.ok_or_else(|| Error::Damaged(format!("{key:?} is missing")));
    let format = need(Key::Format)?;
    if format != FORMAT {
        return Err(Error::Refused(format!("the log has format {format}, this program writes format {FORMAT}")));
    }
    let stored = need(Key::Region)?;
    if stored != u64::from(region.number()) {
        return Err(Error::Refused(format!("this is the log of region {stored}, not of region {region}")));
    }
    let shards = need(Key::Shards)?;
    if shards != u64::from(SHARDS) {
        return Err(Error::Refused(format!("the log has {shards} shards, an embedded one has {SHARDS}")));
    }
    let epoch = u32::try_from(need(Key::Epoch)?).map_err(|_| Error::Damaged("the epoch is too large".into()))?;
    Ok(Layout { region, shards: SHARDS, epoch: Epoch::new(epoch) })
}

fn number(index: &Keyspace, key: Key<'_>) -> Result<Option<u64>> {
    index.get(key.bytes()).map_err(failed)?.map(|value| read_seq(&value)).transpose()
}

/// What the caller can do about fjall's error.
#[expect(clippy::needless_pass_by_value, reason = "so that it stands in `map_err`")]
fn failed(error: fjall::Error) -> Error {
    match error {
        fjall::Error::Io(_) | fjall::Error::Poisoned | fjall::Error::Locked => Error::Unavailable(error.to_string()),
        _ => Error::Damaged(error.to_string()),
    }
}
