//! The real stores behind a test's cluster.

use servers::{Endpoints, S3};
use sqlx::{Connection, PgConnection};
use toml::{Table, Value};
use types::{EventId, Region};

/// The CQL keyspace that all tests share: making one takes seconds, and ids keep tests apart.
const KEYSPACE: &str = "rookery_test";
/// Few, for each costs the server a stream. Two, so that a test sees more than one.
const SHARDS: i64 = 2;

/// The stores' tables of a configuration that names the servers which tests share.
pub(crate) async fn servers() -> Table {
    stores_on(servers::endpoints(), 1).await
}

/// The stores' tables of a configuration that names these servers, with so many replicas of the log. What can be had
/// cheaply is its own: a stream, a database, a bucket.
///
/// # Panics
/// When Postgres does not answer.
pub async fn stores_on(servers: &Endpoints, replicas: i64) -> Table {
    let name = format!("t{}", EventId::generate(Region::default()).to_string().replace('-', ""));
    make_database(&servers.postgres, &name).await;
    let text = |value: &str| Value::from(value.to_owned());
    let nats = || Value::from(servers.nats.split(',').map(text).collect::<Vec<_>>());
    let log = [
        ("type", text("jetstream")),
        ("servers", nats()),
        ("name", text(&name)),
        ("shards", SHARDS.into()),
        ("replicas", replicas.into()),
    ];
    let history = [
        ("type", text("scylla")),
        ("nodes", vec![text(&servers.cassandra)].into()),
        ("keyspace", text(KEYSPACE)),
        ("replication", table([("replication_factor", 1.into())]).into()),
    ];
    let directory = [
        ("type", text("postgres")),
        ("url", format!("{}/{name}", servers.postgres).into()),
        ("max_connections", 8.into()),
    ];
    let ranges = table([("servers", nats()), ("name", text(&name)), ("replicas", replicas.into())]);
    let analytics = [
        ("type", text("clickhouse")),
        ("url", text(&servers.clickhouse)),
        ("database", text(&name)),
        ("ranges", ranges.into()),
    ];
    let S3 { endpoint, region, access_key_id, secret_access_key } = &servers.s3;
    let blobs = [
        ("type", text("s3")),
        ("endpoint", text(endpoint)),
        ("region", text(region)),
        ("bucket", text(&name)),
        ("access_key_id", text(access_key_id)),
        ("secret_access_key", text(secret_access_key)),
        ("path_style", true.into()),
    ];
    table([
        ("log", table(log).into()),
        ("history", table(history).into()),
        ("directory", table(directory).into()),
        ("analytics", table(analytics).into()),
        ("blobs", table(blobs).into()),
    ])
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

async fn make_database(url: &str, name: &str) {
    let mut connection = PgConnection::connect(url).await.expect("Postgres answers");
    // The name is made above, of letters and digits.
    let statement = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    sqlx::query(statement).execute(&mut connection).await.expect("a database of our own");
}
