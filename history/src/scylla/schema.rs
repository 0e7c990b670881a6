//! The schema and its versions. Numbered files in `migrations/scylla/history/` lead from each version to the next;
//! a change must leave the program of the version before working, for both run while a cluster is upgraded.
//!
//! One row says which version there is, and who is changing it. Servers make no two tables of one name in one
//! step, so only the holder of that row's lease changes anything; before there is such a row, all ask the same node.

use std::sync::Arc;
use std::time::Duration;

use scylla::frame::types::{Consistency, SerialConsistency};
use scylla::policies::load_balancing::{LoadBalancingPolicy, NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::serialize::row::SerializeRow;
use scylla::statement::unprepared::Statement;
use scylla::value::Row;
use tokio::time::Instant;
use types::{EventId, Region};

use super::connection::{self, Connection, execution_error};
use crate::{CqlServer, Error, Result};

/// The version that this program makes and needs.
pub(super) const VERSION: i32 = 1;

/// The files, in order: the first one leads from version 0 to 1.
const MIGRATIONS: [&str; VERSION as usize] = [include_str!("../../../migrations/scylla/history/0001_first.cql")];

/// How long the lease holds without being renewed, in seconds. One statement must not take longer.
const LEASE_SECONDS: i32 = 60;
/// How long one change of the schema may take, until all servers agree on it.
const STATEMENT_PATIENCE: Duration = Duration::from_secs(45);
/// How long to wait for another one who migrates.
const LEASE_PATIENCE: Duration = Duration::from_secs(180);
/// The time between two attempts to get the lease.
const LEASE_PAUSE: Duration = Duration::from_millis(200);

const READ_VERSION: &str = "SELECT version FROM schema_version WHERE store = 'history'";

/// Chooses the keyspace, and sees to it that its schema is not older than this program's.
pub(super) async fn check(connection: &Connection, server: &CqlServer) -> Result<()> {
    match stored_version(connection, &server.keyspace).await? {
        version if version < VERSION => {
            let keyspace = &server.keyspace;
            let why = format!("the schema in keyspace {keyspace} has version {version}, and {VERSION} is needed");
            Err(Error::Unfit(format!("{why}: run `rookery migrate`")))
        }
        _ => Ok(()),
    }
}

/// Makes what is missing. See [`crate::migrate`].
pub(super) async fn migrate(connection: &Connection, server: &CqlServer) -> Result<()> {
    // The version is set last of all, so whoever sees it need not wait for a lease.
    if stored_version(connection, &server.keyspace).await? == VERSION {
        return Ok(());
    }
    let migration = Migration::new(connection)?;
    migration.make_version_table(server).await?;
    migration.acquire().await?;
    let outcome = migration.run().await;
    // When this fails the lease runs out by itself.
    let released = migration.release().await;
    outcome.and(released)
}

/// Chooses the keyspace, if it is there, and gives the version of its schema.
async fn stored_version(connection: &Connection, keyspace: &str) -> Result<i32> {
    if !exists(connection, keyspace, None).await? || !exists(connection, keyspace, Some("schema_version")).await? {
        return Ok(0);
    }
    choose(connection, keyspace).await?;
    version(connection, Statement::new(READ_VERSION)).await
}

async fn choose(connection: &Connection, keyspace: &str) -> Result<()> {
    let chosen = connection.session.use_keyspace(keyspace, true).await;
    chosen.map_err(|error| Error::Unavailable(format!("keyspace {keyspace} cannot be used: {error}")))
}

const FIND_KEYSPACE: &str = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
const FIND_TABLE: &str = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";

/// Whether there is such a keyspace, or such a table in it.
async fn exists(connection: &Connection, keyspace: &str, table: Option<&str>) -> Result<bool> {
    let found = match table {
        None => first_row(connection, local(FIND_KEYSPACE), (keyspace,)).await?,
        Some(table) => first_row(connection, local(FIND_TABLE), (keyspace, table)).await?,
    };
    Ok(found.is_some())
}

/// A statement about what every node knows by itself.
fn local(cql: &str) -> Statement {
    let mut statement = Statement::new(cql);
    statement.set_consistency(Consistency::One);
    statement
}

async fn version(connection: &Connection, statement: Statement) -> Result<i32> {
    let row = first_row(connection, statement, ()).await?;
    let version = row.and_then(|row| row.columns.into_iter().next().flatten());
    // Without a row, or with one that holds only a lease, nothing has been made yet.
    version.map_or(Ok(0), |version| version.as_int().ok_or_else(|| connection::damaged("the version is no number")))
}

async fn first_row(connection: &Connection, statement: Statement, values: impl SerializeRow) -> Result<Option<Row>> {
    let answer = connection.session.query_unpaged(statement, values).await.map_err(execution_error)?;
    let rows = answer.into_rows_result().map_err(connection::damaged)?;
    rows.maybe_first_row::<Row>().map_err(connection::damaged)
}

/// One attempt to bring the schema up to date.
struct Migration<'a> {
    connection: &'a Connection,
    /// Nobody else's.
    holder: String,
    /// The node that all who migrate ask for changes: what one node is asked it does one after the other.
    node: Arc<dyn LoadBalancingPolicy>,
}

const MAKE_VERSION_TABLE: &str =
    "CREATE TABLE IF NOT EXISTS schema_version (store text PRIMARY KEY, version int, holder text)";
const ACQUIRE: &str = "UPDATE schema_version USING TTL ? SET holder = ? WHERE store = 'history' IF holder = null";
const RENEW: &str = "UPDATE schema_version USING TTL ? SET holder = ? WHERE store = 'history' IF holder = ?";
const RELEASE: &str = "UPDATE schema_version SET holder = null WHERE store = 'history' IF holder = ?";
const SET_VERSION: &str = "UPDATE schema_version SET version = ? WHERE store = 'history' IF holder = ?";

impl<'a> Migration<'a> {
    fn new(connection: &'a Connection) -> Result<Self> {
        let cluster = connection.session.get_cluster_state();
        let nodes = cluster.get_nodes_info().iter().filter(|node| node.is_connected());
        let node = nodes.min_by_key(|node| node.host_id);
        let node = node.ok_or_else(|| Error::Unavailable("no node of the server can be reached".into()))?;
        let node = SingleTargetLoadBalancingPolicy::new(NodeIdentifier::HostId(node.host_id), None);
        Ok(Self { connection, holder: EventId::generate(Region::default()).to_string(), node })
    }

    /// Makes the keyspace and the table that holds version and lease. What is there is asked for all the same: while
    /// another one makes it, it can be seen before it can be used.
    async fn make_version_table(&self, server: &CqlServer) -> Result<()> {
        let made = self.change_schema(&create_keyspace(server)?).await;
        // Whoever made it for us may not have let us make any.
        if made.is_err() && !exists(self.connection, &server.keyspace, None).await? {
            return made;
        }
        choose(self.connection, &server.keyspace).await?;
        self.change_schema(MAKE_VERSION_TABLE).await
    }

    /// Waits until nobody else migrates.
    async fn acquire(&self) -> Result<()> {
        let until = Instant::now() + LEASE_PATIENCE;
        while !self.is_applied(ACQUIRE, (LEASE_SECONDS, &self.holder)).await? {
            if Instant::now() >= until {
                return Err(Error::Unavailable("another migration is under way and does not end".into()));
            }
            tokio::time::sleep(LEASE_PAUSE).await;
        }
        Ok(())
    }

    async fn run(&self) -> Result<()> {
        let mut statement = Statement::new(READ_VERSION);
        statement.set_consistency(Consistency::Serial);
        let version = version(self.connection, statement).await?;
        if version > VERSION {
            let why = format!("the schema has version {version}, newer than this program's {VERSION}");
            return Err(Error::Damaged(format!("{why}: it does not go back")));
        }
        for (next, migration) in (1..).zip(MIGRATIONS).filter(|(next, _)| *next > version) {
            for statement in statements(migration) {
                self.hold(RENEW, (LEASE_SECONDS, &self.holder, &self.holder)).await?;
                self.change_schema(&statement).await?;
            }
            self.hold(SET_VERSION, (next, &self.holder)).await?;
            tracing::info!(version = next, "the schema of history is brought up to date");
        }
        Ok(())
    }

    async fn release(&self) -> Result<()> {
        self.is_applied(RELEASE, (&self.holder,)).await.map(drop)
    }

    /// Writes under the condition that the lease is still ours.
    async fn hold(&self, cql: &str, values: impl SerializeRow) -> Result<()> {
        if self.is_applied(cql, values).await? {
            return Ok(());
        }
        Err(Error::Unavailable("the migration took too long, and another one has taken over".into()))
    }

    /// Runs a conditional write, in all datacenters, and gives whether its condition held.
    async fn is_applied(&self, cql: &str, values: impl SerializeRow) -> Result<bool> {
        let mut statement = Statement::new(cql);
        // Whoever opens the store asks his own datacenter alone.
        statement.set_consistency(Consistency::EachQuorum);
        statement.set_serial_consistency(Some(SerialConsistency::Serial));
        let row = first_row(self.connection, statement, values).await?;
        let applied = row.and_then(|row| row.columns.into_iter().next().flatten());
        applied.and_then(|applied| applied.as_boolean()).ok_or_else(|| connection::damaged("no answer to a condition"))
    }

    /// Changes the schema, and waits until all servers agree on it.
    async fn change_schema(&self, cql: &str) -> Result<()> {
        let mut statement = Statement::new(cql);
        statement.set_is_idempotent(true);
        statement.set_request_timeout(Some(STATEMENT_PATIENCE));
        statement.set_load_balancing_policy(Some(Arc::clone(&self.node)));
        self.connection.session.query_unpaged(statement, ()).await.map_err(execution_error)?;
        // The driver waits only when something has changed: it may have been another one who changed it.
        let agreed = self.connection.session.await_schema_agreement().await;
        agreed.map(drop).map_err(|error| Error::Unavailable(error.to_string()))
    }
}

/// The statements of a file: they end in `;`, and `--` begins a comment.
fn statements(file: &str) -> Vec<String> {
    let code = file.lines().map(|line| line.split_once("--").map_or(line, |(code, _)| code));
    let code = code.collect::<Vec<_>>().join("\n");
    code.split(';').map(str::trim).filter(|statement| !statement.is_empty()).map(ToOwned::to_owned).collect()
}

fn create_keyspace(server: &CqlServer) -> Result<String> {
    let keyspace = &server.keyspace;
    let is_plain = |name: &str| name.chars().all(|char| char.is_ascii_alphanumeric() || "_-".contains(char));
    if !server.replication.keys().all(|name| is_plain(name)) || !is_plain(keyspace) || keyspace.contains('-') {
        return Err(Error::Unfit("the keyspace or its replication is named with odd characters".into()));
    }
    let options: String = server.replication.iter().map(|(name, copies)| format!(", '{name}': {copies}")).collect();
    Ok(format!(
        "CREATE KEYSPACE IF NOT EXISTS \"{keyspace}\" WITH replication = {{'class': 'NetworkTopologyStrategy'{options}}}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_split_into_its_statements() {
        let file = "-- a comment; with a semicolon\nCREATE TABLE a (\n  b int -- here; too\n);\n\nDROP TABLE c;\n";
        assert_eq!(statements(file), ["CREATE TABLE a (\n  b int \n)", "DROP TABLE c"]);
    }
}
