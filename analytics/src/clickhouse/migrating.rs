//! The schema: numbered files of statements, each of which may be carried out again.
//!
//! ClickHouse has no transactions. Who migrates holds a lock in the bucket of notes; whoever dies with it leaves
//! statements that the next one repeats.

use std::time::Duration;

use ::clickhouse::{Client, Row};
use async_nats::jetstream::kv::{self, CreateErrorKind};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use types::Timestamp;

use super::ranges::{Notes, unavailable};
use super::{Patience, client, within};
use crate::{Config, Error, Result};

/// A step of the schema.
struct Migration {
    name: &'static str,
    statements: &'static str,
}

/// Every step, the first one's number being 1.
const MIGRATIONS: [Migration; 1] =
    [Migration { name: "facts", statements: include_str!("../../../migrations/clickhouse/0001_facts.sql") }];

/// The schema that this program needs.
const VERSION: u32 = 1;
const _: () = assert!(MIGRATIONS.len() == VERSION as usize);

/// Where the lock lies in the bucket.
const LOCK: &str = "migration";
/// How long a lock is respected. A statement that takes longer may be carried out twice, which changes nothing.
const LOCK_LIFE: Duration = Duration::from_secs(60);
/// The pause between two attempts to get the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(200);
/// How long one statement may take.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(600);

/// The engine of a table, and how it remembers tokens.
const ENGINE: (&str, &str) = ("MergeTree", "non_replicated_deduplication_window = 100000");
const REPLICATED_ENGINE: (&str, &str) = (
    "ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')",
    "replicated_deduplication_window = 100000, replicated_deduplication_window_seconds = 604800",
);

/// A lock in the bucket.
#[derive(Serialize, Deserialize)]
struct Lock {
    until_ms: i64,
}

/// Brings the database to the present schema.
pub(crate) async fn migrate(config: &Config) -> Result<()> {
    let Config::Clickhouse { database, replicated, ranges, .. } = config else {
        unreachable!("the caller has looked at the kind of store")
    };
    let bucket = Notes::make(ranges).await?;
    let lock = take_lock(&bucket).await?;
    let schema = Schema { client: client(config), database, replicated: *replicated };
    let outcome = schema.migrate().await;
    // Also when it failed. Who finds the lock taken over has nothing to give back.
    bucket.delete_expect_revision(LOCK, Some(lock)).await.ok();
    outcome
}

/// Waits for the lock and gives its revision.
async fn take_lock(bucket: &kv::Store) -> Result<u64> {
    let attempts = async {
        loop {
            if let Some(revision) = try_lock(bucket).await? {
                return Ok(revision);
            }
            sleep(LOCK_PAUSE).await;
        }
    };
    let taken = timeout(2 * LOCK_LIFE, attempts).await;
    taken.unwrap_or_else(|_| Err(Error::Unavailable("somebody else is migrating analytics".into())))
}

async fn try_lock(bucket: &kv::Store) -> Result<Option<u64>> {
    let lock = Lock { until_ms: Timestamp::now().plus(LOCK_LIFE).as_millis() };
    let value = serde_json::to_vec(&lock).map_err(|error| Error::Damaged(error.to_string()))?;
    match bucket.create(LOCK, value.clone().into()).await {
        Ok(revision) => return Ok(Some(revision)),
        Err(error) if error.kind() == CreateErrorKind::AlreadyExists => {}
        Err(error) => return Err(unavailable(error)),
    }
    let Some(entry) = bucket.entry(LOCK).await.map_err(unavailable)? else { return Ok(None) };
    let held: Option<Lock> = serde_json::from_slice(&entry.value).ok();
    if held.is_some_and(|held| held.until_ms > Timestamp::now().as_millis()) {
        return Ok(None);
    }
    // Whoever held it has died. Another one may be faster.
    Ok(bucket.update(LOCK, value.into(), entry.revision).await.ok())
}

struct Schema<'a> {
    /// Without a database.
    client: Client,
    database: &'a str,
    replicated: bool,
}

const CREATE_DATABASE: &str = "CREATE DATABASE IF NOT EXISTS {database:Identifier}";
// Never replicated, for it says what was made on this very server: a row that came from another one would keep
// `facts` from being made here.
const CREATE_MIGRATIONS: &str = "
    CREATE TABLE IF NOT EXISTS migrations (
        version UInt32, name String, applied_at DateTime('UTC') DEFAULT now()
    ) ENGINE = MergeTree ORDER BY version";
const INSERT_MIGRATION: &str = "
    INSERT INTO migrations (version, name) SETTINGS async_insert = 0 VALUES ({version:UInt32}, {name:String})";

impl Schema<'_> {
    async fn migrate(&self) -> Result<()> {
        let create = self.client.query(CREATE_DATABASE).param("database", self.database);
        within(STATEMENT_TIMEOUT, create.execute()).await?;
        let client = self.client.clone().with_database(self.database);
        self.execute(&client, CREATE_MIGRATIONS).await?;
        let present = version(&client, STATEMENT_TIMEOUT).await?;
        refuse_newer(present)?;
        for (number, migration) in (1..).zip(MIGRATIONS).filter(|(number, _)| *number > present) {
            for statement in statements(migration.statements) {
                self.execute(&client, &statement).await?;
            }
            let insert = client.query(INSERT_MIGRATION).param("version", number).param("name", migration.name);
            within(STATEMENT_TIMEOUT, insert.execute()).await?;
        }
        Ok(())
    }

    async fn execute(&self, client: &Client, statement: &str) -> Result<()> {
        // Raw, for a question mark would be a parameter.
        within(STATEMENT_TIMEOUT, client.query_raw(&self.completed(statement)).execute()).await
    }

    /// A statement with the engine that its table has here.
    fn completed(&self, statement: &str) -> String {
        let (engine, window) = if self.replicated { REPLICATED_ENGINE } else { ENGINE };
        statement.replace("{engine}", engine).replace("{window}", window)
    }
}

/// The statements of a file, without its comments.
fn statements(file: &str) -> Vec<String> {
    let code = file.lines().map(|line| line.split_once("-- ").map_or(line, |(code, _)| code));
    let code: Vec<&str> = code.collect();
    let statements = code.join("\n");
    statements.split(';').map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
}

/// The database has the schema that this program needs, or a later one: those only add.
pub(super) async fn check(client: &Client, patience: Patience) -> Result<()> {
    let present = match version(client, patience.question).await {
        Ok(present) => present,
        // There is no database yet, or no table in it.
        Err(Error::Damaged(_)) => 0,
        Err(error) => return Err(error),
    };
    if present < VERSION {
        return Err(Error::Damaged(format!(
            "its schema has version {present} and this program needs {VERSION}: run `rookery migrate`"
        )));
    }
    Ok(())
}

fn refuse_newer(present: u32) -> Result<()> {
    if present > VERSION {
        return Err(Error::Damaged(format!("its schema has version {present}, which is newer than this program")));
    }
    Ok(())
}

const READ_VERSION: &str = "SELECT max(version) AS version FROM migrations";

#[derive(Row, Deserialize)]
struct Version {
    version: u32,
}

async fn version(client: &Client, patience: Duration) -> Result<u32> {
    Ok(within(patience, client.query(READ_VERSION).fetch_one::<Version>()).await?.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_may_be_replicated_but_not_the_note_that_they_were_made_here() {
        for (replicated, engine) in [(false, "MergeTree\n"), (true, "ReplicatedMergeTree(")] {
            let schema = Schema { client: Client::default(), database: "rookery", replicated };
            let facts = statements(MIGRATIONS[0].statements);
            let facts = schema.completed(facts.first().unwrap());
            assert!(facts.contains(&format!("ENGINE = {engine}")), "{facts}");
            let migrations = schema.completed(CREATE_MIGRATIONS);
            assert!(migrations.contains("ENGINE = MergeTree ORDER BY version"), "{migrations}");
        }
    }
}
