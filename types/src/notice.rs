//! Notices: unstored messages between the roles, on the log's bus. Whoever misses one catches up from the
//! stores when it next looks; nothing may depend on a notice alone.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{ConversationId, GroupId, SessionId, UserId};

/// What happened, as one role tells the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Notice {
    /// To the user and to the directory topic: the user has access to a group from the event `seq` on.
    MemberAdded {
        /// The group.
        group: GroupId,
        /// The user.
        user: UserId,
        /// The `seq` of the `member_added` event.
        seq: u64,
    },
    /// To the user and to the directory topic: the user has no more access to a group.
    MemberRemoved {
        /// The group.
        group: GroupId,
        /// The user.
        user: UserId,
    },
    /// To the user and to the directory topic: a session was ended.
    SessionRevoked {
        /// Whose session.
        user: UserId,
        /// The session.
        session: SessionId,
    },
    /// To the directory topic: a user's name or picture changed, or it was deleted.
    UserUpdated {
        /// The user.
        user: UserId,
    },
    /// To the directory topic, ahead of the notices of what changed: what was changed is in the directory from
    /// this version on.
    DirectoryChanged {
        /// The version.
        version: u64,
    },
    /// To a user's own sessions: how far it has read.
    Read {
        /// The conversation.
        conversation: ConversationId,
        /// Read up to and with this event.
        seq: u64,
    },
    /// To the peer of a direct conversation: how far the other one has read.
    ReadByPeer {
        /// The conversation.
        conversation: ConversationId,
        /// Who has read.
        user: UserId,
        /// Read up to and with this event.
        seq: u64,
    },
    /// To the peer of a direct conversation: what has arrived at a device of the other one.
    Delivered {
        /// The conversation.
        conversation: ConversationId,
        /// At whose device.
        user: UserId,
        /// Arrived up to and with this event.
        seq: u64,
    },
    /// To a user: whichever edge holds connections of the user is to say so on its presence topic.
    PresenceAsked {
        /// The user.
        user: UserId,
    },
    /// To a user's presence topic: what one edge sees of the user.
    Presence {
        /// The user.
        user: UserId,
        /// Which edge says so: a number that it drew when it started.
        edge: u64,
        /// What it sees.
        status: Status,
    },
    /// To a group, or to the peer of a direct conversation: somebody is typing.
    Typing {
        /// The conversation.
        conversation: ConversationId,
        /// Who is typing.
        user: UserId,
    },
}

/// Whether a user is online. If several edges see the user, the most active status counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = PresenceStatus)]
pub enum Status {
    /// Not connected.
    #[default]
    Offline,
    /// Connected, but nothing has come from the user for a while.
    Away,
    /// Connected.
    Online,
}

impl Notice {
    /// The notice's JSON.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_else(|error| unreachable!("ids and numbers have JSON: {error}")).into()
    }

    /// Reads a notice; `None` for one that this program does not know.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
