//! What is to be written for some events of one conversation, found without asking anybody.

use std::collections::{BTreeMap, HashMap};

use scylla::serialize::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;
use types::{ConversationId, Entry, EventId, Timestamp, UserId};

use super::events::{Class, Place};
use super::ids;
use super::stamp::{self, Bucket};
use super::tails::TailRow;
use crate::reading::{Effect, Reading};

/// Rows that are written at once, at most.
const CHUNK_ROWS: usize = 96;
/// Bytes of payloads that are written at once, unless a single event has more. Servers warn of much larger ones.
const CHUNK_BYTES: usize = 24 << 10;

/// The events of one conversation on their way into the store.
pub(super) struct Plan<'a> {
    conversation: ConversationId,
    /// The tail as it was, then as it is to be.
    pub(super) tail: Option<TailRow>,
    /// The bucket of the event before, if there is one, then of the last one that was added.
    pub(super) bucket: Option<Bucket>,
    /// Where the first event of an id is: what was stored, then also what is planned.
    places: HashMap<EventId, Place>,
    /// By bucket and `seq`.
    rows: BTreeMap<(Bucket, u64), Row<'a>>,
    /// The ids that were not there before, with where and when their first events are.
    pub(super) ids: Vec<(EventId, Place, Timestamp)>,
    /// Buckets that begin, with the `seq` of their first event.
    pub(super) starts: Vec<(Bucket, u64)>,
    /// Who sends messages in which bucket, with the `seq` of the first of these.
    pub(super) speakers: BTreeMap<(UserId, Bucket), u64>,
}

/// What happens to one row of the table of events.
#[derive(Default)]
struct Row<'a> {
    /// It is written.
    event: Option<(&'a Entry, Class)>,
    /// It is a message of this sender.
    sender: Option<UserId>,
    edit: Option<Change>,
    deletion: Option<Change>,
}

#[derive(Clone)]
pub(super) struct Change {
    seq: u64,
    at: Timestamp,
    text: Option<String>,
}

impl<'a> Plan<'a> {
    /// For a conversation of which so much is stored, with the bucket of the event before those that are added, and the
    /// `places` of every id that these name, as far as they are stored.
    pub(super) fn new(
        conversation: ConversationId,
        (tail, bucket): (Option<TailRow>, Option<Bucket>),
        places: HashMap<EventId, Place>,
    ) -> Self {
        let (rows, ids, starts, speakers) = (BTreeMap::new(), Vec::new(), Vec::new(), BTreeMap::new());
        Self { conversation, tail, bucket, places, rows, ids, starts, speakers }
    }

    /// Adds an event to its bucket: see [`Bucket::follow`]. They come in order of `seq`. Those that are stored already may
    /// be added as well: what is written for them is what was written before.
    pub(super) fn add(&mut self, entry: &'a Entry, bucket: Bucket, reading: Reading) {
        let seq = entry.position.seq;
        let mut class = Class::Other;
        let mut sender = None;
        if let Some(id) = reading.id.filter(|id| self.is_first(*id, seq)) {
            match reading.effect {
                Effect::Message { sender: by } => (class, sender) = (Class::Message, Some(by)),
                Effect::Change { message, text } => self.change(message, Change { seq, at: entry.at, text }),
                Effect::Nothing => {}
            }
            let place = Place { bucket, class, seq };
            self.places.insert(id, place);
            self.ids.push((id, place, entry.at));
        }
        if let Some(sender) = sender {
            self.speakers.entry((sender, bucket)).or_insert(seq);
        }
        let row = self.rows.entry((bucket, seq)).or_default();
        (row.event, row.sender) = (Some((entry, class)), sender);
        if self.bucket.replace(bucket) != Some(bucket) {
            self.starts.push((bucket, seq));
        }
        self.move_tail(entry, class, bucket);
    }

    /// Whether no earlier event has this id. That the event itself was stored before, perhaps not wholly, is no
    /// hindrance: it is written again.
    fn is_first(&self, id: EventId, seq: u64) -> bool {
        self.places.get(&id).is_none_or(|place| place.seq >= seq)
    }

    /// Changes a message, if it is there and lies before the change. Which change counts is settled by the stamps,
    /// and that a deletion counts over every edit when it is read.
    fn change(&mut self, message: EventId, change: Change) {
        let place = self.places.get(&message);
        let Some(place) = place.filter(|place| place.class == Class::Message && place.seq < change.seq) else {
            return;
        };
        let row = self.rows.entry((place.bucket, place.seq)).or_default();
        if change.text.is_some() {
            row.edit = Some(change);
        } else if row.deletion.is_none() {
            row.deletion = Some(change);
        }
    }

    fn move_tail(&mut self, entry: &Entry, class: Class, bucket: Bucket) {
        let (position, at) = (entry.position, entry.at);
        let tail = self.tail.get_or_insert(TailRow { position, at, last_message: None });
        if position.seq > tail.position.seq {
            (tail.position, tail.at) = (position, at);
        }
        if class == Class::Message && tail.last_message.is_none_or(|(_, seq)| seq < position.seq) {
            tail.last_message = Some((bucket, position.seq));
        }
    }

    /// The rows of every partition, in pieces that are each written at once. A message stands in one piece with
    /// what has become of it, so that nobody sees it otherwise.
    pub(super) fn chunks(&self) -> Vec<Vec<Write<'_>>> {
        let mut chunks = Chunks::default();
        let conversation = &self.conversation;
        for (&(bucket, seq), row) in &self.rows {
            let write = |what| Write { conversation, bucket, what };
            let mut together = Vec::with_capacity(2);
            together.extend(row.event.map(|(entry, class)| write(What::Event { entry, class })));
            together.extend(row.sender.map(|sender| write(What::Sent { sender, seq })));
            together.extend(row.edit.as_ref().map(|change| write(What::Edit { seq, change })));
            together.extend(row.deletion.as_ref().map(|change| write(What::Deletion { seq, change })));
            chunks.add(together);
        }
        for &(id, place, _) in &self.ids {
            chunks.add(vec![Write { conversation, bucket: ids::bucket(id), what: What::Id { id, place } }]);
        }
        chunks.end()
    }
}

/// Writes, gathered by partition.
#[derive(Default)]
struct Chunks<'a> {
    full: Vec<Vec<Write<'a>>>,
    /// With the bytes of their payloads.
    open: BTreeMap<Bucket, (Vec<Write<'a>>, usize)>,
}

impl<'a> Chunks<'a> {
    fn add(&mut self, together: Vec<Write<'a>>) {
        let Some(first) = together.first() else { return };
        let bytes: usize = together.iter().map(Write::payload_bytes).sum();
        let (open, open_bytes) = self.open.entry(first.bucket).or_default();
        if !open.is_empty() && (open.len() + together.len() > CHUNK_ROWS || *open_bytes + bytes > CHUNK_BYTES) {
            self.full.push(std::mem::take(open));
            *open_bytes = 0;
        }
        open.extend(together);
        *open_bytes += bytes;
    }

    fn end(mut self) -> Vec<Vec<Write<'a>>> {
        self.full.extend(self.open.into_values().map(|(open, _)| open));
        self.full
    }
}

/// One row to write, in a table of which a partition is a conversation's bucket.
pub(super) struct Write<'a> {
    conversation: &'a ConversationId,
    bucket: Bucket,
    pub(super) what: What<'a>,
}

/// Which row. The statement for each stands in `writer.rs`.
pub(super) enum What<'a> {
    Event { entry: &'a Entry, class: Class },
    Sent { sender: UserId, seq: u64 },
    Id { id: EventId, place: Place },
    Edit { seq: u64, change: &'a Change },
    Deletion { seq: u64, change: &'a Change },
}

impl Write<'_> {
    fn payload_bytes(&self) -> usize {
        match &self.what {
            What::Event { entry, .. } => entry.payload.len(),
            What::Edit { change, .. } => change.text.as_ref().map_or(0, String::len),
            What::Sent { .. } | What::Id { .. } | What::Deletion { .. } => 0,
        }
    }
}

/// The values, in the order of the statements in `writer.rs`.
impl SerializeRow for Write<'_> {
    fn serialize(
        &self,
        context: &RowSerializationContext<'_>,
        writer: &mut RowWriter<'_>,
    ) -> Result<(), SerializationError> {
        let (key, bucket) = (self.conversation.key(), self.bucket.0);
        match &self.what {
            What::Event { entry, class } => {
                let Entry { position, prev, at, payload, .. } = entry;
                let (number, epoch) = (stamp::number(position.seq), i64::from(position.epoch.number()));
                let at = stamp::to_cql(*at);
                let stamp = stamp::last_wins(position.seq);
                (key, bucket, *class as i8, number, epoch, stamp::number(*prev), at, payload, stamp)
                    .serialize(context, writer)
            }
            What::Sent { sender, seq } => {
                (key, bucket, sender.as_bytes(), stamp::number(*seq), stamp::last_wins(*seq)).serialize(context, writer)
            }
            What::Id { id, place } => {
                let Place { bucket: event_bucket, class, seq } = *place;
                let (number, stamp) = (stamp::number(seq), stamp::first_wins(seq));
                (key, bucket, id.as_bytes(), number, class as i8, event_bucket.0, stamp).serialize(context, writer)
            }
            What::Edit { seq, change } => {
                let (stamp, at) = (stamp::last_wins(change.seq), stamp::to_cql(change.at));
                (stamp, at, &change.text, key, bucket, stamp::number(*seq)).serialize(context, writer)
            }
            What::Deletion { seq, change } => {
                let (stamp, at) = (stamp::first_wins(change.seq), stamp::to_cql(change.at));
                (stamp, at, key, bucket, stamp::number(*seq)).serialize(context, writer)
            }
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}
