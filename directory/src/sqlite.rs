//! The directory on SQLite. One connection writes, so a command decides on what nobody else can change
//! meanwhile; a few others read beside it, which the write-ahead log lets them do without waiting.

mod attachments;
mod columns;
mod groups;
mod members;
mod outbox;
mod sessions;
mod users;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection, SqlitePool};
use types::{AttachmentId, EventId, GroupId, SessionId, Timestamp, UserId};

use crate::{
    Attachment, Command, Credentials, Directory, Error, Group, Member, MemberRole, OutboxRow, Outcome, Refusal, Result,
    Session, User,
};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite/directory");

/// Connections that read at the same time.
const READERS: u32 = 4;
/// How long a call waits for a connection before it is told that the directory is unavailable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a write waits for another process, such as `rookery grant`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

struct Sqlite {
    writer: SqlitePool,
    readers: SqlitePool,
}

pub(crate) async fn open(path: &Path) -> Result<Arc<dyn Directory>> {
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await.map_err(|error| Error::Unavailable(error.to_string()))?;
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging();
    let pool = || {
        let pool = SqlitePoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT).test_before_acquire(false);
        pool.idle_timeout(None).max_lifetime(None)
    };
    let writer = pool().max_connections(1).connect_with(options.clone()).await?;
    MIGRATIONS.run(&writer).await.map_err(|error| schema_error(&error))?;
    let readers = pool().max_connections(READERS).connect_lazy_with(options.read_only(true));
    Ok(Arc::new(Sqlite { writer, readers }))
}

fn schema_error(error: &MigrateError) -> Error {
    match error {
        MigrateError::VersionMissing(version) => Error::Damaged(format!(
            "its schema has step {version}, which this program does not know: a newer program has written it"
        )),
        MigrateError::Execute(_) | MigrateError::ExecuteMigration(..) => Error::Unavailable(error.to_string()),
        _ => Error::Damaged(error.to_string()),
    }
}

/// SQLite's result codes for a file that is no longer what SQLite wrote.
const CORRUPT: &str = "11";
const NOT_A_DATABASE: &str = "26";

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let is_damage = match &error {
            sqlx::Error::Database(cause) => matches!(cause.code().as_deref(), Some(CORRUPT | NOT_A_DATABASE)),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => true,
            _ => false,
        };
        if is_damage { Self::Damaged(error.to_string()) } else { Self::Unavailable(error.to_string()) }
    }
}

/// Why a command ended before its end.
enum Stop {
    /// It may not be carried out.
    Refused(Refusal),
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

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Takes the write lock at once: a transaction that begins by reading could find, when it comes to write, that
/// another process has written meanwhile.
const BEGIN: &str = "BEGIN IMMEDIATE";

#[async_trait]
impl Directory for Sqlite {
    async fn execute(&self, command: &Command) -> Result<std::result::Result<Outcome, Refusal>> {
        let mut transaction = self.writer.begin_with(BEGIN).await?;
        let done = match carry_out(&mut transaction, command).await {
            Ok(outcome) => Ok(outcome),
            Err(Stop::Refused(refusal)) => Err(refusal),
            Err(Stop::Failed(error)) => return Err(error),
        };
        // A session whose token was presented twice is refused and revoked.
        let is_kept = matches!(done, Ok(_) | Err(Refusal::SessionReused));
        if is_kept {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        Ok(done)
    }

    async fn outbox(&self, limit: usize) -> Result<Vec<OutboxRow>> {
        outbox::oldest(&mut *self.readers.acquire().await?, limit).await
    }

    async fn relayed(&self, rows: &[EventId]) -> Result<()> {
        outbox::take_out(&mut *self.writer.acquire().await?, rows).await
    }

    async fn users(&self, ids: &[UserId]) -> Result<Vec<Option<User>>> {
        users::by_ids(&mut *self.readers.acquire().await?, ids).await
    }

    async fn credentials(&self, login: &str) -> Result<Option<Credentials>> {
        users::credentials(&mut *self.readers.acquire().await?, login).await
    }

    async fn search_users(&self, query: &str, after: Option<&str>, limit: usize) -> Result<Vec<User>> {
        users::search(&mut *self.readers.acquire().await?, query, after, limit).await
    }

    async fn groups(&self, ids: &[GroupId]) -> Result<Vec<Option<Group>>> {
        groups::by_ids(&mut *self.readers.acquire().await?, ids).await
    }

    async fn groups_of(&self, user: UserId) -> Result<Vec<GroupId>> {
        members::groups_of(&mut *self.readers.acquire().await?, user).await
    }

    async fn role(&self, group: GroupId, user: UserId) -> Result<Option<MemberRole>> {
        members::role(&mut *self.readers.acquire().await?, group, user).await
    }

    async fn members(&self, group: GroupId, after: Option<UserId>, limit: usize) -> Result<Vec<Member>> {
        members::page(&mut *self.readers.acquire().await?, group, after, limit).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>> {
        sessions::by_id(&mut *self.readers.acquire().await?, id).await
    }

    async fn sessions(&self, user: UserId, now: Timestamp) -> Result<Vec<Session>> {
        sessions::live(&mut *self.readers.acquire().await?, user, now).await
    }

    async fn revoked_since(&self, since: Timestamp) -> Result<Vec<SessionId>> {
        sessions::revoked_since(&mut *self.readers.acquire().await?, since).await
    }

    async fn attachment(&self, id: AttachmentId) -> Result<Option<Attachment>> {
        attachments::by_id(&mut *self.readers.acquire().await?, id).await
    }
}

/// Carries a command out in the transaction of `db`, which is rolled back when this stops.
async fn carry_out(db: &mut SqliteConnection, command: &Command) -> Step<Outcome> {
    match command {
        Command::Register { user, session } => users::register(db, user, session.as_ref()).await,
        Command::OpenSession { session } => sessions::open(db, session).await,
        Command::RotateSession { session, presented, next, expires_at, at } => {
            let rotation = sessions::Rotation { session: *session, presented, next, expires_at: *expires_at, at: *at };
            sessions::rotate(db, &rotation).await
        }
        Command::RevokeSession { user, session, at } => sessions::revoke(db, *user, *session, *at).await,
        Command::UpdateUser { user, username, name, email, picture, password_hash, keep_session, at } => {
            let changes = users::Changes {
                username: username.as_deref(),
                name: name.as_deref(),
                email: email.as_deref(),
                picture: picture.as_ref().map(Option::as_deref),
                password_hash: password_hash.as_deref(),
                keep_session: *keep_session,
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
        Command::AddAttachment { attachment } => attachments::add(db, attachment).await,
    }
}

#[cfg(test)]
mod tests;
