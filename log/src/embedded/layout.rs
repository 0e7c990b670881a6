//! What lies on disk: every key, and the record of an event.

use bytes::Bytes;
use types::{ConversationId, Entry, Epoch, EventId, Position, Timestamp, TraceContext};

use crate::{Error, Result};

/// The version of this layout. A log of another version is refused.
pub(crate) const FORMAT: u64 = 1;

/// Every key of the embedded log. Numbers are big-endian, so that keys sort by them. `entries` grows at its end and
/// shrinks at its beginning; `index` is all else, its kinds of keys told apart by their first byte or their length:
/// a conversation's key begins with `g` or `d`.
///
/// There is no table of event ids: the duplicate window is in memory (see [`super::recent`]) and is read
/// back from the records when the log is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key<'a> {
    /// In `entries`: `seq` (8 bytes) → [`Record`]. `seq` counts 1, 2, 3… without gaps, so the events lie in
    /// the order in which consumers and feeds read them.
    Entry {
        /// The event's place.
        seq: u64,
    },
    /// In `index`: the conversation's key, the first `seq` of a [`Span`] (8 bytes) → where the conversation's
    /// entries lie in that span, each as a distance from its first `seq` (2 bytes).
    InSpan {
        /// Whose entries.
        conversation: ConversationId,
        /// The span's first `seq`.
        first: u64,
    },
    /// In `index`: the conversation's key → [`Head`]. Written with the index; outlives the entries, so that `prev`
    /// stays true.
    Head {
        /// Whose last event.
        conversation: ConversationId,
    },
    /// In `index`: `i`, the first `seq` of a [`Span`] (8 bytes) → its last (8 bytes). Written once the span is
    /// indexed.
    Span {
        /// The span's first `seq`.
        first: u64,
    },
    /// In `index`: `c`, shard (2 bytes), the consumer's group → the last acknowledged `seq` (8 bytes).
    Consumer {
        /// The shard that it reads.
        shard: u16,
        /// The role that reads.
        group: &'a str,
    },
    /// In `index`: `f` → [`FORMAT`] (8 bytes).
    Format,
    /// In `index`: `r` → the region's number (8 bytes).
    Region,
    /// In `index`: `s` → the number of shards (8 bytes).
    Shards,
    /// In `index`: `e` → the epoch's number (8 bytes).
    Epoch,
    /// In `index`: `o` → the `seq` of the oldest entry that is kept (8 bytes). What is below counts as removed.
    Oldest,
}

/// First byte of a consumer's key.
const CONSUMER: u8 = b'c';
/// First byte of a span's key.
const SPAN: u8 = b'i';

impl<'a> Key<'a> {
    /// Writes the key over `bytes`.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.clear();
        match self {
            Self::Entry { seq } => bytes.extend_from_slice(&seq.to_be_bytes()),
            Self::InSpan { conversation, first } => {
                conversation.write_key(bytes);
                bytes.extend_from_slice(&first.to_be_bytes());
            }
            Self::Head { conversation } => conversation.write_key(bytes),
            Self::Span { first } => {
                bytes.push(SPAN);
                bytes.extend_from_slice(&first.to_be_bytes());
            }
            Self::Consumer { shard, group } => {
                bytes.push(CONSUMER);
                bytes.extend_from_slice(&shard.to_be_bytes());
                bytes.extend_from_slice(group.as_bytes());
            }
            Self::Format => bytes.push(b'f'),
            Self::Region => bytes.push(b'r'),
            Self::Shards => bytes.push(b's'),
            Self::Epoch => bytes.push(b'e'),
            Self::Oldest => bytes.push(b'o'),
        }
    }

    /// The key in a new allocation.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ConversationId::MAX_KEY_BYTES + size_of::<u64>());
        self.write(&mut bytes);
        bytes
    }

    /// Reads the key of a consumer.
    pub(crate) fn read_consumer(bytes: &'a [u8]) -> Result<(u16, &'a str)> {
        let damaged = || Error::Damaged("a consumer's key cannot be read".into());
        let rest = bytes.strip_prefix(&[CONSUMER]).ok_or_else(damaged)?;
        let (shard, group) = rest.split_first_chunk().ok_or_else(damaged)?;
        Ok((u16::from_be_bytes(*shard), std::str::from_utf8(group).map_err(|_| damaged())?))
    }

    /// What every consumer's key begins with.
    pub(crate) const CONSUMERS: [u8; 1] = [CONSUMER];
    /// What every span's key begins with.
    pub(crate) const SPANS: [u8; 1] = [SPAN];
}

/// A stretch of entries that was indexed in one go, from its first `seq` up to and with its last. The spans cover
/// all that has left memory, without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Span {
    /// The entries of a span, at most: a distance has two bytes.
    pub(crate) const MAX_ENTRIES: u64 = 1 << 16;
}

/// Reads the distances that [`Key::InSpan`] leads to.
pub(crate) fn read_distances(bytes: &[u8]) -> Result<impl Iterator<Item = u64> + '_> {
    let (distances, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return Err(Error::Damaged("an index cannot be read".into()));
    }
    Ok(distances.iter().map(|distance| u64::from(u16::from_be_bytes(*distance))))
}

/// Reads the `seq` at the end of a key, or of a value.
pub(crate) fn read_seq(key: &[u8]) -> Result<u64> {
    match key.last_chunk() {
        Some(seq) => Ok(u64::from_be_bytes(*seq)),
        None => Err(Error::Damaged("a key is too short for a sequence number".into())),
    }
}

/// The last event of a conversation, as it is stored: `seq` (8 bytes), `at` (8 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) seq: u64,
    pub(crate) at: Timestamp,
}

impl Head {
    pub(crate) fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.seq.to_be_bytes());
        bytes[8..].copy_from_slice(&self.at.as_millis().to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader { rest: bytes, what: "a conversation's head" };
        let head = Self { seq: reader.u64()?, at: reader.timestamp()? };
        if reader.rest.is_empty() { Ok(head) } else { Err(reader.damaged()) }
    }
}

/// An event as it is stored: `prev` (8 bytes), `at` (8 bytes), the event's id (16 bytes), the conversation's
/// key, the payload; and last, when the highest bit of `prev` is set, its trace context (25 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) prev: u64,
    pub(crate) at: Timestamp,
    pub(crate) id: EventId,
    pub(crate) conversation: ConversationId,
    pub(crate) payload: &'a [u8],
    pub(crate) trace: Option<TraceContext>,
}

/// Set in a stored `prev` when a trace context stands behind the payload. Sequence numbers never come so far.
const IS_TRACED: u64 = 1 << 63;

impl<'a> Record<'a> {
    /// Writes the record over `bytes`.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.clear();
        let is_traced = if self.trace.is_some() { IS_TRACED } else { 0 };
        bytes.extend_from_slice(&(self.prev | is_traced).to_be_bytes());
        bytes.extend_from_slice(&self.at.as_millis().to_be_bytes());
        bytes.extend_from_slice(self.id.as_bytes());
        self.conversation.write_key(bytes);
        bytes.extend_from_slice(self.payload);
        bytes.extend(self.trace.iter().flat_map(TraceContext::to_bytes));
    }

    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self> {
        let mut reader = Reader { rest: bytes, what: "a record" };
        let (prev, is_traced) = split_flag(reader.u64()?);
        let at = reader.timestamp()?;
        let id = EventId::from_bytes(reader.take()?).map_err(|_| reader.damaged())?;
        let (conversation, rest) = ConversationId::split_key(reader.rest).map_err(|_| reader.damaged())?;
        if !is_traced {
            return Ok(Self { prev, at, id, conversation, payload: rest, trace: None });
        }
        let (payload, trace) = rest.split_last_chunk().ok_or_else(|| reader.damaged())?;
        let trace = TraceContext::from_bytes(trace).map_err(|_| reader.damaged())?;
        Ok(Self { prev, at, id, conversation, payload, trace: Some(trace) })
    }

    /// The event at `seq`, in a copy of its own.
    pub(crate) fn to_entry(self, epoch: Epoch, seq: u64) -> Entry {
        Entry {
            conversation: self.conversation,
            position: Position { epoch, seq },
            prev: self.prev,
            at: self.at,
            payload: Bytes::copy_from_slice(self.payload),
            trace: self.trace,
        }
    }
}

fn split_flag(prev: u64) -> (u64, bool) {
    (prev & !IS_TRACED, prev & IS_TRACED != 0)
}

/// Reads fields off the front.
struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl Reader<'_> {
    fn damaged(&self) -> Error {
        Error::Damaged(format!("{} cannot be read", self.what))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| self.damaged())?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u64(&mut self) -> Result<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn timestamp(&mut self) -> Result<Timestamp> {
        self.take().map(|bytes| Timestamp::from_millis(i64::from_be_bytes(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_oneof, proptest};
    use types::{GroupId, UserId};

    use super::*;

    fn uuid() -> impl Strategy<Value = [u8; 16]> {
        any::<[u8; 16]>().prop_map(|mut bytes| {
            bytes[6] = bytes[6] & 0x0f | 0x70;
            bytes[8] = bytes[8] & 0x3f | 0x80;
            bytes
        })
    }

    fn conversation() -> impl Strategy<Value = ConversationId> {
        prop_oneof![
            uuid().prop_map(|id| GroupId::from_bytes(id).unwrap().into()),
            (uuid(), uuid()).prop_map(|(one, other)| {
                ConversationId::direct(UserId::from_bytes(one).unwrap(), UserId::from_bytes(other).unwrap())
            }),
        ]
    }

    fn trace() -> impl Strategy<Value = Option<TraceContext>> {
        let context = |(trace, span, flags): (u128, u64, u8)| {
            TraceContext::new(trace.to_be_bytes(), span.to_be_bytes(), flags).unwrap()
        };
        proptest::option::of((1_u128.., 1_u64.., any::<u8>()).prop_map(context))
    }

    fn timestamp() -> impl Strategy<Value = Timestamp> {
        (0..=Timestamp::MAX.as_millis()).prop_map(Timestamp::from_millis)
    }

    proptest! {
        #[test]
        fn a_record_survives_its_bytes(
            (prev, at) in (0_u64..1 << 53, timestamp()), id in uuid(), conversation in conversation(),
            payload in any::<Vec<u8>>(), trace in trace(),
        ) {
            let id = EventId::from_bytes(id).unwrap();
            let record = Record { prev, at, id, conversation, payload: &payload, trace };
            let mut bytes = b"left over".to_vec();
            record.write(&mut bytes);
            assert_eq!(Record::read(&bytes).unwrap(), record);
        }

        #[test]
        fn a_head_survives_its_bytes(seq in any::<u64>(), at in timestamp()) {
            let head = Head { seq, at };
            assert_eq!(Head::decode(&head.encode()).unwrap(), head);
        }

        #[test]
        fn a_consumer_survives_its_key(shard in any::<u16>(), group in ".{0,40}") {
            let key = Key::Consumer { shard, group: &group }.bytes();
            assert_eq!(Key::read_consumer(&key).unwrap(), (shard, group.as_str()));
        }

        #[test]
        fn the_keys_of_a_conversation_sort_by_seq(conversation in conversation(), one in any::<u64>(), other in any::<u64>()) {
            let key = |first| Key::InSpan { conversation, first }.bytes();
            assert_eq!(key(one).cmp(&key(other)), one.cmp(&other));
            assert_eq!(read_seq(&key(one)).unwrap(), one);
        }

        #[test]
        fn no_bytes_make_the_readers_panic(bytes in any::<Vec<u8>>()) {
            drop(Record::read(&bytes));
            drop(Head::decode(&bytes));
            drop(Key::read_consumer(&bytes));
            drop(read_seq(&bytes));
            drop(read_distances(&bytes).map(Iterator::count));
        }
    }

    #[test]
    fn no_other_key_is_taken_for_a_consumer_or_a_span() {
        let span = Key::Span { first: 1 };
        let conversation = crate::contract::group().into();
        let head = Key::Head { conversation };
        for key in [Key::Format, Key::Region, Key::Shards, Key::Epoch, Key::Oldest, span, head] {
            assert!(!key.bytes().starts_with(&Key::CONSUMERS), "{key:?}");
            assert_eq!(key.bytes().starts_with(&Key::SPANS), key == span, "{key:?}");
        }
    }
}
