//! The directory on SQLite. One connection writes, so a command decides on what nobody else can change
//! meanwhile; a few others read beside it, which the write-ahead log lets them do without waiting.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqlitePool};
use tokio::sync::Semaphore;

use crate::sql::{self, Db, Reader, Stop};
use crate::{Command, Error, Lease, Outcome, Refusal, Result};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite/directory");

/// Connections that read at the same time.
const READERS: u32 = 4;
/// How long a call waits for a connection before it is told that the directory is unavailable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a write waits for another process, such as `rookery grant`.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Store {
    writer: SqlitePool,
    readers: SqlitePool,
    /// Whoever has its one permit relays the outbox.
    lease: Arc<Semaphore>,
}

pub(crate) async fn open(path: &Path) -> Result<Store> {
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
    MIGRATIONS.run(&writer).await.map_err(|error| sql::schema_error(&error))?;
    let readers = pool().max_connections(READERS).connect_lazy_with(options.read_only(true));
    Ok(Store { writer, readers, lease: Arc::new(Semaphore::new(1)) })
}

/// Takes the write lock at once: a transaction that begins by reading could find, when it comes to write, that
/// another process has written meanwhile.
const BEGIN: &str = "BEGIN IMMEDIATE";

impl Store {
    pub(crate) async fn execute(&self, command: &Command) -> Result<std::result::Result<Outcome, Refusal>> {
        let mut transaction = self.writer.begin_with(BEGIN).await?;
        let done = match sql::carry_out(&mut Db::Sqlite(&mut transaction), command).await {
            Ok(outcome) => Ok(outcome),
            Err(Stop::Refused(refusal)) => Err(refusal),
            Err(Stop::Overtaken(error) | Stop::Failed(error)) => return Err(error),
        };
        if sql::is_kept(&done) {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        Ok(done)
    }

    pub(crate) async fn reader(&self) -> Result<Reader> {
        Ok(Reader::Sqlite(self.readers.acquire().await?))
    }

    pub(crate) async fn writer(&self) -> Result<Reader> {
        Ok(Reader::Sqlite(self.writer.acquire().await?))
    }

    /// There is one process, which may run the service twice.
    pub(crate) fn lease(&self) -> Option<Lease> {
        Arc::clone(&self.lease).try_acquire_owned().ok().map(Lease::of_process)
    }
}

#[cfg(test)]
mod tests;
