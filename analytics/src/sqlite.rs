//! Analytics on SQLite.
//!
//! A range is recorded as one row of packed facts, which costs little however many they are; from time to time
//! these rows are [settled](settle) into counts per day and hour. A question takes whole days or hours from the
//! counts and reads facts one by one at the two ends of its range only, so that it is exact to the millisecond.

mod counting;
mod counts;
mod packed;
mod settle;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqliteConnection, SqlitePool, Transaction};
use types::{ConversationId, GroupId, Timestamp, UserId};

use crate::{Analytics, Bucket, Error, Filter, MAX_FACTS, Range, Ranked, Result};
use counts::Subject;

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite/analytics");

/// Questions that are answered at the same time.
const READERS: u32 = 2;
/// How long a statement waits for another process that has the file locked, such as a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// A range costs a transaction and a wait for the disk.
const PACE: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Store {
    /// One connection: ranges are recorded one after the other.
    writer: SqlitePool,
    readers: SqlitePool,
}

/// Opens the file, or makes it.
pub(crate) async fn open(path: &Path) -> Result<Arc<dyn Analytics>> {
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await.map_err(|error| Error::Unavailable(error.to_string()))?;
    }
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT);
    let pool = || SqlitePoolOptions::new().test_before_acquire(false).max_lifetime(None);
    let writer = pool().max_connections(1).idle_timeout(None).connect_with(options.clone()).await?;
    MIGRATIONS.run(&writer).await.map_err(|error| refused(path, error))?;
    let readers = pool().max_connections(READERS).connect_lazy_with(options.read_only(true));
    Ok(Arc::new(Store { writer, readers }))
}

fn refused(path: &Path, error: MigrateError) -> Error {
    let path = path.display();
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        MigrateError::VersionMissing(version) => {
            Error::Damaged(format!("{path} has schema version {version}, which is newer than this program"))
        }
        other => Error::Damaged(format!("the schema of {path}: {other}")),
    }
}

#[async_trait]
impl Analytics for Store {
    async fn record(&self, range: Range<'_>) -> Result<()> {
        if range.facts.len() > MAX_FACTS {
            return Err(Error::Refused(format!("a range of {} facts; {MAX_FACTS} are the most", range.facts.len())));
        }
        let packed = packed::pack(range.facts);
        // Locked from the beginning: a lock that is taken later may be refused.
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        advance(&mut transaction, &range).await?;
        if !packed.is_empty() && keep(&mut transaction, packed).await? {
            settle::settle(&mut transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    fn pace(&self) -> Duration {
        PACE
    }

    async fn recorded_seq(&self, shard: u16) -> Result<u64> {
        // By the writer, for a reader may still see the moment before a commit.
        let mut connection = self.writer.acquire().await?;
        recorded_seq(&mut connection, shard).await
    }

    async fn top_users(&self, filter: &Filter, offset: u64, limit: usize) -> Result<Vec<Ranked<UserId>>> {
        let mut snapshot = self.snapshot().await?;
        let ranking = counting::rank(&mut snapshot, Subject::User, filter, offset, limit).await?;
        ranking.into_iter().map(|(id, messages)| Ok(Ranked { key: user(&id)?, messages })).collect()
    }

    async fn top_conversations(
        &self,
        filter: &Filter,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<Ranked<ConversationId>>> {
        let mut snapshot = self.snapshot().await?;
        let ranking = counting::rank(&mut snapshot, Subject::Conversation, filter, offset, limit).await?;
        ranking.into_iter().map(|(id, messages)| Ok(Ranked { key: conversation(&id)?, messages })).collect()
    }

    async fn activity(&self, filter: &Filter, bucket: Bucket, limit: usize) -> Result<Vec<Ranked<Timestamp>>> {
        let mut snapshot = self.snapshot().await?;
        let steps = counting::activity(&mut snapshot, filter, bucket, limit).await?;
        Ok(steps.into_iter().map(|(at, messages)| Ranked { key: Timestamp::from_millis(at), messages }).collect())
    }

    async fn total(&self, filter: &Filter) -> Result<u64> {
        let mut snapshot = self.snapshot().await?;
        counting::total(&mut snapshot, filter).await
    }
}

impl Store {
    /// A transaction that sees one moment. Nothing is written in it, so it may just be dropped.
    async fn snapshot(&self) -> Result<Transaction<'static, Sqlite>> {
        Ok(self.readers.begin().await?)
    }
}

const ADVANCE: &str = "
    INSERT INTO shards (shard, recorded_seq)
    SELECT ?1, ?3 WHERE ?2 = 0 OR EXISTS (SELECT 1 FROM shards WHERE shard = ?1)
    ON CONFLICT (shard) DO UPDATE SET recorded_seq = ?3 WHERE recorded_seq = ?2";

/// Moves the shard's end from where the range begins to where it ends.
async fn advance(connection: &mut SqliteConnection, range: &Range<'_>) -> Result<()> {
    let (after, through) = (seq_to_sql(range.after_seq)?, seq_to_sql(range.through_seq)?);
    if after <= through {
        let advance = sqlx::query(ADVANCE).bind(range.shard).bind(after).bind(through);
        if advance.execute(&mut *connection).await?.rows_affected() == 1 {
            return Ok(());
        }
    }
    let recorded_seq = recorded_seq(connection, range.shard).await?;
    Err(Error::OutOfStep { shard: range.shard, after_seq: range.after_seq, recorded_seq })
}

const RECORDED_SEQ: &str = "SELECT recorded_seq FROM shards WHERE shard = ?1";

async fn recorded_seq(connection: &mut SqliteConnection, shard: u16) -> Result<u64> {
    let found: Option<i64> = sqlx::query_scalar(RECORDED_SEQ).bind(shard).fetch_optional(connection).await?;
    u64::try_from(found.unwrap_or(0)).map_err(|_| Error::Damaged(format!("a negative seq of shard {shard}")))
}

const KEEP: &str = "
    INSERT INTO recent_facts (facts, bytes_through)
    SELECT ?1, length(?1) + coalesce((SELECT bytes_through FROM recent_facts ORDER BY id DESC LIMIT 1), 0)
    RETURNING id, bytes_through";

/// Adds a row of recent facts, and tells whether there are now enough of them to be settled.
async fn keep(connection: &mut SqliteConnection, packed: Vec<u8>) -> Result<bool> {
    let (rows, bytes): (i64, i64) = sqlx::query_as(KEEP).bind(packed).fetch_one(connection).await?;
    Ok(rows >= settle::MAX_RECENT_ROWS || bytes >= settle::MAX_RECENT_BYTES)
}

fn seq_to_sql(seq: u64) -> Result<i64> {
    i64::try_from(seq).map_err(|_| Error::Damaged(format!("a seq of {seq}")))
}

fn user(bytes: &[u8]) -> Result<UserId> {
    let id = bytes.try_into().ok().and_then(|bytes| UserId::from_bytes(bytes).ok());
    id.ok_or_else(|| Error::Damaged("a count whose user cannot be read".into()))
}

fn conversation(bytes: &[u8]) -> Result<ConversationId> {
    if let Ok(group) = bytes.try_into() {
        let id = GroupId::from_bytes(group).map_err(|_| Error::Damaged("a group's id cannot be read".into()))?;
        return Ok(id.into());
    }
    let (one, other) = bytes.split_at_checked(16).unwrap_or_default();
    Ok(ConversationId::direct(user(one)?, user(other)?))
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        /// SQLite's primary result codes for a file that is no database, or a broken one.
        const CORRUPT: i32 = 11;
        const NOT_A_DATABASE: i32 = 26;
        let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
        let is_damage = matches!(code.map(|code| code & 0xff), Some(CORRUPT | NOT_A_DATABASE))
            || matches!(error, sqlx::Error::ColumnDecode { .. });
        if is_damage { Self::Damaged(error.to_string()) } else { Self::Unavailable(error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Connection;
    use types::Region;

    use super::*;
    use crate::Fact;

    async fn open_in(folder: &Path) -> Arc<dyn Analytics> {
        open(&folder.join("analytics.sqlite")).await.unwrap()
    }

    /// Everything lies in the folder.
    async fn close(_: &Path) {}

    crate::contract::contract_tests!(open_in, close);

    async fn connect(path: &Path) -> SqliteConnection {
        SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.unwrap()
    }

    async fn count(connection: &mut SqliteConnection, rows: &'static str) -> i64 {
        sqlx::query_scalar(rows).fetch_one(connection).await.unwrap()
    }

    #[tokio::test]
    async fn recent_facts_are_settled_before_they_become_many() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("analytics.sqlite");
        let store = open(&path).await.unwrap();
        let sender = UserId::generate(Region::default());
        let conversation = GroupId::generate(Region::default()).into();
        let mut connection = connect(&path).await;
        for seq in 1..=1300 {
            let fact = Fact { seq, at: Timestamp::now(), region: sender.region(), conversation, sender };
            let range = Range { shard: 0, after_seq: seq - 1, through_seq: seq, facts: &[fact] };
            store.record(range).await.unwrap();
            let rows = count(&mut connection, "SELECT count(*) FROM recent_facts").await;
            assert!(rows < settle::MAX_RECENT_ROWS);
        }
        let counted = count(&mut connection, "SELECT sum(messages) FROM hour_counts").await;
        assert_eq!(counted, 1024, "two times the rows that may be recent");
        let filter = Filter::default();
        assert_eq!(store.total(&filter).await.unwrap(), 1300);
        assert_eq!(store.top_users(&filter, 0, 1).await.unwrap(), [Ranked { key: sender, messages: 1300 }]);
    }

    #[tokio::test]
    async fn a_large_range_is_settled_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("analytics.sqlite");
        let store = open(&path).await.unwrap();
        let sender = UserId::generate(Region::default());
        let conversation = GroupId::generate(Region::default()).into();
        let fact = |seq| Fact { seq, at: Timestamp::now(), region: sender.region(), conversation, sender };
        let facts: Vec<_> = (1..=60_000).map(fact).collect();
        store.record(Range { shard: 0, after_seq: 0, through_seq: 60_000, facts: &facts }).await.unwrap();
        let mut connection = connect(&path).await;
        assert_eq!(count(&mut connection, "SELECT count(*) FROM recent_facts").await, 0);
        assert_eq!(store.total(&Filter::default()).await.unwrap(), 60_000);
    }

    #[tokio::test]
    async fn a_newer_schema_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("analytics.sqlite");
        drop(open(&path).await.unwrap());
        let mut connection = connect(&path).await;
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'later', TRUE, x'00', 0)",
        )
        .execute(&mut connection)
        .await
        .unwrap();
        let error = open(&path).await.err().expect("an error");
        assert!(matches!(&error, Error::Damaged(text) if text.contains("9999") && text.contains("newer")), "{error}");
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("analytics.sqlite");
        std::fs::write(&path, vec![b'x'; 8192]).unwrap();
        let error = open(&path).await.err().expect("an error");
        assert!(matches!(error, Error::Damaged(_)), "{error:?}");
    }
}
