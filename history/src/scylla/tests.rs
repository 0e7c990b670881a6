//! The contract, and what is this implementation's own.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::OnceCell;
use types::{EventId, Region, Timestamp};

use super::connection::Connection;
use super::{migrate, open as open_at};
use crate::contract::{Room, contract, group, user};
use crate::{CqlServer, Error, History};

contract!(open);

/// What the keyspaces of these tests are called, before the time of their making and a random number.
const KEYSPACES: &str = "rookery_test_history_";
/// How old a keyspace of an earlier run must be to be removed.
const LEFT_OVER_MILLIS: i64 = 60 * 60 * 1_000;

/// All tests of a run share one keyspace, for making one takes as long as all of them: conversations are never
/// the same. It is removed by a later run.
async fn open() -> (Arc<dyn History>, ()) {
    static SHARED: OnceCell<CqlServer> = OnceCell::const_new();
    let make = async || {
        let server = server();
        remove_left_over(&Connection::open(&server).await.unwrap()).await;
        migrate(&server).await.unwrap();
        server
    };
    let server = SHARED.get_or_init(make).await;
    (open_at(server).await.unwrap(), ())
}

/// A keyspace that is not there yet.
fn server() -> CqlServer {
    let id = EventId::generate(Region::default()).to_string();
    let keyspace = format!("{KEYSPACES}{}_{}", Timestamp::now().as_millis(), &id[id.len() - 8..]);
    CqlServer {
        nodes: vec![servers::endpoints().cassandra.clone()],
        keyspace,
        local_datacenter: None,
        username: None,
        password: None,
        replication: BTreeMap::from([("replication_factor".into(), 1)]),
        request_timeout_ms: 10_000,
    }
}

async fn remove_left_over(connection: &Connection) {
    let all = "SELECT keyspace_name FROM system_schema.keyspaces";
    let rows = connection.session.query_unpaged(all, ()).await.unwrap().into_rows_result().unwrap();
    for (keyspace,) in rows.rows::<(String,)>().unwrap().map(Result::unwrap) {
        let made_at = keyspace.strip_prefix(KEYSPACES).and_then(|rest| rest.split('_').next()?.parse::<i64>().ok());
        if made_at.is_some_and(|made_at| made_at < Timestamp::now().as_millis() - LEFT_OVER_MILLIS) {
            remove(connection, &keyspace).await;
        }
    }
}

async fn remove(connection: &Connection, keyspace: &str) {
    connection.session.query_unpaged(format!("DROP KEYSPACE IF EXISTS {keyspace}"), ()).await.unwrap();
}
