//! Every server is started, given something to keep, killed, started again on the same address, and asked for it.

mod wire;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::proc::Stat;
use crate::{
    Cassandra, CassandraOptions, ClickHouse, ClickHouseOptions, Home, Nats, NatsCluster, NatsOptions, Postgres,
    SeaweedS3, Server, shell,
};
use wire::{Cql, JetStream};

/// Waits for a condition, with a bound.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "still not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Kills and starts again: another process at the same address.
fn kill_and_restart(server: &mut Server) {
    let (address, pid) = (server.address().to_owned(), server.pid());
    assert!(server.is_ready());
    server.kill().unwrap();
    assert!(!server.is_ready() && server.pid().is_none());
    server.restart().unwrap();
    assert_eq!(server.address(), address);
    assert_ne!(server.pid(), pid);
}

#[test]
fn postgres_keeps_a_row_and_its_replica_has_it_too() {
    let home = Home::open().unwrap();
    let folder = home.scratch("postgres").unwrap();
    let mut postgres = Postgres::start(&home, &folder.path().join("first"), &["shared_buffers=16MB"]).unwrap();
    assert_eq!(postgres.psql("postgres", "SHOW shared_buffers").unwrap().trim(), "16MB");
    postgres.psql("postgres", "CREATE TABLE kept AS SELECT 'a row' AS what").unwrap();
    kill_and_restart(&mut postgres);
    assert_eq!(postgres.psql("postgres", "SELECT what FROM kept").unwrap().trim(), "a row");

    let mut replica = postgres.replica(&folder.path().join("second"), &[]).unwrap();
    postgres.psql("postgres", "INSERT INTO kept VALUES ('another')").unwrap();
    eventually("the replica has both", || replica.psql("postgres", "SELECT count(*) FROM kept").unwrap().trim() == "2");
    assert!(replica.psql("postgres", "INSERT INTO kept VALUES ('a third')").is_err());
    kill_and_restart(&mut replica);
    postgres.stop().unwrap();
    assert_eq!(replica.psql("postgres", "SELECT count(*) FROM kept").unwrap().trim(), "2");
}

#[test]
fn a_postgres_whose_clock_was_stopped_goes_on_where_it_was() {
    let home = Home::open().unwrap();
    let folder = home.scratch("postgres").unwrap();
    let mut postgres = Postgres::start(&home, folder.path(), &[]).unwrap();
    let started = Instant::now();
    let pause = Duration::from_secs(1);
    std::thread::scope(|scope| {
        postgres.pause().unwrap();
        let question = scope.spawn(|| {
            postgres.psql("postgres", "SELECT 1").unwrap();
            started.elapsed()
        });
        std::thread::sleep(pause);
        postgres.resume().unwrap();
        assert!(question.join().unwrap() >= pause);
    });
    postgres.pause().unwrap();
    postgres.stop().unwrap();
}

#[test]
fn nats_keeps_a_message() {
    let home = Home::open().unwrap();
    let folder = home.scratch("nats").unwrap();
    let mut nats = Nats::start(&home, folder.path(), NatsOptions { sync_always: true }).unwrap();
    let mut client = JetStream::connect(nats.url());
    client.call("$JS.API.STREAM.CREATE.kept", r#"{"name":"kept","subjects":["kept.>"],"storage":"file"}"#);
    client.call("kept.a", "a message");
    kill_and_restart(&mut nats);
    let info = JetStream::connect(nats.url()).call("$JS.API.STREAM.INFO.kept", "");
    assert_eq!(info["state"]["messages"], 1, "{info}");
}

#[test]
fn a_cluster_of_three_goes_on_without_its_leader_and_takes_it_back() {
    let home = Home::open().unwrap();
    let folder = home.scratch("cluster").unwrap();
    let mut cluster = NatsCluster::start(&home, folder.path(), NatsOptions::default()).unwrap();
    let mut client = JetStream::connect(&cluster.urls()[0]);
    let create = r#"{"name":"kept","subjects":["kept.>"],"storage":"file","num_replicas":3}"#;
    let created = client.call("$JS.API.STREAM.CREATE.kept", create);
    let leader = created["cluster"]["leader"].as_str().unwrap().to_owned();
    client.call("kept.a", "a message");

    cluster.server(&leader).unwrap().kill().unwrap();
    let other = cluster.servers.iter().find(|server| server.pid().is_some()).unwrap().url().to_owned();
    eventually("another leads", || {
        // Nobody answers until one does.
        let info = JetStream::connect(&other).ask("$JS.API.STREAM.INFO.kept", "", Duration::from_secs(2));
        info.is_ok_and(|info| info["cluster"]["leader"].as_str().is_some_and(|now| now != leader))
    });
    let mut client = JetStream::connect(&other);
    client.call("kept.a", "another");

    cluster.server(&leader).unwrap().restart().unwrap();
    cluster.wait_until_ready().unwrap();
    eventually("all replicas are current", || {
        // Nobody answers while the lead passes on.
        let info = JetStream::connect(&other).ask("$JS.API.STREAM.INFO.kept", "", Duration::from_secs(2));
        info.is_ok_and(|info| {
            assert_eq!(info["state"]["messages"], 2, "{info}");
            let replicas = info["cluster"]["replicas"].as_array().cloned().unwrap_or_default();
            replicas.len() == 2 && replicas.iter().all(|replica| replica["current"] == true)
        })
    });
}

#[test]
fn clickhouse_keeps_a_row() {
    let home = Home::open().unwrap();
    let folder = home.scratch("clickhouse").unwrap();
    let mut clickhouse = ClickHouse::start(&home, folder.path(), ClickHouseOptions::default()).unwrap();
    clickhouse.query("CREATE DATABASE kept ENGINE = Atomic").unwrap();
    clickhouse.query("CREATE TABLE kept.rows (what String) ENGINE = MergeTree ORDER BY what").unwrap();
    clickhouse.query("INSERT INTO kept.rows VALUES ('a row')").unwrap();
    assert!(clickhouse.query("SELECT nonsense").is_err());
    kill_and_restart(&mut clickhouse);
    assert_eq!(clickhouse.query("SELECT what FROM kept.rows").unwrap(), "a row\n");
    // In its own orderly way, too.
    clickhouse.restart().unwrap();
    assert_eq!(clickhouse.query("SELECT what FROM kept.rows").unwrap(), "a row\n");
}

#[test]
fn cassandra_keeps_a_row() {
    let home = Home::open().unwrap();
    let folder = home.scratch("cassandra").unwrap();
    let mut cassandra = Cassandra::start(&home, folder.path(), CassandraOptions::default()).unwrap();
    let mut client = Cql::connect(cassandra.address());
    client.query("CREATE KEYSPACE kept WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}");
    client.query("CREATE TABLE kept.rows (id int PRIMARY KEY, what text)");
    client.query("INSERT INTO kept.rows (id, what) VALUES (1, 'a row')");
    kill_and_restart(&mut cassandra);
    let answer = Cql::connect(cassandra.address()).query("SELECT what FROM kept.rows WHERE id = 1");
    assert!(answer.ends_with(b"a row"), "{answer:?}");
    cassandra.stop().unwrap();
}

#[test]
fn s3_keeps_an_object_and_refuses_strangers() {
    let home = Home::open().unwrap();
    let folder = home.scratch("s3").unwrap();
    let mut seaweed = SeaweedS3::start(&home, folder.path()).unwrap();
    let endpoint = seaweed.endpoint();
    let curl = |arguments: &[&str], path: &str| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "20"]).args(arguments);
        shell::output(curl.arg(format!("{}/{path}", endpoint.endpoint)))
    };
    let user = format!("{}:{}", endpoint.access_key_id, endpoint.secret_access_key);
    let service = format!("aws:amz:{}:s3", endpoint.region);
    let signed = ["--aws-sigv4", &service, "--user", &user, "--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD"];
    curl(&[&signed[..], &["--request", "PUT"]].concat(), "kept").unwrap();
    curl(&[&signed[..], &["--request", "PUT", "--data-binary", "an object"]].concat(), "kept/object").unwrap();
    kill_and_restart(&mut seaweed);
    assert_eq!(curl(&signed, "kept/object").unwrap(), "an object");
    let refused = curl(&[], "kept/object").unwrap_err();
    assert!(format!("{refused:#}").contains("403"), "{refused:#}");
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let home = Home::open().unwrap();
    let folder = home.scratch("postgres").unwrap();
    let Err(error) = Postgres::start(&home, folder.path(), &["nonsense=1"]) else { panic!("it started") };
    assert!(format!("{error:#}").contains("unrecognized configuration parameter \"nonsense\""), "{error:#}");
}

/// Started by itself with this variable, the test below is the program that is killed.
const VICTIM: &str = "ROOKERY_TEST_VICTIM";

#[test]
#[expect(clippy::disallowed_methods, reason = "the test tells its second self what it is")]
fn a_server_ends_with_the_program_that_started_it_however_that_ends() {
    if std::env::var_os(VICTIM).is_some() {
        let home = Home::open().unwrap();
        let folder = home.scratch("victim").unwrap();
        let postgres = Postgres::start(&home, folder.path(), &[]).unwrap();
        println!("\nstarted {}", postgres.pid().unwrap());
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
        panic!("it was not killed");
    }
    let name = "tests::a_server_ends_with_the_program_that_started_it_however_that_ends";
    let mut victim = Command::new(std::env::current_exe().unwrap());
    victim.args(["--exact", name, "--nocapture"]).env(VICTIM, "1").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut victim = victim.spawn().unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let pid = lines.map(Result::unwrap).find_map(|line| line.strip_prefix("started ")?.parse::<u32>().ok()).unwrap();
    let is_alive = || Stat::of(pid).is_some_and(|stat| !stat.has_ended);
    assert!(is_alive());
    victim.kill().unwrap();
    victim.wait().unwrap();
    eventually("the server is gone", || !is_alive());
}
