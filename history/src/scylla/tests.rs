//! The contract, and what is this implementation's own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use types::{EventId, Region, Timestamp};

use super::connection::Connection;
use super::{migrate, open as open_at};
use crate::contract::{Room, contract, group, user};
use crate::{Config, CqlServer, Error, History};

mod again;

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

/// A connection to a keyspace that was just migrated.
async fn migrated() -> (CqlServer, Connection) {
    let server = server();
    migrate(&server).await.unwrap();
    let connection = Connection::open(&server).await.unwrap();
    connection.session.use_keyspace(&server.keyspace, true).await.unwrap();
    (server, connection)
}

/// What a later migration, or an earlier one, would have left.
async fn set_version(connection: &Connection, version: i32) {
    let set = "UPDATE schema_version SET version = ? WHERE store = 'history' IF version > -1";
    connection.session.query_unpaged(set, (version,)).await.unwrap();
}

#[tokio::test]
async fn a_migration_may_be_run_twice_and_keeps_what_is_stored() {
    let (server, connection) = migrated().await;
    let mut room = Room::new();
    room.say("before");
    room.store(&*open_at(&server).await.unwrap()).await;
    migrate(&server).await.unwrap();
    assert_eq!(room.texts(&*open_at(&server).await.unwrap()).await, ["before"]);
    remove(&connection, &server.keyspace).await;
}

#[tokio::test]
async fn a_schema_that_is_up_to_date_needs_no_lease() {
    let (server, connection) = migrated().await;
    let lease = "UPDATE schema_version USING TTL 60 SET holder = 'another' WHERE store = 'history' IF version > -1";
    connection.session.query_unpaged(lease, ()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), migrate(&server)).await.expect("it waits for nobody").unwrap();
    remove(&connection, &server.keyspace).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_may_be_run_from_many_places_at_once() {
    let server = server();
    let migrations = futures_util::future::join_all((0..4).map(|_| migrate(&server))).await;
    assert!(migrations.iter().all(Result::is_ok), "{migrations:?}");
    let mut room = Room::new();
    room.say("after");
    let history = open_at(&server).await.unwrap();
    room.store(&*history).await;
    assert_eq!(room.texts(&*history).await, ["after"]);
    remove(&Connection::open(&server).await.unwrap(), &server.keyspace).await;
}

#[tokio::test]
async fn a_migration_that_was_cut_off_is_finished_by_the_next() {
    let (server, connection) = migrated().await;
    set_version(&connection, 0).await;
    connection.session.query_unpaged("DROP TABLE read_marks", ()).await.unwrap();
    migrate(&server).await.unwrap();
    let history = open_at(&server).await.unwrap();
    assert_eq!(history.mark_read(user(), group(), 3).await.unwrap(), 3);
    remove(&connection, &server.keyspace).await;
}

#[tokio::test]
async fn a_migration_never_goes_back() {
    let (server, connection) = migrated().await;
    set_version(&connection, super::schema::VERSION + 1).await;
    let refused = migrate(&server).await;
    assert!(matches!(&refused, Err(Error::Damaged(why)) if why.contains("newer")), "{refused:?}");
    // The program of before goes on working while a cluster is upgraded.
    open_at(&server).await.unwrap();
    remove(&connection, &server.keyspace).await;
}

#[tokio::test]
async fn an_old_schema_is_told_with_what_to_do() {
    let (server, connection) = migrated().await;
    set_version(&connection, super::schema::VERSION - 1).await;
    remove_and_open(&server, None).await;
    remove_and_open(&server, Some((&connection, "DROP TABLE schema_version"))).await;
    remove_and_open(&server, Some((&connection, &format!("DROP KEYSPACE {}", server.keyspace)))).await;
}

/// After `cql`, opening must fail, naming the remedy, and make nothing.
async fn remove_and_open(server: &CqlServer, cql: Option<(&Connection, &str)>) {
    if let Some((connection, cql)) = cql {
        connection.session.query_unpaged(cql, ()).await.unwrap();
    }
    for _ in 0..2 {
        let refused = open_at(server).await.err().unwrap();
        assert!(matches!(&refused, Error::Unfit(why) if why.contains("rookery migrate")), "{refused}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_told_in_time() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for address in [unused, silent.local_addr().unwrap()] {
        let server = CqlServer { nodes: vec![address.to_string()], request_timeout_ms: 500, ..server() };
        let opening = tokio::time::timeout(std::time::Duration::from_secs(20), open_at(&server));
        let refused = opening.await.unwrap().err().unwrap();
        assert!(matches!(refused, Error::Unavailable(_)), "{refused}");
    }
}

#[tokio::test]
async fn a_name_that_could_end_a_statement_is_refused() {
    for (keyspace, replication) in [("a\"; DROP", "replication_factor"), ("plain", "eu'}; DROP")] {
        let replication = BTreeMap::from([(replication.to_owned(), 1)]);
        let server = CqlServer { keyspace: keyspace.into(), replication, ..server() };
        assert!(matches!(migrate(&server).await, Err(Error::Unfit(why)) if why.contains("odd characters")));
    }
}

/// What one process remembers of a conversation is only as good as long as no other goes on with it.
#[tokio::test]
async fn two_processes_may_take_turns_with_a_conversation() {
    let (one, ()) = open().await;
    let (other, ()) = open().await;
    let mut room = Room::new();
    let mut texts = Vec::new();
    let first = room.say("0");
    room.store(&*one).await;
    for number in 1..8 {
        let history = if number % 2 == 0 { &one } else { &other };
        room.say(&number.to_string());
        room.edit(first.id, &format!("edited {number}"));
        room.store(&**history).await;
        texts = room.texts(&*one).await;
        assert_eq!(room.texts(&*other).await, texts);
    }
    assert_eq!(texts, ["edited 7", "1", "2", "3", "4", "5", "6", "7"]);
}

#[test]
fn a_server_is_named_by_its_nodes_and_its_password_is_not_shown() {
    let config = r#"{"type":"scylla","nodes":["db:9042"],"username":"rookery","password":"hunter2"}"#;
    let config: Config = serde_json::from_str(config).unwrap();
    let Config::Scylla(server) = &config else { panic!("{config:?}") };
    assert_eq!((server.keyspace.as_str(), server.replication["replication_factor"]), ("rookery", 3));
    assert_eq!(server.password.as_ref().unwrap().expose(), "hunter2");
    for shown in [format!("{config:?}"), serde_json::to_string(&config).unwrap()] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert!(serde_json::from_str::<Config>(r#"{"type":"scylla","nodes":[],"keyspce":"x"}"#).is_err());
}
