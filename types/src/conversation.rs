//! What messages belong to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{GroupId, InvalidId, Region, UserId};
use crate::timestamp::Timestamp;

/// A group, or the direct conversation of two users, which needs no record: its id is made of theirs.
///
/// Printed as the group's id, or as the two users' ids in ascending order joined by `~`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "std::borrow::Cow<'_, str>", into = "String")]
pub enum ConversationId {
    /// A group with a record, an owner and members.
    Group(GroupId),
    /// Two users, in ascending order. Both may be the same: notes to oneself.
    Direct(UserId, UserId),
}

/// The text or the bytes name no conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a conversation's id: a group's UUID, or two users' UUIDs in ascending order joined by `~`")]
pub struct InvalidConversationId;

impl From<InvalidId> for InvalidConversationId {
    fn from(_: InvalidId) -> Self {
        Self
    }
}

/// First byte of a group's key.
const GROUP: u8 = b'g';
/// First byte of a direct conversation's key.
const DIRECT: u8 = b'd';

impl ConversationId {
    /// The longest key, in bytes: see [`ConversationId::key`].
    pub const MAX_KEY_BYTES: usize = 33;

    /// The direct conversation of two users, in whichever order they are given.
    #[must_use]
    pub fn direct(one: UserId, other: UserId) -> Self {
        Self::Direct(one.min(other), one.max(other))
    }

    /// `group` or `direct`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Group(_) => "group",
            Self::Direct(..) => "direct",
        }
    }

    /// The region whose log orders this conversation: the group's, or the first user's.
    #[must_use]
    pub fn home(&self) -> Region {
        match self {
            Self::Group(group) => group.region(),
            Self::Direct(first, _) => first.region(),
        }
    }

    /// Before then nothing can have happened in it: when its group was made, or the younger of its two users.
    #[must_use]
    pub fn born_at(&self) -> Timestamp {
        match self {
            Self::Group(group) => group.born_at(),
            Self::Direct(first, second) => first.born_at().max(second.born_at()),
        }
    }

    /// The shard of the home region's log, below `count`: FNV-1a (64 bit) of the key, modulo `count`.
    /// Stored data depends on it: it must never change.
    #[must_use]
    pub fn shard(&self, count: u16) -> u16 {
        let hash = self.key().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        u16::try_from(hash % u64::from(count.max(1))).unwrap_or_default()
    }

    /// For a direct conversation, the one who is not `user`; `None` for a group or a stranger.
    #[must_use]
    pub fn peer_of(&self, user: UserId) -> Option<UserId> {
        match *self {
            Self::Direct(first, second) if first == user => Some(second),
            Self::Direct(first, second) if second == user => Some(first),
            _ => None,
        }
    }

    /// A byte key: `g` and 16 bytes, or `d` and 32. No key is a prefix of another, so `key ‖ seq` keeps a
    /// conversation's rows together.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(Self::MAX_KEY_BYTES);
        self.write_key(&mut key);
        key
    }

    /// Appends [`ConversationId::key`] to `key`.
    pub fn write_key(&self, key: &mut Vec<u8>) {
        match self {
            Self::Group(group) => {
                key.push(GROUP);
                key.extend_from_slice(group.as_bytes());
            }
            Self::Direct(first, second) => {
                key.push(DIRECT);
                key.extend_from_slice(first.as_bytes());
                key.extend_from_slice(second.as_bytes());
            }
        }
    }

    /// Reads a key off the front of `bytes` and gives what follows it.
    ///
    /// # Errors
    /// When `bytes` does not begin with a key.
    pub fn split_key(bytes: &[u8]) -> Result<(Self, &[u8]), InvalidConversationId> {
        let (tag, rest) = bytes.split_first().ok_or(InvalidConversationId)?;
        let (first, rest) = rest.split_first_chunk::<16>().ok_or(InvalidConversationId)?;
        match *tag {
            GROUP => Ok((Self::Group(GroupId::from_bytes(*first)?), rest)),
            DIRECT => {
                let (second, rest) = rest.split_first_chunk::<16>().ok_or(InvalidConversationId)?;
                let (first, second) = (UserId::from_bytes(*first)?, UserId::from_bytes(*second)?);
                if first > second {
                    return Err(InvalidConversationId);
                }
                Ok((Self::Direct(first, second), rest))
            }
            _ => Err(InvalidConversationId),
        }
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(group) => group.fmt(f),
            Self::Direct(first, second) => write!(f, "{first}~{second}"),
        }
    }
}

impl FromStr for ConversationId {
    type Err = InvalidConversationId;

    fn from_str(text: &str) -> Result<Self, InvalidConversationId> {
        let Some((first, second)) = text.split_once('~') else {
            return Ok(Self::Group(text.parse()?));
        };
        let (first, second) = (first.parse()?, second.parse()?);
        if first > second {
            return Err(InvalidConversationId);
        }
        Ok(Self::Direct(first, second))
    }
}

impl TryFrom<std::borrow::Cow<'_, str>> for ConversationId {
    type Error = InvalidConversationId;

    fn try_from(text: std::borrow::Cow<'_, str>) -> Result<Self, InvalidConversationId> {
        text.parse()
    }
}

impl From<ConversationId> for String {
    fn from(conversation: ConversationId) -> Self {
        conversation.to_string()
    }
}

impl utoipa::PartialSchema for ConversationId {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .description(Some("A group's id, or two users' ids in ascending order joined by `~`"))
            .examples(["01980a8e-6c00-7001-8a3b-5d2f1c9e7a40"])
            .into()
    }
}

impl utoipa::ToSchema for ConversationId {}

impl From<GroupId> for ConversationId {
    fn from(group: GroupId) -> Self {
        Self::Group(group)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_oneof, proptest};

    use super::*;

    fn user() -> impl Strategy<Value = UserId> {
        any::<[u8; 16]>().prop_map(|mut bytes| {
            bytes[6] = bytes[6] & 0x0f | 0x70;
            bytes[8] = bytes[8] & 0x3f | 0x80;
            UserId::from_bytes(bytes).unwrap()
        })
    }

    fn conversation() -> impl Strategy<Value = ConversationId> {
        prop_oneof![
            user().prop_map(|id| GroupId::from_bytes(*id.as_bytes()).unwrap().into()),
            (user(), user()).prop_map(|(one, other)| ConversationId::direct(one, other)),
        ]
    }

    proptest! {
        #[test]
        fn a_conversation_survives_text_key_and_json(id in conversation(), rest in any::<[u8; 8]>()) {
            assert_eq!(id.to_string().parse(), Ok(id));
            let mut key = id.key();
            key.extend_from_slice(&rest);
            assert_eq!(ConversationId::split_key(&key), Ok((id, rest.as_slice())));
            let json = serde_json::to_string(&id).unwrap();
            assert_eq!(serde_json::from_str::<ConversationId>(&json).unwrap(), id);
        }

        #[test]
        fn a_shard_is_below_the_count(id in conversation(), count in 1_u16..) {
            assert!(id.shard(count) < count);
        }

        #[test]
        fn both_users_name_the_same_conversation(one in user(), other in user()) {
            let id = ConversationId::direct(one, other);
            assert_eq!(id, ConversationId::direct(other, one));
            assert_eq!(id.peer_of(one), Some(other));
            assert_eq!(id.peer_of(other), Some(one));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in any::<Vec<u8>>(), text in ".{0,80}") {
            std::hint::black_box(ConversationId::split_key(&bytes)).ok();
            std::hint::black_box(text.parse::<ConversationId>()).ok();
        }
    }

    #[test]
    fn the_hash_of_a_shard_never_changes() {
        let id: ConversationId = "01980a8e-6c00-7001-8a3b-5d2f1c9e7a40".parse().unwrap();
        assert_eq!(id.shard(1), 0);
        assert_eq!(id.shard(64), 39);
    }
}
