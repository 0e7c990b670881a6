//! The directory: users, groups, members, sessions, and what is known of attachments.
//!
//! Edges read; every write is a [`Command`] that the directory service (in ingest) carries out in one
//! transaction, together with outbox rows that then become events of the log.
//!
//! Embedded: on SQLite. In a cluster: on Postgres. Every implementation passes the suite in `contract.rs`.

mod command;
#[cfg(test)]
mod contract;
mod lease;
mod postgres;
mod record;
mod service;
mod sql;
mod sqlite;
mod version;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use types::{AttachmentId, ConversationId, EventId, GroupId, Secret, SessionId, Timestamp, UserId};

pub use command::{Command, NewSession, NewUser, Outcome, Refusal, SecretHash};
pub use lease::Lease;
pub use record::{Attachment, Credentials, Group, Member, MemberRole, OutboxRow, Role, Session, Upload, User};
pub use service::{Answer, SERVICE};
pub use version::Version;

/// Which directory, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Config {
    /// One SQLite file on the local disk.
    Sqlite {
        /// The file; made when missing. Relative to the data folder.
        path: PathBuf,
    },
    /// A Postgres server, 16 or later, shared by all processes. `migrate` brings its schema up to date.
    Postgres {
        /// Of the primary: `postgres://user:password@host:5432/database?sslmode=verify-full`.
        url: Secret,
        /// Of a streaming replica, or of several behind one address. Reads go there.
        #[serde(default)]
        replica_url: Option<Secret>,
        /// Connections of one process to each server, at most; the relay of the outbox has one more.
        #[serde(default = "default_max_connections")]
        max_connections: u32,
    },
}

fn default_max_connections() -> u32 {
    16
}

impl Default for Config {
    fn default() -> Self {
        Self::Sqlite { path: "directory.sqlite".into() }
    }
}

/// What went wrong, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be stored or read now; the same call may succeed later.
    #[error("the directory is unavailable: {0}")]
    Unavailable(String),
    /// What is stored cannot be understood. An operator must look.
    #[error("the directory is damaged: {0}")]
    Damaged(String),
    /// It is not as this program needs it: not migrated, or set up otherwise. Only [`open`] and [`migrate`] say so, and
    /// waiting does not help.
    #[error("the directory is not as it must be: {0}")]
    Unfit(String),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// The most members that one group may have.
pub const MAX_MEMBERS: usize = 100_000;
/// The most groups that one user may be a member of.
pub const MAX_GROUPS_PER_USER: usize = 2_000;
/// The most users that one command may add to a group.
pub const MAX_ADDED_AT_ONCE: usize = 1_000;
/// The most sessions that one user may have open. A further one ends the one that was refreshed longest ago.
pub const MAX_SESSIONS_PER_USER: usize = 100;
/// The most user names that are kept for one user, the present one counted too.
pub const MAX_USERNAMES_PER_USER: usize = 10;
/// The most messages that may have one attachment, those that were deleted counted too.
pub const MAX_SENDS: usize = 1_000;
/// The most names that one search looks through, in their order.
pub const MAX_NAMES_SEARCHED: usize = 1_000;
/// The most uploads by link that one user may have begun and not completed. They are given up after a while.
pub const MAX_OPEN_UPLOADS: usize = 100;
/// How long a client whose answer was lost may exchange its refresh token once more.
pub const REPEATED_WITHIN: Duration = Duration::from_secs(30);
/// The most uploads, and the most attachments, that one command gives up.
pub const MAX_CONDEMNED_AT_ONCE: usize = 1_000;

/// Users, groups, members and sessions. Cheap to share; every method may be called from many tasks at once.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// Carries out a command in one transaction, durably on return, together with its outbox rows. A refused
    /// command changes nothing, but for [`Refusal::SessionReused`]. A command that creates and bears the same id
    /// and content as one before, whatever its time, changes nothing and gives its records as they now are.
    async fn execute(&self, command: &Command) -> Result<std::result::Result<Outcome, Refusal>>;

    /// A version of the directory that has everything in it that was carried out before the call.
    async fn version(&self) -> Result<Version>;

    /// Has every read that begins after the call give the state at `version` or a later one, even where reads
    /// come from a copy that lags behind. Who had a command carried out by another process calls it with the
    /// version in the answer.
    fn catch_up(&self, version: Version);

    /// The right to relay the outbox; `None` while another has it. It is given back when it is dropped, and
    /// within 10 seconds when the process or its machine dies.
    async fn lease(&self) -> Result<Option<Lease>>;

    /// Outbox rows that are not yet relayed, oldest first, after the first `skip`, at most `limit`. Of one conversation
    /// none is ever missing before another one.
    async fn outbox(&self, skip: usize, limit: usize) -> Result<Vec<OutboxRow>>;

    /// Takes rows out of the outbox: they are in the log.
    async fn relayed(&self, rows: &[EventId]) -> Result<()>;

    /// Users by id, deleted ones too, `None` where there is none, in the order of the question.
    async fn users(&self, ids: &[UserId]) -> Result<Vec<Option<User>>>;

    /// The user with this user name or email address, without regard to case, and what proves the password.
    async fn credentials(&self, login: &str) -> Result<Option<Credentials>>;

    /// Users that are not deleted and whose user name or name begins with `query` without regard to case
    /// (all, when empty), in order of their user names, after the user name `after`, at most `limit`. If more than
    /// [`MAX_NAMES_SEARCHED`] names begin so, those are found that come first in the order of names.
    async fn search_users(&self, query: &str, after: Option<&str>, limit: usize) -> Result<Vec<User>>;

    /// Groups by id, `None` where there is none or it was deleted, in the order of the question.
    async fn groups(&self, ids: &[GroupId]) -> Result<Vec<Option<Group>>>;

    /// All groups of a user, in order of their ids.
    async fn groups_of(&self, user: UserId) -> Result<Vec<GroupId>>;

    /// What `user` is in a group; `None` for a stranger, and when there is no such group.
    async fn role(&self, group: GroupId, user: UserId) -> Result<Option<MemberRole>>;

    /// The members of a group in order of their ids, after `after`, at most `limit`.
    async fn members(&self, group: GroupId, after: Option<UserId>, limit: usize) -> Result<Vec<Member>>;

    /// A session by its id, ended or not. One that ended long ago is forgotten.
    async fn session(&self, id: SessionId) -> Result<Option<Session>>;

    /// The sessions of a user that are neither revoked nor expired at `now`, newest first.
    async fn sessions(&self, user: UserId, now: Timestamp) -> Result<Vec<Session>>;

    /// Sessions that were revoked at `since` or later, with their users. Access tokens outlive their sessions by a
    /// little, so an edge asks at its start, and now and then, for it may have missed a notice.
    async fn revoked_since(&self, since: Timestamp) -> Result<Vec<(UserId, SessionId)>>;

    /// An attachment by its id.
    async fn attachment(&self, id: AttachmentId) -> Result<Option<Attachment>>;

    /// Bytes on their way, by their id.
    async fn upload(&self, id: AttachmentId) -> Result<Option<Upload>>;

    /// The conversations that an attachment was sent in, each once, in no order; at most [`MAX_SENDS`].
    async fn sent_in(&self, attachment: AttachmentId) -> Result<Vec<ConversationId>>;

    /// Blobs that are to be removed from the blob store, those of greater ids than `after`, in order, at most `limit`.
    async fn condemned(&self, after: Option<AttachmentId>, limit: usize) -> Result<Vec<AttachmentId>>;
}

/// Opens the directory that `config` names. Relative paths are below `data_dir`. An embedded one is brought to
/// the present schema. A shared one is left as it is: a newer schema is accepted, so that the processes of the
/// previous version run on while a cluster is upgraded.
///
/// # Errors
/// When the disk refuses, or the server does not answer; [`Error::Unfit`] when the schema is older than this program's,
/// or the server would lose what it has acknowledged.
pub async fn open(config: &Config, data_dir: &Path) -> Result<Arc<dyn Directory>> {
    let directory = match config {
        Config::Sqlite { path } => sql::Sql::Sqlite(sqlite::open(&data_dir.join(path)).await?),
        Config::Postgres { url, replica_url, max_connections } => {
            sql::Sql::Postgres(Box::new(postgres::open(url, replica_url.as_ref(), *max_connections).await?))
        }
    };
    Ok(Arc::new(directory))
}

/// Brings the directory that `config` names to the present schema. May be run again, and at the same time from
/// several places.
///
/// # Errors
/// When the disk refuses, the server does not answer, or the schema is newer than this program.
pub async fn migrate(config: &Config, data_dir: &Path) -> Result<()> {
    match config {
        Config::Sqlite { path } => sqlite::open(&data_dir.join(path)).await.map(drop),
        Config::Postgres { url, .. } => postgres::migrate(url).await,
    }
}
