//! The directory on Postgres, shared by all processes of a cluster.
//!
//! A command is one transaction in which each statement sees what was committed before it (`READ COMMITTED`).
//! Before its first step it locks the records that it decides on (`locks`), always in the same order, so nobody
//! else changes them meanwhile; what is not there yet and so cannot be locked is kept single by a unique index.
//! Whoever is overtaken all the same begins again, a few times.

mod locks;
mod replica;

use std::str::FromStr;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};
use types::Secret;

use self::replica::Replica;
use crate::sql::{self, Db, Reader, STATEMENT_TIMEOUT, Stop, in_time, within};
use crate::{Command, Error, Lease, Outcome, Refusal, Result, Version};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres/directory");

/// How long a call waits for a connection before it is told that the directory is unavailable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection that lay idle may take to show that it is alive, before another one is opened in its place.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);
/// The same for one that is given back. It may still have to do with a statement that nobody waits for any more,
/// which mostly waits for a lock.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(4);
/// How often a command is begun that others overtake. Each time at least one of those has come to its end.
const ATTEMPTS: u32 = 8;
/// The lock of whoever relays the outbox, among all locks of this database that are known by a number.
const OUTBOX_LOCK: i64 = 0x726f_6f6b_6f75_7462;

/// What every session asks of the server: to give up on what nobody waits for any more, and to notice within
/// ten seconds that the machine at the other end is gone, whose locks would otherwise stay.
const SESSION: [(&str, &str); 6] = [
    ("lock_timeout", "3s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("tcp_keepalives_idle", "3"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "2"),
    ("tcp_user_timeout", "7s"),
];

pub(crate) struct Store {
    primary: PgPool,
    replica: Option<Replica>,
    /// How to reach the primary.
    options: PgConnectOptions,
    /// The connection on which a lease was asked for last, and not granted.
    unleased: Mutex<Option<PgConnection>>,
}

/// Opens the directory on a server whose schema is up to date.
pub(crate) async fn open(url: &Secret, replica_url: Option<&Secret>, max_connections: u32) -> Result<Store> {
    let options = options(url)?;
    let pool = pool(max_connections);
    let primary = pool.clone().connect_with(options.clone()).await.map_err(connect_error)?;
    require_schema(&primary).await?;
    require_durable(&primary).await?;
    let replica = match replica_url {
        Some(url) => Some(Replica::new(pool, self::options(url)?)),
        None => None,
    };
    Ok(Store { primary, replica, options, unleased: Mutex::new(None) })
}

/// Connections are tested whenever they change hands. The pool's own tests would wait without end for a server that
/// has vanished, and let nobody else have the connection's place meanwhile.
fn pool(max_connections: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(is_alive(connection, IDLE_TIMEOUT)))
        .after_release(|connection, _| Box::pin(is_alive(connection, RELEASE_TIMEOUT)))
}

/// Fails when there is no answer in time: then the connection is dropped as it is.
async fn is_alive(connection: &mut PgConnection, timeout: Duration) -> sqlx::Result<bool> {
    within(timeout, connection.ping()).await.map(|()| true)
}

/// Brings the schema up to date. One at a time does so: the migrator takes a lock on the server.
pub(crate) async fn migrate(url: &Secret) -> Result<()> {
    // No limit of time: a step may have much to rewrite, and whoever comes second waits for the first.
    let mut connection = parse(url)?.connect().await.map_err(connect_error)?;
    let migrated = MIGRATIONS.run(&mut connection).await;
    // Its lock goes with the session, also when a step has failed.
    connection.close().await?;
    migrated.map_err(|error| sql::schema_error(&error))
}

/// Codes of a server that has no such user, wants another password, or has no such database.
const UNKNOWN: [&str; 3] = ["28000", "28P01", "3D000"];

/// What hinders the first connection. A server that does not know us is not one that is away.
fn connect_error(error: sqlx::Error) -> Error {
    let code = error.as_database_error().and_then(|cause| cause.code());
    let is_unknown = code.is_some_and(|code| UNKNOWN.contains(&&*code));
    if is_unknown { Error::Unfit(error.to_string()) } else { error.into() }
}

fn parse(url: &Secret) -> Result<PgConnectOptions> {
    // The error's own text may quote the password.
    let options = PgConnectOptions::from_str(url.expose());
    let options = options.map_err(|_| Error::Unfit("its address is none that Postgres understands".into()))?;
    Ok(options.application_name("rookery").disable_statement_logging())
}

fn options(url: &Secret) -> Result<PgConnectOptions> {
    let timeout = format!("{}ms", STATEMENT_TIMEOUT.as_millis());
    Ok(parse(url)?.options(SESSION).options([("statement_timeout", timeout)]))
}

const APPLIED: &str = "SELECT max(version) FROM _sqlx_migrations WHERE success";
const NO_SUCH_TABLE: &str = "42P01";

/// Passes a schema that has all the steps that this program knows. It may have more.
async fn require_schema(primary: &PgPool) -> Result<()> {
    let applied: Option<i64> = match sqlx::query_scalar(APPLIED).fetch_one(primary).await {
        Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code == NO_SUCH_TABLE) => None,
        applied => applied?,
    };
    let (applied, needed) = (applied.unwrap_or(0), MIGRATIONS.iter().map(|step| step.version).max().unwrap_or(0));
    if applied >= needed {
        return Ok(());
    }
    Err(Error::Unfit(format!(
        "its schema is at step {applied} and this program needs step {needed}: run `rookery migrate`"
    )))
}

const DURABILITY: &str = "SELECT current_setting('synchronous_commit')";

/// Passes a server that has stored what it says is stored.
async fn require_durable(primary: &PgPool) -> Result<()> {
    let setting: String = sqlx::query_scalar(DURABILITY).fetch_one(primary).await?;
    if setting != "off" {
        return Ok(());
    }
    Err(Error::Unfit("`synchronous_commit` is off there, so what was acknowledged could be lost".into()))
}

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE";
const VERSION: &str = "SELECT (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint";
const LEASE: &str = "SELECT pg_try_advisory_lock($1)";

impl Store {
    pub(crate) async fn execute(&self, command: &Command) -> Result<std::result::Result<Outcome, Refusal>> {
        let mut overtaken = None;
        for _ in 0..ATTEMPTS {
            match self.attempt(command).await {
                Ok(outcome) => return Ok(Ok(outcome)),
                Err(Stop::Refused(refusal)) => return Ok(Err(refusal)),
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Overtaken(error)) => overtaken = Some(error),
            }
        }
        Err(overtaken.unwrap_or_else(|| Error::Unavailable("it was not tried".into())))
    }

    /// Carries a command out once. When the connection is lost during the commit nobody knows whether it was
    /// carried out: it counts as failed, and the same command sent again finds out.
    async fn attempt(&self, command: &Command) -> std::result::Result<Outcome, Stop> {
        let mut transaction = in_time(self.primary.begin_with(BEGIN)).await?;
        locks::take(&mut transaction, command).await?;
        let done = match sql::carry_out(&mut Db::Postgres(&mut transaction), command).await {
            Ok(outcome) => Ok(outcome),
            Err(Stop::Refused(refusal)) => Err(refusal),
            Err(stop) => return Err(stop),
        };
        if sql::is_kept(&done) {
            in_time(transaction.commit()).await?;
        } else {
            in_time(transaction.rollback()).await?;
        }
        Ok(done?)
    }

    pub(crate) async fn version(&self) -> Result<Version> {
        version(&self.primary).await
    }

    pub(crate) fn catch_up(&self, version: Version) {
        if let Some(replica) = &self.replica {
            replica.catch_up(version);
        }
    }

    pub(crate) async fn lease(&self) -> Result<Option<Lease>> {
        let kept = self.unleased.lock().take();
        let leased = in_time(async {
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.options.connect().await?,
            };
            let is_ours: bool = sqlx::query_scalar(LEASE).bind(OUTBOX_LOCK).fetch_one(&mut connection).await?;
            Ok((connection, is_ours))
        });
        let (connection, is_ours) = leased.await?;
        if is_ours {
            return Ok(Some(Lease::of_connection(connection)));
        }
        *self.unleased.lock() = Some(connection);
        Ok(None)
    }

    pub(crate) async fn reader(&self) -> Result<Reader> {
        if let Some(replica) = &self.replica
            && let Some(connection) = replica.caught_up(&self.primary).await
        {
            return Ok(Reader::Postgres(connection));
        }
        self.writer().await
    }

    pub(crate) async fn writer(&self) -> Result<Reader> {
        Ok(Reader::Postgres(self.primary.acquire().await?))
    }
}

/// Where the primary's write-ahead log ends on its disk: behind everything that was committed.
async fn version(primary: &PgPool) -> Result<Version> {
    let position: i64 = in_time(sqlx::query_scalar(VERSION).fetch_one(primary)).await?;
    Ok(Version(position.cast_unsigned()))
}

#[cfg(test)]
mod tests;
