//! The values in the tables. Numbers are big-endian, texts are UTF-8.

use bytes::{BufMut, Bytes};
use types::{ConversationId, Entry, Epoch, Position, Timestamp};

use crate::{Error, Message, Result};

/// A stored event: `shape ‖ epoch (4) ‖ prev (8) ‖ at (8) ‖ change ‖ payload`.
///
/// The payload is never changed; what became of a message stands beside it. By the shape the change is missing,
/// or `seq (8) ‖ at (8)` of a deletion, or `seq (8) ‖ at (8) ‖ length (4) ‖ text` of an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) epoch: Epoch,
    pub(super) prev: u64,
    pub(super) at: Timestamp,
    pub(super) change: Option<Change>,
    pub(super) payload: Bytes,
}

/// The last edit of a message, or its deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The place of the event that made it.
    pub(super) seq: u64,
    /// When the log stored that event.
    pub(super) at: Timestamp,
    /// The new text; `None` when the message was deleted.
    pub(super) text: Option<String>,
}

const AS_SENT: u8 = 0;
const EDITED: u8 = 1;
const DELETED: u8 = 2;

/// Of a row without change and payload.
const HEAD_BYTES: usize = 1 + 4 + 8 + 8;
/// Of a change without its text.
const CHANGE_BYTES: usize = 8 + 8 + 4;

impl Row {
    /// The row of an event to which nothing has happened yet.
    pub(super) fn of(entry: &Entry) -> Self {
        let Entry { position, prev, at, ref payload, .. } = *entry;
        Self { epoch: position.epoch, prev, at, change: None, payload: payload.clone() }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let text = self.change.as_ref().and_then(|change| change.text.as_deref());
        let bytes = HEAD_BYTES + CHANGE_BYTES + text.map_or(0, str::len) + self.payload.len();
        let mut row = Vec::with_capacity(bytes);
        row.put_u8(match (&self.change, text) {
            (None, _) => AS_SENT,
            (Some(_), Some(_)) => EDITED,
            (Some(_), None) => DELETED,
        });
        row.put_u32(self.epoch.number());
        row.put_u64(self.prev);
        row.put_i64(self.at.as_millis());
        if let Some(change) = &self.change {
            row.put_u64(change.seq);
            row.put_i64(change.at.as_millis());
        }
        if let Some(text) = text {
            // A text comes in a payload, whose length is far below 4 GiB.
            row.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
            row.put_slice(text.as_bytes());
        }
        row.put_slice(&self.payload);
        row
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader(bytes);
        let shape = reader.u8()?;
        let (epoch, prev, at) = (Epoch::new(reader.u32()?), reader.u64()?, reader.timestamp()?);
        let change = match shape {
            AS_SENT => None,
            EDITED => Some(Change { seq: reader.u64()?, at: reader.timestamp()?, text: Some(reader.text()?) }),
            DELETED => Some(Change { seq: reader.u64()?, at: reader.timestamp()?, text: None }),
            _ => return Err(Error::Damaged(format!("a row is of the unknown shape {shape}"))),
        };
        Ok(Self { epoch, prev, at, change, payload: Bytes::copy_from_slice(reader.0) })
    }

    /// When the log stored the event of this encoded row.
    pub(super) fn decode_at(bytes: &[u8]) -> Result<Timestamp> {
        let mut reader = Reader(bytes);
        reader.chunk::<13>()?;
        reader.timestamp()
    }

    /// The event as the log gave it.
    pub(super) fn into_entry(self, conversation: ConversationId, seq: u64) -> Entry {
        let Self { epoch, prev, at, payload, .. } = self;
        Entry { conversation, position: Position { epoch, seq }, prev, at, payload, trace: None }
    }

    /// The message in its present state.
    pub(super) fn into_message(self, conversation: ConversationId, seq: u64) -> Result<Message> {
        let change = self.change.map(|change| (change.at, change.text));
        Message::present((conversation, seq), self.at, &self.payload, change)
    }

    /// Changes the message unless it is deleted, or was changed by a later event. A deletion counts over every
    /// edit. Gives whether anything has changed.
    pub(super) fn change(&mut self, new: Change) -> bool {
        let applies = match &self.change {
            None => true,
            Some(old) => old.text.is_some() && (new.text.is_none() || new.seq > old.seq),
        };
        if applies {
            self.change = Some(new);
        }
        applies
    }
}

/// The end of what is stored of a conversation: `epoch (4) ‖ seq (8) ‖ at (8) ‖ last message (8)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TailRow {
    pub(super) position: Position,
    pub(super) at: Timestamp,
    /// The `seq` of the last message; 0 when there is none.
    pub(super) last_message: u64,
}

impl TailRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(4 + 8 + 8 + 8);
        row.put_u32(self.position.epoch.number());
        row.put_u64(self.position.seq);
        row.put_i64(self.at.as_millis());
        row.put_u64(self.last_message);
        row
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader(bytes);
        let position = Position { epoch: Epoch::new(reader.u32()?), seq: reader.u64()? };
        Ok(Self { position, at: reader.timestamp()?, last_message: reader.u64()? })
    }
}

/// What of a row is not yet read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk().ok_or_else(cut_off)?;
        self.0 = rest;
        Ok(*chunk)
    }

    fn u8(&mut self) -> Result<u8> {
        self.chunk().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.chunk().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.chunk().map(u64::from_be_bytes)
    }

    fn timestamp(&mut self) -> Result<Timestamp> {
        self.chunk().map(|bytes| Timestamp::from_millis(i64::from_be_bytes(bytes)))
    }

    fn text(&mut self) -> Result<String> {
        let bytes = usize::try_from(self.u32()?).map_err(|_| cut_off())?;
        let (text, rest) = self.0.split_at_checked(bytes).ok_or_else(cut_off)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| Error::Damaged("a text is not UTF-8".into()))
    }
}

fn cut_off() -> Error {
    Error::Damaged("a row is cut off".into())
}
