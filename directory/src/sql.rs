//! The directory in SQL: what commands do and what questions ask, the same on SQLite and on Postgres. The two
//! differ in how they keep commands apart, which is theirs, and in the wording of a few statements.
//!
//! A command's steps decide on what they read, so whoever runs them sees to it that nobody else changes it
//! meanwhile: SQLite by its one writer, Postgres by locks that it takes first (`postgres/locks.rs`).

mod attachments;
mod columns;
mod groups;
mod members;
mod outbox;
mod sessions;
mod statement;
mod users;

use async_trait::async_trait;
use sqlx::migrate::MigrateError;
use sqlx::pool::PoolConnection;
use sqlx::{Postgres, Sqlite};
use types::{AttachmentId, ConversationId, EventId, GroupId, SessionId, Timestamp, UserId};

pub(crate) use statement::{Db, STATEMENT_TIMEOUT, in_time, within};
use statement::{Row, Statement, Words};

use crate::{
    Attachment, Command, Credentials, Directory, Error, Group, Lease, Member, MemberRole, OutboxRow, Outcome, Refusal,
    Result, Session, Upload, User, Version, postgres, sqlite,
};

/// Why a command ended before its end.
pub(crate) enum Stop {
    /// It may not be carried out.
    Refused(Refusal),
    /// Another command came between; from its beginning this one may well go through.
    Overtaken(Error),
    /// The store failed.
    Failed(Error),
}

/// What the steps of a command give.
type Step<T> = std::result::Result<T, Stop>;

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Postgres' codes for a transaction that another one came between: a serialisation failure, a deadlock, and a
/// value that is there since it was looked for.
const OVERTAKEN: [&str; 3] = ["40001", "40P01", "23505"];

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|cause| cause.code());
        let is_overtaken = code.is_some_and(|code| OVERTAKEN.contains(&&*code));
        if is_overtaken { Self::Overtaken(error.into()) } else { Self::Failed(error.into()) }
    }
}

/// Codes for a store that is no longer what this program wrote: of SQLite for a corrupt file and for one that is
/// no database, of Postgres for corrupt data, a corrupt index, and for a table or a column that is missing.
const DAMAGED: [&str; 6] = ["11", "26", "XX001", "XX002", "42P01", "42703"];

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let is_damage = match &error {
            sqlx::Error::Database(cause) => cause.code().is_some_and(|code| DAMAGED.contains(&&*code)),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => true,
            _ => false,
        };
        if is_damage { Self::Damaged(error.to_string()) } else { Self::Unavailable(error.to_string()) }
    }
}

/// What hinders a migration.
pub(crate) fn schema_error(error: &MigrateError) -> Error {
    match error {
        MigrateError::VersionMissing(version) => Error::Damaged(format!(
            "its schema has step {version}, which this program does not know: a newer program has written it"
        )),
        MigrateError::Execute(_) | MigrateError::ExecuteMigration(..) => Error::Unavailable(error.to_string()),
        _ => Error::Damaged(error.to_string()),
    }
}

/// A directory in SQL.
pub(crate) enum Sql {
    Sqlite(sqlite::Store),
    Postgres(Box<postgres::Store>),
}

/// A connection for one question.
pub(crate) enum Reader {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

impl Reader {
    fn db(&mut self) -> Db<'_> {
        match self {
            Self::Sqlite(connection) => Db::Sqlite(connection),
            Self::Postgres(connection) => Db::Postgres(connection),
        }
    }
}

impl Sql {
    async fn reader(&self) -> Result<Reader> {
        match self {
            Self::Sqlite(store) => store.reader().await,
            Self::Postgres(store) => store.reader().await,
        }
    }

    /// A connection that sees and changes the newest state.
    async fn writer(&self) -> Result<Reader> {
        match self {
            Self::Sqlite(store) => store.writer().await,
            Self::Postgres(store) => store.writer().await,
        }
    }
}

#[async_trait]
impl Directory for Sql {
    async fn execute(&self, command: &Command) -> Result<std::result::Result<Outcome, Refusal>> {
        match self {
            Self::Sqlite(store) => store.execute(command).await,
            Self::Postgres(store) => store.execute(command).await,
        }
    }

    async fn version(&self) -> Result<Version> {
        match self {
            Self::Sqlite(_) => Ok(Version::default()),
            Self::Postgres(store) => store.version().await,
        }
    }

    fn catch_up(&self, version: Version) {
        match self {
            // Every reader sees what is committed.
            Self::Sqlite(_) => {}
            Self::Postgres(store) => store.catch_up(version),
        }
    }

    async fn lease(&self) -> Result<Option<Lease>> {
        match self {
            Self::Sqlite(store) => Ok(store.lease()),
            Self::Postgres(store) => store.lease().await,
        }
    }

    async fn outbox(&self, skip: usize, limit: usize) -> Result<Vec<OutboxRow>> {
        outbox::oldest(&mut self.writer().await?.db(), skip, limit).await
    }

    async fn relayed(&self, rows: &[EventId]) -> Result<()> {
        outbox::take_out(&mut self.writer().await?.db(), rows).await
    }

    async fn users(&self, ids: &[UserId]) -> Result<Vec<Option<User>>> {
        users::by_ids(&mut self.reader().await?.db(), ids).await
    }

    async fn credentials(&self, login: &str) -> Result<Option<Credentials>> {
        users::credentials(&mut self.reader().await?.db(), login).await
    }

    async fn search_users(&self, query: &str, after: Option<&str>, limit: usize) -> Result<Vec<User>> {
        users::search(&mut self.reader().await?.db(), query, after, limit).await
    }

    async fn groups(&self, ids: &[GroupId]) -> Result<Vec<Option<Group>>> {
        groups::by_ids(&mut self.reader().await?.db(), ids).await
    }

    async fn groups_of(&self, user: UserId) -> Result<Vec<GroupId>> {
        members::groups_of(&mut self.reader().await?.db(), user).await
    }

    async fn role(&self, group: GroupId, user: UserId) -> Result<Option<MemberRole>> {
        members::role(&mut self.reader().await?.db(), group, user).await
    }

    async fn members(&self, group: GroupId, after: Option<UserId>, limit: usize) -> Result<Vec<Member>> {
        members::page(&mut self.reader().await?.db(), group, after, limit).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>> {
        sessions::by_id(&mut self.reader().await?.db(), id).await
    }

    async fn sessions(&self, user: UserId, now: Timestamp) -> Result<Vec<Session>> {
        sessions::live(&mut self.reader().await?.db(), user, now).await
    }

    async fn revoked_since(&self, since: Timestamp) -> Result<Vec<(UserId, SessionId)>> {
        sessions::revoked_since(&mut self.reader().await?.db(), since).await
    }

    async fn attachment(&self, id: AttachmentId) -> Result<Option<Attachment>> {
        attachments::by_id(&mut self.reader().await?.db(), id).await
    }

    async fn upload(&self, id: AttachmentId) -> Result<Option<Upload>> {
        attachments::upload(&mut self.reader().await?.db(), id).await
    }

    async fn sent_in(&self, attachment: AttachmentId) -> Result<Vec<ConversationId>> {
        attachments::conversations(&mut self.reader().await?.db(), attachment).await
    }

    async fn condemned(&self, after: Option<AttachmentId>, limit: usize) -> Result<Vec<AttachmentId>> {
        attachments::condemned(&mut self.writer().await?.db(), after, limit).await
    }
}

/// Carries a command out in the transaction of `db`, which is rolled back when this stops.
pub(crate) async fn carry_out(db: &mut Db<'_>, command: &Command) -> Step<Outcome> {
    match command {
        Command::Register { user, session } => users::register(db, user, session.as_ref()).await,
        Command::OpenSession { session } => sessions::open(db, session).await,
        Command::RotateSession { session, presented, next, expires_at, at } => {
            let rotation = sessions::Rotation { session: *session, presented, next, expires_at: *expires_at, at: *at };
            sessions::rotate(db, &rotation).await
        }
        Command::RevokeSession { user, session, at } => sessions::revoke(db, *user, *session, *at).await,
        Command::UpdateUser { user, username, name, email, picture, password_hash, keep_session, verified, at } => {
            let changes = users::Changes {
                username: username.as_deref(),
                name: name.as_deref(),
                email: email.as_deref(),
                picture: picture.as_ref().map(Option::as_deref),
                password_hash: password_hash.as_deref(),
                keep_session: *keep_session,
                verified: verified.as_ref(),
            };
            users::update(db, *user, &changes, *at).await
        }
        Command::DeleteUser { user, at } => users::delete(db, *user, *at).await,
        Command::SetRoles { by, user, roles, at } => users::set_roles(db, *by, *user, roles, *at).await,
        Command::CreateGroup { group, name, owner, members, at } => {
            let creation = groups::Creation { group: *group, name, owner: *owner, members, at: *at };
            groups::create(db, &creation).await
        }
        Command::RenameGroup { group, by, name, at } => groups::rename(db, *group, *by, name, *at).await,
        Command::DeleteGroup { group, by, at } => groups::delete(db, *group, *by, *at).await,
        Command::AddMembers { group, by, users, at } => members::add(db, *group, *by, users, *at).await,
        Command::RemoveMember { group, by, user, at } => members::remove(db, *group, *by, *user, *at).await,
        Command::BeginUpload { upload } => attachments::begin(db, upload).await,
        Command::AddAttachment { attachment, upload } => attachments::add(db, attachment, *upload).await,
        Command::SendAttachment { attachment, by, conversation, message } => {
            attachments::send(db, *attachment, *by, (*conversation, *message)).await
        }
        Command::WithdrawAttachments { message, at } => attachments::withdraw(db, *message, *at).await,
        Command::CondemnOrphans { before } => attachments::condemn(db, *before).await,
        Command::ForgetCondemned { blobs } => attachments::forget(db, blobs).await,
    }
}

/// Whether a transaction that ended so is committed. A session whose token was presented twice is refused and
/// revoked.
pub(crate) fn is_kept(done: &std::result::Result<Outcome, Refusal>) -> bool {
    matches!(done, Ok(_) | Err(Refusal::SessionReused))
}
