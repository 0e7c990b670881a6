//! What the directory knows.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use types::{AttachmentId, ConversationId, EventId, GroupId, SessionId, Timestamp, UserId};

/// A user as the directory knows it. Of a deleted user only the id, the times and `deleted` are left; the
/// texts are empty, the user name is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The id; its region is the user's home.
    pub id: UserId,
    /// Unique without regard to case; kept as it was typed.
    pub username: String,
    /// The name that others see.
    pub name: String,
    /// Unique, ignoring case.
    pub email: String,
    /// A link to a picture.
    pub picture: Option<String>,
    /// What the user may do beyond chatting.
    pub roles: Vec<Role>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Whether it was deleted.
    pub deleted: bool,
}

/// What a user may do beyond chatting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Grants roles.
    Operator,
    /// Sees names and direct conversations in analytics.
    Analyst,
    /// Sends messages with senders and times of its own.
    Import,
}

/// What a log-in needs. Never sent to anybody.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Whose they are.
    pub user: User,
    /// A PHC string.
    pub password_hash: String,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The id, whose region is the home of the group's log.
    pub id: GroupId,
    /// What it is called.
    pub name: String,
    /// Who may change it.
    pub owner: UserId,
    /// How many members it has.
    pub members_count: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its name, owner or members last changed.
    pub updated_at: Timestamp,
}

/// What a member is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    /// May change the group and its members.
    Owner,
    /// May read and write.
    Member,
}

/// A user's membership of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The user.
    pub user: User,
    /// What it is in the group.
    pub role: MemberRole,
    /// Since when.
    pub joined_at: Timestamp,
}

/// One log-in of one user on one device. The refresh token itself is nowhere stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The id.
    pub id: SessionId,
    /// Whose it is.
    pub user: UserId,
    /// What the client called itself (`User-Agent`), cut to 200 characters.
    pub client: String,
    /// When it started.
    pub created_at: Timestamp,
    /// When its refresh token was last used.
    pub refreshed_at: Timestamp,
    /// When its refresh token expires.
    pub expires_at: Timestamp,
}

/// What is known of an attachment; its bytes are in the blob store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The id.
    pub id: AttachmentId,
    /// Who uploaded it.
    pub owner: UserId,
    /// Its file name, without any path.
    pub name: String,
    /// Its media type, determined from its content.
    pub content_type: String,
    /// Bytes.
    pub size: u64,
    /// Pixels, of images.
    pub width: Option<u32>,
    /// Pixels, of images.
    pub height: Option<u32>,
    /// When it was uploaded.
    pub created_at: Timestamp,
}

/// Bytes on their way into the blob store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// The blob's id, or what a link uploads under.
    pub id: AttachmentId,
    /// Whose they are.
    pub owner: UserId,
    /// Their file name, without any path.
    pub name: String,
    /// Their media type, as the sender calls it.
    pub content_type: Option<String>,
    /// Bytes, when they are known.
    pub size: Option<u64>,
    /// What was made of them.
    pub attachment: Option<AttachmentId>,
    /// When it started.
    pub created_at: Timestamp,
}

/// An event that a command wants in the log, stored with the command's own changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// The event's id, so that a row relayed twice takes effect once.
    pub id: EventId,
    /// Where it happens.
    pub conversation: ConversationId,
    /// The event's JSON.
    pub payload: Bytes,
}
