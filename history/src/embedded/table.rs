//! The tables, and the keys in them.
//!
//! Numbers in keys are big-endian, so that keys sort as the numbers do. `conversation` is
//! [`ConversationId::key`], an id is its sixteen bytes, `seq` has eight. Within the tables of events a
//! conversation goes by a `number` of four bytes, given when its first event is stored: keys of up to twenty
//! bytes are compared without a look elsewhere in memory, which is most of what storing an event costs.

use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use types::{ConversationId, EventId, UserId};

use crate::{Error, Result};

/// What is kept, each in a keyspace of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// Every event: `number ‖ class ‖ seq` → [`Row`](super::row::Row). The class keeps messages apart from all
    /// else, so that a page of messages steps over nothing.
    Events,
    /// The first event of each id: `event id ‖ number` → `class ‖ seq`, the end of its key in
    /// [`Table::Events`]. As ids sort by time, new ones come at the end, where they are cheap to add.
    Ids,
    /// The messages of each sender: `number ‖ the id's last eight bytes ‖ seq` → nothing. Those bytes are
    /// random; whether it is that sender's says the message itself.
    Senders,
    /// The number of each conversation: `conversation` → `number`.
    Numbers,
    /// The end of what is stored of each: `number` → [`TailRow`](super::row::TailRow).
    Tails,
    /// Who has a direct conversation with whom, in both directions: `user ‖ user` → nothing.
    Peers,
    /// How far each user has read: `user ‖ conversation` → `seq`.
    Marks,
}

const TABLES: usize = 7;

impl Table {
    const ALL: [Self; TABLES] =
        [Self::Events, Self::Ids, Self::Senders, Self::Numbers, Self::Tails, Self::Peers, Self::Marks];

    fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Ids => "ids",
            Self::Senders => "senders",
            Self::Numbers => "numbers",
            Self::Tails => "tails",
            Self::Peers => "peers",
            Self::Marks => "marks",
        }
    }

    /// How much is gathered in memory before it is written as a sorted file. Together with the cache it is
    /// what an idle process keeps.
    fn memory_bytes(self) -> u64 {
        match self {
            Self::Events => 8 << 20,
            Self::Ids | Self::Senders | Self::Tails => 4 << 20,
            Self::Numbers | Self::Peers | Self::Marks => 1 << 20,
        }
    }
}

/// The tables of one open history.
pub(super) struct Tables([Keyspace; TABLES]);

impl Tables {
    pub(super) fn open(database: &Database) -> Result<Self> {
        let open = |table: Table| {
            let options = || KeyspaceCreateOptions::default().max_memtable_size(table.memory_bytes());
            database.keyspace(table.name(), options)
        };
        let [events, ids, senders, numbers, tails, peers, marks] = Table::ALL.map(open);
        Ok(Self([events?, ids?, senders?, numbers?, tails?, peers?, marks?]))
    }

    pub(super) fn of(&self, table: Table) -> &Keyspace {
        &self.0[table as usize]
    }
}

/// What an event is kept as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// A message, the first event of its id.
    Message,
    /// Everything else, also what repeats an id or cannot be read.
    Other,
}

impl Class {
    const fn byte(self) -> u8 {
        match self {
            Self::Message => b'm',
            Self::Other => b'o',
        }
    }
}

/// The end of an event's key: where in its conversation it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) class: Class,
    pub(super) seq: u64,
}

impl Place {
    const BYTES: usize = 1 + 8;

    pub(super) const fn message(seq: u64) -> Self {
        Self { class: Class::Message, seq }
    }

    pub(super) const fn other(seq: u64) -> Self {
        Self { class: Class::Other, seq }
    }

    pub(super) fn encode(self) -> [u8; Self::BYTES] {
        joined(&[&[self.class.byte()], &self.seq.to_be_bytes()])
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        match bytes.last_chunk::<{ Self::BYTES }>() {
            Some([b'm', seq @ ..]) => Ok(Self::message(u64::from_be_bytes(*seq))),
            Some([b'o', seq @ ..]) => Ok(Self::other(u64::from_be_bytes(*seq))),
            _ => Err(Error::Damaged("the place of an event is cut off or of an unknown class".into())),
        }
    }
}

/// A conversation's number, and with it its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number(pub(super) u32);

impl Number {
    /// In [`Table::Tails`]; the value in [`Table::Numbers`].
    pub(super) const fn key(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }

    /// In [`Table::Events`].
    pub(super) fn event(self, place: Place) -> [u8; 13] {
        joined(&[&self.key(), &place.encode()])
    }

    /// In [`Table::Ids`].
    pub(super) fn id(self, id: EventId) -> [u8; 20] {
        joined(&[id.as_bytes(), &self.key()])
    }

    /// In [`Table::Senders`].
    pub(super) fn sent(self, sender: UserId, seq: u64) -> [u8; 20] {
        joined(&[&self.key(), &sender.as_bytes()[8..], &seq.to_be_bytes()])
    }

    /// Reads what [`Number::key`] gives.
    pub(super) fn decode(key: &[u8]) -> Result<Self> {
        let key = key.try_into().map_err(|_| Error::Damaged("a conversation's number is cut off".into()))?;
        Ok(Self(u32::from_be_bytes(key)))
    }
}

/// In [`Table::Peers`].
pub(super) fn peer(user: UserId, peer: UserId) -> [u8; 32] {
    joined(&[user.as_bytes(), peer.as_bytes()])
}

/// The last key in [`Table::Peers`] that a user can have.
pub(super) fn last_peer(user: UserId) -> [u8; 32] {
    joined(&[user.as_bytes(), &[u8::MAX; 16]])
}

/// Whom a key in [`Table::Peers`] names second.
pub(super) fn peer_of(key: &[u8]) -> Result<UserId> {
    let peer = key.last_chunk().and_then(|bytes| UserId::from_bytes(*bytes).ok());
    peer.ok_or_else(|| Error::Damaged("a peer is no user".into()))
}

/// In [`Table::Marks`].
pub(super) fn mark(user: UserId, conversation: ConversationId) -> Vec<u8> {
    let mut key = Vec::with_capacity(16 + ConversationId::MAX_KEY_BYTES);
    key.extend_from_slice(user.as_bytes());
    conversation.write_key(&mut key);
    key
}

/// The `seq` at the end of a key, or a whole value.
pub(super) fn seq_of(bytes: &[u8]) -> Result<u64> {
    let seq = bytes.last_chunk().ok_or_else(|| Error::Damaged("a number is cut off".into()))?;
    Ok(u64::from_be_bytes(*seq))
}

/// The parts, one after the other. They must be `N` bytes in all.
fn joined<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut key = [0; N];
    let mut filled = 0;
    for part in parts {
        key[filled..filled + part.len()].copy_from_slice(part);
        filled += part.len();
    }
    key
}
