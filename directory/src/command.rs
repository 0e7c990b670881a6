//! Writes, as they travel from an edge to the directory service.

use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use types::{AttachmentId, ConversationId, EventId, GroupId, SessionId, Timestamp, UserId};

use crate::{Attachment, Group, OutboxRow, Role, Session, Upload, User};

/// A change of the directory. Whoever issues it has validated its fields; what depends on other records
/// (uniqueness, ownership, limits) is decided in the transaction that carries it out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// A new user, with its first session if one is wanted. The first user of all becomes operator and analyst.
    Register {
        /// The user.
        user: NewUser,
        /// Its first session.
        session: Option<NewSession>,
    },
    /// A log-in whose password was right. If it is another one by now, this is [`Refusal::PasswordChanged`]. Of more than
    /// [`crate::MAX_SESSIONS_PER_USER`] those end that were refreshed longest ago.
    OpenSession {
        /// The session.
        session: NewSession,
    },
    /// Exchanges a refresh token. One that was exchanged before was stolen or is replayed: the session is
    /// revoked and the outcome is [`Refusal::SessionReused`]. The same command once more, with the same next
    /// token, is no replay. Nor is the last one that was exchanged, once more within [`crate::REPEATED_WITHIN`], for
    /// its client may not have got the answer; what it was given then is good no more.
    RotateSession {
        /// The session.
        session: SessionId,
        /// The hash of the token presented.
        presented: SecretHash,
        /// The hash of the next token.
        next: SecretHash,
        /// When the next token ceases to be good.
        expires_at: Timestamp,
        /// The time of the exchange.
        at: Timestamp,
    },
    /// Ends a session of `user`.
    RevokeSession {
        /// Whose session it must be.
        user: UserId,
        /// The session.
        session: SessionId,
        /// The time of the revocation.
        at: Timestamp,
    },
    /// Changes the fields that are given. A user name that is given up stays reserved for whoever gave it up; of those
    /// and the present one there may be [`crate::MAX_USERNAMES_PER_USER`].
    UpdateUser {
        /// The user.
        user: UserId,
        /// A new user name.
        username: Option<String>,
        /// A new name.
        name: Option<String>,
        /// A new email address.
        email: Option<String>,
        /// A new picture; `Some(None)` removes it.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
        picture: Option<Option<String>>,
        /// A new password, as a PHC string. All sessions but `keep_session` end.
        password_hash: Option<String>,
        /// The session that a new password leaves open.
        keep_session: Option<SessionId>,
        /// [`SecretHash::of`] the PHC string that the password so far was verified by. If it is another one by now,
        /// this is [`Refusal::PasswordChanged`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verified: Option<SecretHash>,
        /// The time of the change.
        at: Timestamp,
    },
    /// Withdraws a user: its sessions end, it leaves its groups, its texts are erased, its user name is never
    /// given again.
    DeleteUser {
        /// The user.
        user: UserId,
        /// The time of the deletion.
        at: Timestamp,
    },
    /// Grants exactly these roles.
    SetRoles {
        /// Who grants; `None` for an operator at the machine itself.
        by: Option<UserId>,
        /// To whom.
        user: UserId,
        /// What.
        roles: Vec<Role>,
        /// The time of the change.
        at: Timestamp,
    },
    /// A new group. The owner becomes its first member.
    CreateGroup {
        /// The id.
        group: GroupId,
        /// What it is called.
        name: String,
        /// Who creates it.
        owner: UserId,
        /// Who else is a member from the start, at most [`crate::MAX_ADDED_AT_ONCE`].
        members: Vec<UserId>,
        /// The time of the creation.
        at: Timestamp,
    },
    /// Renames a group. For its owner only.
    RenameGroup {
        /// The group.
        group: GroupId,
        /// Who renames.
        by: UserId,
        /// The new name.
        name: String,
        /// The time of the change.
        at: Timestamp,
    },
    /// Ends a group: all members lose access. Only its owner may.
    DeleteGroup {
        /// The group.
        group: GroupId,
        /// Who deletes.
        by: UserId,
        /// The time of the deletion.
        at: Timestamp,
    },
    /// Gives users access. Only the owner may. Those who have it already are passed over.
    AddMembers {
        /// The group.
        group: GroupId,
        /// Who invites.
        by: UserId,
        /// Whom, at most [`crate::MAX_ADDED_AT_ONCE`].
        users: Vec<UserId>,
        /// The time of the change.
        at: Timestamp,
    },
    /// Takes access away. The owner may remove anybody, everybody may leave. An owner who leaves is followed
    /// by the member of longest standing; with the last member the group ends. Who is no member cannot be
    /// removed: [`Refusal::UnknownUser`].
    RemoveMember {
        /// The group.
        group: GroupId,
        /// Who removes.
        by: UserId,
        /// Whom.
        user: UserId,
        /// The time of the change.
        at: Timestamp,
    },
    /// Notes that bytes are about to come into the blob store, before the first of them does: what is not made an
    /// attachment in time is removed there ([`Command::CondemnOrphans`]).
    BeginUpload {
        /// What is known of them.
        upload: Upload,
    },
    /// Makes an attachment of bytes that are in the blob store and were begun under its id; if they were not, or
    /// were given up, it is [`Refusal::UnknownUpload`]. Of an `upload` one attachment is made: further ones are
    /// passed over, and the outcome is the first one.
    AddAttachment {
        /// What is known of it.
        attachment: Attachment,
        /// The upload by a link whose bytes were copied.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        upload: Option<AttachmentId>,
    },
    /// Opens an attachment to the members of a conversation, because a message there is about to have it. Only
    /// its owner may, and [`crate::MAX_SENDS`] times at most. For a message that was withdrawn nothing is opened, and
    /// the outcome is `repeated`.
    SendAttachment {
        /// The attachment.
        attachment: AttachmentId,
        /// Who sends it.
        by: UserId,
        /// Where.
        conversation: ConversationId,
        /// The message.
        message: EventId,
    },
    /// Closes for good what a message had opened: it is deleted.
    WithdrawAttachments {
        /// The message.
        message: EventId,
        /// The time of the deletion.
        at: Timestamp,
    },
    /// Gives up uploads that began before a moment, and attachments that no message has had since before it, at
    /// most [`crate::MAX_CONDEMNED_AT_ONCE`] of each. They are unknown from here on; their blobs are to be removed
    /// ([`crate::Directory::condemned`]). The outcome is `repeated` when there were none.
    CondemnOrphans {
        /// The moment.
        before: Timestamp,
    },
    /// Takes note that blobs were removed.
    ForgetCondemned {
        /// The blobs.
        blobs: Vec<AttachmentId>,
    },
}

/// Reads a field that is there: `null` is a value, and only a missing field is none.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(field: D) -> Result<Option<T>, D::Error> {
    T::deserialize(field).map(Some)
}

/// A user to be registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// The id.
    pub id: UserId,
    /// The user name, as typed.
    pub username: String,
    /// The name that others see.
    pub name: String,
    /// The email address.
    pub email: String,
    /// A PHC string.
    pub password_hash: String,
    /// The time of the registration.
    pub at: Timestamp,
}

/// A session to be opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSession {
    /// The id.
    pub id: SessionId,
    /// Whose it is.
    pub user: UserId,
    /// The hash of its refresh token.
    pub refresh_hash: SecretHash,
    /// What the client called itself.
    pub client: String,
    /// When the refresh token ceases to be good.
    pub expires_at: Timestamp,
    /// The time of the log-in.
    pub at: Timestamp,
    /// [`SecretHash::of`] the PHC string that the password was verified by, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<SecretHash>,
}

/// The SHA-256 of a secret with so many random bits that it needs no salt.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretHash(pub [u8; 32]);

impl SecretHash {
    /// Of a secret with so many random bits: a refresh token's, or a PHC string with its salt.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret).into())
    }
}

impl std::fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

/// What a command brought about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The user concerned, as it now is.
    pub user: Option<User>,
    /// The session concerned, as it now is.
    pub session: Option<Session>,
    /// The group concerned, as it now is; `None` when it has ended.
    pub group: Option<Group>,
    /// The attachment concerned.
    #[serde(default)]
    pub attachment: Option<Attachment>,
    /// Sessions that have ended.
    pub revoked: Vec<SessionId>,
    /// The events for the log, in order. They stand in the outbox until they are relayed, and do not travel in
    /// an answer, for there may be as many as a group has members.
    #[serde(skip)]
    pub events: Vec<OutboxRow>,
    /// Whether the same had been done before, and nothing was changed now.
    pub repeated: bool,
}

/// Why a command was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Somebody has, or had, this user name.
    #[error("the user name is taken")]
    UsernameTaken,
    /// As many user names as may be are kept for the user, and this is none of them.
    #[error("the user has had too many user names; only one of those is possible")]
    TooManyUsernames,
    /// Somebody has this email address.
    #[error("the email address is taken")]
    EmailTaken,
    /// The id stands for something else.
    #[error("the id is taken")]
    IdTaken,
    /// There is no such user, or it was deleted.
    #[error("there is no such user")]
    UnknownUser,
    /// There is no such group, or the caller is no member of it.
    #[error("there is no such group")]
    UnknownGroup,
    /// The password is no longer the one that was verified.
    #[error("the password was changed meanwhile")]
    PasswordChanged,
    /// There is no such session, or it has ended.
    #[error("there is no such session")]
    UnknownSession,
    /// There is no such attachment, or it is somebody else's.
    #[error("you have no such attachment")]
    UnknownAttachment,
    /// There is no such upload, or it was given up.
    #[error("there is no such upload")]
    UnknownUpload,
    /// The attachment was sent as often as it may be.
    #[error("the attachment was already in a thousand messages")]
    TooManySends,
    /// The user has begun as many uploads by link as it may.
    #[error("a hundred uploads by link wait to be completed")]
    TooManyUploads,
    /// The refresh token had been exchanged before: the session is revoked.
    #[error("the refresh token was used before; the session is revoked")]
    SessionReused,
    /// The caller is known and may not.
    #[error("only the owner may do this")]
    NotOwner,
    /// The caller is no operator.
    #[error("only an operator may do this")]
    NotOperator,
    /// The group would have too many members, or one command names too many.
    #[error("the group has reached its limit of members")]
    TooManyMembers,
    /// The user would be in too many groups.
    #[error("a user has reached the limit of groups")]
    TooManyGroups,
}
