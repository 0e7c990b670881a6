//! The open store: one writer, and the point reads.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Bound::{Excluded, Included};
use std::path::Path;

use fjall::{Database, Keyspace, OwnedWriteBatch, PersistMode, Readable, Slice, Snapshot};
use parking_lot::Mutex;
use types::{ConversationId, Entry, EventId, UserId};

use super::batch::{Batch, Writer};
use super::row::{Row, TailRow};
use super::table::{self, Class, Number, Place, Table, Tables};
use crate::{End, Error, Message, Result, Tail};

/// Blocks of files that were read of late.
const CACHE_BYTES: u64 = 16 << 20;
/// The thread that writes what was gathered in memory, and merges files. Of two, one would keep a core busy
/// with asking for work while the other merges.
const WORKERS: usize = 1;
/// How much may wait to be written as files; it is read again when the history is opened.
const JOURNAL_BYTES: u64 = 64 << 20;

/// The database and its tables. Every method may wait for the disk.
pub(super) struct Store {
    database: Database,
    tables: Tables,
    /// Locked while something is read, changed and written, so that no two do it at once.
    writer: Mutex<Writer>,
}

impl Store {
    pub(super) fn open(path: &Path) -> Result<Self> {
        if !path.try_exists()? {
            create(path)?;
        }
        let database = open_database(path)?;
        let tables = Tables::open(&database)?;
        let last = tables.of(Table::Tails).last_key_value().map(|row| Number::decode(&row.key()?)).transpose()?;
        Ok(Self { database, tables, writer: Mutex::new(Writer::new(last)) })
    }

    /// See [`crate::History::store`]. All of it becomes durable, and then visible, at once.
    pub(super) fn write(&self, entries: &[Entry]) -> Result<()> {
        let mut entries: Vec<&Entry> = entries.iter().collect();
        entries.sort_by_key(|entry| (entry.conversation, entry.position.seq));
        entries.dedup_by_key(|entry| (entry.conversation, entry.position.seq));
        let mut writer = self.writer.lock();
        let mut batch = Batch::new(self, &mut writer, entries.len());
        for stretch in entries.chunk_by(|one, next| one.conversation == next.conversation) {
            batch.add(stretch)?;
        }
        batch.commit()
    }

    /// Raises read marks, all in one write, and gives each as it then stands.
    pub(super) fn raise_marks(&self, wanted: &[(Vec<u8>, u64)]) -> Result<Vec<u64>> {
        let _writer = self.writer.lock();
        let table = self.table(Table::Marks);
        let mut raised: BTreeMap<&[u8], u64> = BTreeMap::new();
        let mut marks = Vec::with_capacity(wanted.len());
        for (key, seq) in wanted {
            let before = match raised.get(&**key) {
                Some(mark) => *mark,
                None => table.get(key)?.map_or(Ok(0), |mark| table::seq_of(&mark))?,
            };
            if *seq > before {
                raised.insert(key, *seq);
            }
            marks.push(before.max(*seq));
        }
        let mut batch = self.batch(raised.len());
        for (key, seq) in raised {
            batch.insert(table, key, seq.to_be_bytes());
        }
        batch.commit()?;
        Ok(marks)
    }

    /// A write that is durable before it is visible. It must not hold a key twice: all its rows are equally new.
    pub(super) fn batch(&self, rows: usize) -> OwnedWriteBatch {
        let batch = OwnedWriteBatch::with_capacity(self.database.clone(), rows);
        batch.durability(Some(PersistMode::SyncData))
    }

    pub(super) fn table(&self, table: Table) -> &Keyspace {
        self.tables.of(table)
    }

    /// All that is stored now. Rows that are read one after the other belong together only in one of these.
    pub(super) fn view(&self) -> View<'_> {
        View { tables: &self.tables, snapshot: self.database.snapshot() }
    }

    pub(super) fn tails(&self, conversations: &[ConversationId]) -> Result<Vec<Option<Tail>>> {
        let view = self.view();
        conversations.iter().map(|conversation| view.tail(*conversation)).collect()
    }

    pub(super) fn ends(&self, conversations: &[ConversationId]) -> Result<Vec<Option<End>>> {
        let view = self.view();
        conversations.iter().map(|conversation| view.end(*conversation)).collect()
    }

    pub(super) fn message(&self, conversation: ConversationId, id: EventId) -> Result<Option<Message>> {
        let view = self.view();
        match view.find(conversation, id)? {
            Some((number, place)) if place.class == Class::Message => {
                view.row(number, place)?.into_message(conversation, place.seq).map(Some)
            }
            _ => Ok(None),
        }
    }

    pub(super) fn event(&self, conversation: ConversationId, id: EventId) -> Result<Option<Entry>> {
        let view = self.view();
        let Some((number, place)) = view.find(conversation, id)? else { return Ok(None) };
        Ok(Some(view.row(number, place)?.into_entry(conversation, place.seq)))
    }

    pub(super) fn peers(&self, user: UserId, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>> {
        let table = self.table(Table::Peers);
        let rows = match after {
            None => table.prefix(user.as_bytes()),
            Some(after) => table.range((Excluded(table::peer(user, after)), Included(table::last_peer(user)))),
        };
        rows.take(limit).map(|row| table::peer_of(&row.key()?)).collect()
    }

    pub(super) fn marks(&self, user: UserId, conversations: &[ConversationId]) -> Result<Vec<u64>> {
        let table = self.table(Table::Marks);
        let mark = |conversation: &ConversationId| {
            let stored = table.get(table::mark(user, *conversation))?;
            stored.map_or(Ok(0), |mark| table::seq_of(&mark))
        };
        conversations.iter().map(mark).collect()
    }
}

fn open_database(path: &Path) -> Result<Database> {
    let builder = Database::builder(path).cache_size(CACHE_BYTES).worker_threads(WORKERS);
    Ok(builder.max_journaling_size(JOURNAL_BYTES).open()?)
}

/// Makes an empty database beside `path`, and moves it there when it is whole: a process that dies meanwhile
/// leaves nothing that could not be opened.
fn create(path: &Path) -> Result<()> {
    let unfinished = path.with_extension("unfinished");
    if unfinished.try_exists()? {
        fs::remove_dir_all(&unfinished)?;
    }
    drop(open_database(&unfinished)?);
    fs::rename(&unfinished, path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => Ok(File::open(parent)?.sync_all()?),
        _ => Ok(()),
    }
}

/// The tables as they were at one moment.
pub(super) struct View<'a> {
    tables: &'a Tables,
    snapshot: Snapshot,
}

impl View<'_> {
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Slice>> {
        Ok(self.snapshot.get(self.tables.of(table), key)?)
    }

    /// The rows from `first` to before `end`.
    pub(super) fn range(&self, table: Table, first: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> fjall::Iter {
        self.snapshot.range(self.tables.of(table), first.as_ref()..end.as_ref())
    }

    /// The number of a conversation of which anything is stored.
    pub(super) fn number(&self, conversation: ConversationId) -> Result<Option<Number>> {
        self.get(Table::Numbers, &conversation.key())?.map(|number| Number::decode(&number)).transpose()
    }

    /// Every conversation that has a number has a tail.
    pub(super) fn tail_row(&self, number: Number) -> Result<TailRow> {
        let tail = self.get(Table::Tails, &number.key())?;
        TailRow::decode(&tail.ok_or_else(|| Error::Damaged(format!("conversation {} has no tail", number.0)))?)
    }

    /// Where the first event of this id is kept.
    pub(super) fn place(&self, number: Number, id: EventId) -> Result<Option<Place>> {
        self.get(Table::Ids, &number.id(id))?.map(|place| Place::decode(&place)).transpose()
    }

    fn find(&self, conversation: ConversationId, id: EventId) -> Result<Option<(Number, Place)>> {
        let Some(number) = self.number(conversation)? else { return Ok(None) };
        Ok(self.place(number, id)?.map(|place| (number, place)))
    }

    /// The row of an event that another table tells of.
    pub(super) fn row(&self, number: Number, place: Place) -> Result<Row> {
        let row = self.get(Table::Events, &number.event(place))?;
        Row::decode(&row.ok_or_else(|| Error::Damaged(format!("event {} has no row", place.seq)))?)
    }

    fn end(&self, conversation: ConversationId) -> Result<Option<End>> {
        let Some(number) = self.number(conversation)? else { return Ok(None) };
        let tail = self.tail_row(number)?;
        Ok(Some(End { position: tail.position, at: tail.at }))
    }

    fn tail(&self, conversation: ConversationId) -> Result<Option<Tail>> {
        let Some(number) = self.number(conversation)? else { return Ok(None) };
        let tail = self.tail_row(number)?;
        let last_message = match tail.last_message {
            0 => None,
            seq => Some(self.row(number, Place::message(seq))?.into_message(conversation, seq)?),
        };
        Ok(Some(Tail { position: tail.position, at: tail.at, last_message }))
    }
}
