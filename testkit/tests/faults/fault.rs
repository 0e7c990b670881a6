//! What is broken, how, and what must go on meanwhile.

use std::time::Duration;

use rookery::roles::Role;
use serde_json::json;
use servers::Server;
use testkit::eventually;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, timeout};

use crate::load::{Load, RECOVERY, new_id};
use crate::world::World;

/// How long what was killed stays down, so that others notice.
const DOWN: Duration = Duration::from_millis(700);
/// How long a write may take to be refused while it cannot be stored.
const REFUSAL: Duration = Duration::from_secs(10);

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    KillEdge,
    KillIngest,
    KillAnalytics,
    KillLogLeader,
    KillHistory,
    KillDirectory,
    KillCounts,
    StopLog,
    StopHistory,
    StopDirectory,
    StopCounts,
    StopBlobs,
}

impl Fault {
    /// Every fault.
    pub(crate) const ALL: [Self; 12] = [
        Self::KillEdge,
        Self::KillIngest,
        Self::KillAnalytics,
        Self::KillLogLeader,
        Self::KillHistory,
        Self::KillDirectory,
        Self::KillCounts,
        Self::StopLog,
        Self::StopHistory,
        Self::StopDirectory,
        Self::StopCounts,
        Self::StopBlobs,
    ];

    /// What is done, for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KillEdge => "kill -9 of an edge",
            Self::KillIngest => "kill -9 of an ingest",
            Self::KillAnalytics => "kill -9 of an analytics worker",
            Self::KillLogLeader => "kill -9 of the stream leader of three NATS servers",
            Self::KillHistory => "kill -9 of Cassandra",
            Self::KillDirectory => "kill -9 of Postgres",
            Self::KillCounts => "kill -9 of ClickHouse",
            Self::StopLog => "all NATS servers stopped",
            Self::StopHistory => "Cassandra stopped, then every ingest",
            Self::StopDirectory => "Postgres stopped",
            Self::StopCounts => "ClickHouse stopped",
            Self::StopBlobs => "S3 stopped",
        }
    }

    /// Breaks it, looks at what must go on meanwhile, and mends it.
    pub(crate) async fn strike(self, world: &mut World, load: &Load, round: usize, stopped_for: Duration) {
        match self {
            Self::KillEdge => kill_process(world, Role::Edge, round).await,
            Self::KillIngest => kill_process(world, Role::Ingest, round).await,
            Self::KillAnalytics => kill_process(world, Role::Analytics, round).await,
            Self::KillLogLeader => {
                let leader = world.log_leader().await;
                block_in_place(|| leader.kill()).expect("it can be killed");
                // Two of three go on without it.
                sleep(DOWN).await;
                block_in_place(|| leader.restart()).expect("it starts again");
                block_in_place(|| world.servers.nats.wait_until_ready()).expect("it joins the others");
            }
            Self::KillHistory => kill_server(&mut world.servers.cassandra).await,
            Self::KillDirectory => kill_server(&mut world.servers.postgres).await,
            Self::KillCounts => kill_server(&mut world.servers.clickhouse).await,
            Self::StopLog => stop_log(world, load, stopped_for).await,
            Self::StopHistory => stop_history(world, load, stopped_for).await,
            Self::StopDirectory => stop_directory(world, load, stopped_for).await,
            Self::StopCounts => stop_counts(world, load, stopped_for).await,
            Self::StopBlobs => stop_blobs(world, load, stopped_for).await,
        }
    }
}

async fn kill_process(world: &mut World, role: Role, round: usize) {
    let number = round % 2;
    world.kill(role, number).await;
    sleep(DOWN).await;
    world.revive(role, number).await;
}

async fn kill_server(server: &mut Server) {
    block_in_place(|| server.kill()).expect("it can be killed");
    sleep(DOWN).await;
    block_in_place(|| server.restart()).expect("it starts again");
}

/// No message can be stored: each gets a clear refusal, and none an ack. Sent again later, with the same id, it is there
/// once, though a refused one may have been stored after all.
async fn stop_log(world: &mut World, load: &Load, stopped_for: Duration) {
    for server in &mut world.servers.nats.servers {
        block_in_place(|| server.stop()).expect("it stops");
    }
    until_readiness_is(world, (503, "log")).await;
    let began = Instant::now();
    let conversation = &load.conversations[0];
    let path = format!("/v1/conversations/{conversation}/messages");
    let bodies = [0, 1].map(|_| json!({"id": new_id(), "text": "into the void"}));
    while began.elapsed() < stopped_for {
        for (user, body) in bodies.iter().enumerate() {
            let client = load.edges.client(&load.users[user], user);
            let answer = timeout(REFUSAL, client.post(&path, body.clone())).await;
            let answer = answer.expect("a refusal comes in time");
            assert_eq!((answer.status, answer.headers.contains_key("retry-after")), (503, true), "{}", answer.text);
        }
        sleep(Duration::from_secs(1)).await;
    }
    // All at once: one alone cannot find a leader.
    block_in_place(|| {
        std::thread::scope(|scope| {
            for server in &mut world.servers.nats.servers {
                scope.spawn(|| server.restart().expect("it starts again"));
            }
        });
        world.servers.nats.wait_until_ready().expect("they find a leader");
    });
    for (user, body) in bodies.iter().enumerate() {
        load.insist(user, conversation, body).await;
    }
}

/// Every edge says that this store is missing, with this status.
async fn until_readiness_is(world: &World, (status, missing): (u16, &str)) {
    for edge in 0..2 {
        let client = world.stranger(edge);
        eventually("an edge says which store is missing", || async {
            let answer = client.get("/readyz").await;
            let says_so = match status {
                200 => answer.body["stores"][missing] == false,
                _ => answer.body["errors"].as_array()?.iter().any(|error| error["pointer"] == missing),
            };
            (answer.is(status) && says_so).then_some(())
        })
        .await;
    }
}

/// Users stay connected and chat on, and an acked message is in the very next read at the other edge.
async fn stop_history(world: &mut World, load: &Load, stopped_for: Duration) {
    world.terminate(Role::Ingest, 0).await;
    block_in_place(|| world.servers.cassandra.stop()).expect("it stops");
    until_readiness_is(world, (200, "history")).await;
    change_groups(load).await;
    world.kill(Role::Ingest, 1).await;
    let (began, conversation) = (Instant::now(), &load.conversations[0]);
    let mut sent = 0_usize;
    while began.elapsed() < stopped_for {
        let (here, there) = (load.edges.client(&load.users[0], sent), load.edges.client(&load.users[1], sent + 1));
        let message = here.post(&format!("/v1/conversations/{conversation}/messages"), json!({"text": "hello"})).await;
        let message = message.expect(201);
        load.ledger.ack(conversation, message["id"].as_str().expect("an id"), message["seq"].as_u64().expect("a seq"));
        // Others go on meanwhile: the newest message up to its place is this one.
        let before_seq = message["seq"].as_u64().expect("a seq") + 1;
        let path = format!("/v1/conversations/{conversation}/messages?limit=1&before_seq={before_seq}");
        let page = there.get(&path).await.expect(200);
        assert_eq!(page["items"][0], message, "an acked message is in the very next read");
        // What only history knows is left open, and not made up.
        let seen = there.get(&format!("/v1/conversations/{conversation}")).await.expect(200);
        assert!(seen["unread"].is_null() && seen["last_message"]["seq"].as_u64() >= message["seq"].as_u64(), "{seen}");
        load.probe().await;
        sent += 1;
    }
    assert!(sent > 0);
    block_in_place(|| world.servers.cassandra.restart()).expect("it starts again");
    for number in 0..2 {
        world.revive(Role::Ingest, number).await;
    }
}

/// While only history is away groups are made and changed, each once, and listed.
async fn change_groups(load: &Load) {
    let owner = load.edges.client(&load.users[0], 0);
    let name = format!("made without history {}", new_id());
    let made = owner.post("/v1/conversations", json!({"kind": "group", "name": name})).await.expect(201);
    assert_eq!((&made["unread"], &made["read"]["seq"]), (&json!(0), &json!(0)), "nothing was there before: {made}");
    let path = format!("/v1/conversations/{}", made["id"].as_str().expect("an id"));
    let invitation = json!({"users": [load.users[1].id()]});
    let invited = owner.post(&format!("{path}/members"), invitation).await.expect(200);
    assert!(invited["unread"].is_null() && invited["members_count"] == 2, "{invited}");
    let name = format!("renamed {name}");
    assert_eq!(owner.patch(&path, json!({"name": name})).await.expect(200)["name"], *name);
    let groups = owner.get("/v1/conversations?kind=group&limit=100").await.expect(200);
    let ids: Vec<_> = groups["items"].as_array().expect("a list").iter().map(|group| &group["id"]).collect();
    assert_eq!(ids.iter().filter(|id| ***id == made["id"]).count(), 1, "{groups}");
    owner.delete(&path).await.expect(204);
}

/// Nobody can register, and all others chat on.
async fn stop_directory(world: &mut World, load: &Load, stopped_for: Duration) {
    block_in_place(|| world.servers.postgres.stop()).expect("it stops");
    let began = Instant::now();
    while began.elapsed() < stopped_for {
        let account = json!({"username": "nobody", "email": "nobody@example.org", "password": testkit::PASSWORD});
        let answer = timeout(REFUSAL, world.stranger(0).post("/v1/auth/register", account)).await;
        answer.expect("a refusal comes in time").expect(503);
        load.probe().await;
        sleep(Duration::from_millis(200)).await;
    }
    block_in_place(|| world.servers.postgres.restart()).expect("it starts again");
    let began = Instant::now();
    eventually("users register again", || async {
        let name = format!("late{}", began.elapsed().as_nanos());
        let account = json!({"username": name, "email": format!("{name}@example.org"), "password": testkit::PASSWORD});
        world.stranger(0).post("/v1/auth/register", account).await.is(201).then_some(())
    })
    .await;
}

/// Nobody can read counts, and all chat on.
async fn stop_counts(world: &mut World, load: &Load, stopped_for: Duration) {
    block_in_place(|| world.servers.clickhouse.stop()).expect("it stops");
    let began = Instant::now();
    while began.elapsed() < stopped_for {
        let client = load.edges.client(&load.users[0], 0);
        let answer = timeout(REFUSAL, client.get("/v1/analytics/top-users")).await;
        answer.expect("a refusal comes in time").expect(503);
        load.probe().await;
        sleep(Duration::from_millis(200)).await;
    }
    block_in_place(|| world.servers.clickhouse.restart()).expect("it starts again");
}

/// Nobody can attach a file, and all chat on; afterwards it works again.
async fn stop_blobs(world: &mut World, load: &Load, stopped_for: Duration) {
    block_in_place(|| world.servers.s3.stop()).expect("it stops");
    let began = Instant::now();
    let client = load.edges.client(&load.users[0], 0);
    while began.elapsed() < stopped_for {
        let answer = timeout(REFUSAL, attach(&client)).await;
        assert_eq!(answer.expect("a refusal comes in time"), 503);
        load.probe().await;
        sleep(Duration::from_millis(200)).await;
    }
    block_in_place(|| world.servers.s3.restart()).expect("it starts again");
    let attached = async { while attach(&client).await != 201 {} };
    timeout(RECOVERY, attached).await.expect("files are taken again");
}

/// Uploads the smallest PNG there is, and gives the status.
async fn attach(client: &testkit::Client) -> u16 {
    const PNG: &[u8] = &[
        0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00, 0x00,
        0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x06, 0x00, 0x00, 0x00, 0x1f, 0x15, 0xc4, 0x89, 0x00, 0x00, 0x00,
        0x0d, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0x60, 0x60, 0x60, 0x60, 0x00, 0x00, 0x00, 0x05, 0x00, 0x01,
        0xa5, 0xf6, 0x45, 0x40, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
    ];
    let sent = client.send_bytes(reqwest::Method::POST, "/v1/attachments?name=dot.png", "image/png", Some(PNG.into()));
    sent.await.status
}
