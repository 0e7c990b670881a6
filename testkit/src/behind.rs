//! The real stores behind a test's cluster.

use servers::{Endpoints, Names};
use sqlx::{Connection, PgConnection};
use toml::Table;
use types::{EventId, Region};

/// The CQL keyspace that all tests share: making one takes seconds, and ids keep tests apart.
const KEYSPACE: &str = "rookery_test";
/// Few, for each costs the server a stream. Two, so that a test sees more than one.
const SHARDS: u16 = 2;
/// Enough for a test, and few enough for many tests at once.
const MAX_CONNECTIONS: u32 = 8;

/// The stores' tables of a configuration that names these servers, with so many replicas of the log. What can be had
/// cheaply is its own: streams, databases, a bucket.
///
/// # Panics
/// When Postgres does not answer.
pub async fn stores_on(servers: &Endpoints, replicas: usize) -> Table {
    let cluster = format!("t{}", EventId::generate(Region::default()).to_string().replace('-', ""));
    make_database(&servers.postgres, &cluster).await;
    let names =
        Names { cluster: &cluster, keyspace: KEYSPACE, shards: SHARDS, replicas, max_connections: MAX_CONNECTIONS };
    servers.configuration(&names, None).parse().expect("it is TOML")
}

async fn make_database(url: &str, name: &str) {
    let mut connection = PgConnection::connect(url).await.expect("Postgres answers");
    // The name is made above, of letters and digits.
    let statement = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::query(statement).execute(&mut connection).await.expect("a database of our own");
}
