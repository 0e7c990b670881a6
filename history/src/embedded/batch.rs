//! Events on their way into the store, all in one write.

use std::collections::{BTreeMap, HashMap, btree_map};

use fjall::{OwnedWriteBatch, Slice};
use types::{ConversationId, Entry, Epoch, EventId, Position};

use super::row::{Change, Row, TailRow};
use super::store::{Store, View};
use super::table::{self, Class, Number, Place, Table};
use crate::reading::{Effect, Reading};
use crate::{Error, Result};

/// An event has a row, its id and its sender; its conversation a tail.
const ROWS_PER_EVENT: usize = 4;

/// How many tails are remembered.
const REMEMBERED_TAILS: usize = 16_384;

/// What the one who writes knows without looking.
pub(super) struct Writer {
    /// The number for the next new conversation; `None` when there is none left.
    next_number: Option<u32>,
    /// The tails of conversations that were written to of late, as they are stored.
    tails: HashMap<ConversationId, (Number, TailRow)>,
}

impl Writer {
    /// For a store in which `last` is the last number that was given.
    pub(super) fn new(last: Option<Number>) -> Self {
        Self { next_number: last.map_or(Some(0), |last| last.0.checked_add(1)), tails: HashMap::new() }
    }

    fn remember(&mut self, tails: Vec<(ConversationId, (Number, TailRow))>) {
        if self.tails.len() + tails.len() > REMEMBERED_TAILS {
            self.tails.clear();
        }
        self.tails.extend(tails);
    }
}

/// One write. What is stored is read as it was before.
pub(super) struct Batch<'a> {
    store: &'a Store,
    stored: View<'a>,
    writer: &'a mut Writer,
    /// The number for the next new conversation, if this batch is carried through.
    next_number: Option<u32>,
    rows: OwnedWriteBatch,
    tails: Vec<(ConversationId, (Number, TailRow))>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(store: &'a Store, writer: &'a mut Writer, events: usize) -> Self {
        let next_number = writer.next_number;
        let rows = store.batch(events * ROWS_PER_EVENT);
        Self { store, stored: store.view(), writer, next_number, rows, tails: Vec::new() }
    }

    /// Adds events of one conversation, in order of `seq`, none twice. A conversation is added once.
    pub(super) fn add(&mut self, entries: &[&Entry]) -> Result<()> {
        let Some(first) = entries.first() else { return Ok(()) };
        let mut stretch = Stretch::begin(self, first.conversation)?;
        for entry in entries {
            stretch.add(entry)?;
        }
        stretch.end();
        Ok(())
    }

    pub(super) fn commit(self) -> Result<()> {
        self.rows.commit()?;
        self.writer.next_number = self.next_number;
        self.writer.remember(self.tails);
        Ok(())
    }

    fn tail(&self, conversation: ConversationId) -> Result<Option<(Number, TailRow)>> {
        if let Some(tail) = self.writer.tails.get(&conversation) {
            return Ok(Some(*tail));
        }
        let Some(number) = self.stored.number(conversation)? else { return Ok(None) };
        Ok(Some((number, self.stored.tail_row(number)?)))
    }

    fn begin_conversation(&mut self, conversation: ConversationId) -> Result<Number> {
        let next = self.next_number.ok_or_else(|| Error::Unavailable("it holds all conversations it can".into()))?;
        let number = Number(next);
        self.next_number = next.checked_add(1);
        self.put(Table::Numbers, conversation.key(), number.key());
        if let ConversationId::Direct(one, other) = conversation {
            self.put(Table::Peers, table::peer(one, other), []);
            if one != other {
                self.put(Table::Peers, table::peer(other, one), []);
            }
        }
        Ok(number)
    }

    fn put(&mut self, table: Table, key: impl Into<Slice>, value: impl Into<Slice>) {
        self.rows.insert(self.store.table(table), key, value);
    }
}

/// The events of one conversation.
struct Stretch<'a, 'b> {
    batch: &'a mut Batch<'b>,
    conversation: ConversationId,
    number: Number,
    /// The tail as it was.
    stored: Option<TailRow>,
    /// The tail as it is to be.
    tail: Option<TailRow>,
    /// The ids of this stretch.
    ids: HashMap<EventId, Place>,
    /// The messages that are to be written: the new ones, and those that have changed.
    messages: BTreeMap<u64, Row>,
}

impl<'a, 'b> Stretch<'a, 'b> {
    fn begin(batch: &'a mut Batch<'b>, conversation: ConversationId) -> Result<Self> {
        let (number, stored) = match batch.tail(conversation)? {
            Some((number, tail)) => (number, Some(tail)),
            None => (batch.begin_conversation(conversation)?, None),
        };
        let (ids, messages) = (HashMap::new(), BTreeMap::new());
        Ok(Self { batch, conversation, number, stored, tail: stored, ids, messages })
    }

    fn add(&mut self, entry: &Entry) -> Result<()> {
        if self.is_stored(entry)? {
            return Ok(());
        }
        self.warn_of_gap(entry);
        let mut place = Place::other(entry.position.seq);
        let Reading { id, effect } = Reading::of(entry);
        if let Some(id) = id
            && self.is_new(id)?
        {
            place = self.carry_out(entry, effect)?;
            self.claim(id, place);
        }
        if place.class == Class::Other {
            self.batch.put(Table::Events, self.number.event(place), Row::of(entry).encode());
        }
        self.move_tail(entry, place.class);
        Ok(())
    }

    /// Whether this very event is stored: then it has had its effect.
    fn is_stored(&self, entry: &Entry) -> Result<bool> {
        let Position { epoch, seq } = entry.position;
        let Some(tail) = self.stored.filter(|tail| tail.position.seq >= seq) else { return Ok(false) };
        for place in [Place::message(seq), Place::other(seq)] {
            let Some(row) = self.batch.stored.get(Table::Events, &self.number.event(place))? else { continue };
            let stored = Row::decode(&row)?.epoch;
            if stored == epoch {
                return Ok(true);
            }
            return Err(self.of_another_log(entry.position, stored));
        }
        // An event that comes late is stored, but not from another log: its places mean something else.
        if tail.position.epoch == epoch {
            Ok(false)
        } else {
            Err(self.of_another_log(entry.position, tail.position.epoch))
        }
    }

    fn of_another_log(&self, Position { epoch, seq }: Position, stored: Epoch) -> Error {
        let (conversation, end) = (self.conversation, self.stored.map_or(0, |tail| tail.position.seq));
        let why = format!("event {seq} of {conversation} comes from log {epoch}");
        Error::Damaged(format!("{why}, but up to {end} it is stored from log {stored}"))
    }

    /// Nothing may be left out, but what the log no longer has cannot be waited for.
    fn warn_of_gap(&self, entry: &Entry) {
        let (conversation, prev, seq) = (self.conversation, entry.prev, entry.position.seq);
        let end = self.tail.map_or(0, |tail| tail.position.seq);
        if seq < end {
            tracing::warn!(%conversation, seq, end, "an event comes after later ones");
        }
        if prev > end {
            tracing::warn!(%conversation, prev, seq, end, "events before this one were never given to history");
        }
    }

    /// Whether no event of this conversation has this id.
    fn is_new(&self, id: EventId) -> Result<bool> {
        Ok(!self.ids.contains_key(&id) && self.batch.stored.place(self.number, id)?.is_none())
    }

    fn claim(&mut self, id: EventId, place: Place) {
        self.ids.insert(id, place);
        self.batch.put(Table::Ids, self.number.id(id), place.encode());
    }

    /// Does what the event says, and tells where the event is to be kept.
    fn carry_out(&mut self, entry: &Entry, effect: Effect) -> Result<Place> {
        let (seq, at) = (entry.position.seq, entry.at);
        match effect {
            Effect::Message { sender } => {
                self.batch.put(Table::Senders, self.number.sent(sender, seq), []);
                self.messages.insert(seq, Row::of(entry));
                return Ok(Place::message(seq));
            }
            Effect::Change { message, text } => self.change(message, Change { seq, at, text })?,
            Effect::Nothing => {}
        }
        Ok(Place::other(seq))
    }

    /// Changes a message of this conversation, if it lies before the change and is not deleted.
    fn change(&mut self, id: EventId, change: Change) -> Result<()> {
        let place = match self.ids.get(&id) {
            Some(place) => Some(*place),
            None => self.batch.stored.place(self.number, id)?,
        };
        let Some(place) = place.filter(|place| place.class == Class::Message && place.seq < change.seq) else {
            return Ok(());
        };
        match self.messages.entry(place.seq) {
            btree_map::Entry::Occupied(mut row) => {
                row.get_mut().change(change);
            }
            btree_map::Entry::Vacant(slot) => {
                let mut row = self.batch.stored.row(self.number, place)?;
                if row.change(change) {
                    slot.insert(row);
                }
            }
        }
        Ok(())
    }

    fn move_tail(&mut self, entry: &Entry, class: Class) {
        let (position, at) = (entry.position, entry.at);
        let tail = self.tail.get_or_insert(TailRow { position, at, last_message: 0 });
        if position.seq > tail.position.seq {
            (tail.position, tail.at) = (position, at);
        }
        if class == Class::Message {
            tail.last_message = tail.last_message.max(position.seq);
        }
    }

    fn end(self) {
        let Self { batch, conversation, number, stored, tail, messages, .. } = self;
        for (seq, row) in messages {
            batch.put(Table::Events, number.event(Place::message(seq)), row.encode());
        }
        if let Some(tail) = tail.filter(|tail| stored.as_ref() != Some(tail)) {
            batch.put(Table::Tails, number.key(), tail.encode());
            batch.tails.push((conversation, (number, tail)));
        }
    }
}
