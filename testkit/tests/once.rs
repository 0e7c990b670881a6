//! Promise 3: an event id takes effect once, however often, however late and over whatever it is re-sent.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::{Client, Cluster, eventually, scenarios};
use types::{EventId, Region};

scenarios!(an_id_with_another_content_or_by_another_sender_is_a_conflict, a_group_created_twice_at_once_is_one_group,);

fn new_id() -> String {
    EventId::generate(Region::default()).to_string()
}

async fn send_over_rest(client: &Client, group: &str, id: &str) -> u64 {
    let answer = client.post(&format!("/v1/conversations/{group}/messages"), json!({"id": id, "text": "once"})).await;
    assert!(answer.is(200) || answer.is(201), "{}", answer.text);
    answer.body["seq"].as_u64().unwrap()
}

async fn send_over_socket(client: &Client, group: &str, id: &str) -> u64 {
    let mut socket = client.connect().await;
    socket.send(&json!({"type": "send", "ref": "r", "conversation": group, "id": id, "text": "once"})).await;
    let ack = socket.next_of("ack").await;
    socket.close().await;
    ack["seq"].as_u64().unwrap()
}

async fn counted(client: &Client) -> Value {
    client.get("/v1/analytics/top-conversations").await.expect(200)["items"][0]["messages"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_sent_a_hundred_times_over_everything_and_after_a_restart_is_one_message_and_one_count() {
    is_one_message_and_one_count(Cluster::all().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_on_servers_start_again_and_an_id_is_still_one_message_and_one_count() {
    is_one_message_and_one_count(Cluster::processes(env!("CARGO_BIN_EXE_rookery-under-test")).await).await;
}

/// An id, sent a hundred times over everything, and again after a restart.
async fn is_one_message_and_one_count(cluster: Cluster) {
    let ada = cluster.client().register("ada").await;
    let group = ada.create_group("once", &[]).await;
    let id = new_id();
    let elsewhere = cluster.other_client().with_token(Some(ada.token()));
    let (rest, sockets) = tokio::join!(
        join_all((0..50).map(|_| send_over_rest(&elsewhere, &group, &id))),
        join_all((0..50).map(|_| send_over_socket(&ada, &group, &id))),
    );
    let seqs: std::collections::BTreeSet<u64> = rest.into_iter().chain(sockets).collect();
    assert_eq!(seqs.len(), 1, "every answer names the same place");

    let cluster = cluster.restart().await;
    let ada = cluster.client().log_in(ada.username()).await;
    assert_eq!(send_over_rest(&ada, &group, &id).await, *seqs.first().unwrap());
    assert_eq!(send_over_socket(&ada, &group, &id).await, *seqs.first().unwrap());
    ada.send(&group, "another, so that the counts are seen to move").await;
    eventually("both messages are counted", || async { (counted(&ada).await == 2).then_some(()) }).await;
    assert_eq!(ada.texts(&group).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_older_than_the_logs_memory_is_known_from_history() {
    // The log remembers ids for no time at all: history alone must know them.
    let cluster = Cluster::with(|config| {
        match &mut config.log {
            log::Config::Embedded { duplicate_window_seconds, .. } => *duplicate_window_seconds = 0,
            // The least that the servers know.
            log::Config::JetStream { duplicate_window_seconds, .. } => *duplicate_window_seconds = 1,
        }
    })
    .await;
    let ada = cluster.client().register("ada").await;
    let group = ada.create_group("late", &[]).await;
    let id = new_id();
    let seq = send_over_rest(&ada, &group, &id).await;
    for n in 0..20 {
        ada.send(&group, &n.to_string()).await;
        assert_eq!(send_over_rest(&ada, &group, &id).await, seq);
    }
    assert_eq!(ada.texts(&group).await.len(), 21);
}

async fn an_id_with_another_content_or_by_another_sender_is_a_conflict(cluster: &Cluster) {
    let ada = cluster.client().register("ada").await;
    let ben = cluster.client().register("ben").await;
    let group = ada.create_group("ids", &[&ben]).await;
    let path = format!("/v1/conversations/{group}/messages");
    let id = new_id();
    let first = ada.post(&path, json!({"id": id, "text": "mine"})).await.expect(201);
    assert_eq!(ada.post(&path, json!({"id": id, "text": "mine"})).await.expect(200), first);
    ada.post(&path, json!({"id": id, "text": "other"})).await.expect(409);
    ben.post(&path, json!({"id": id, "text": "mine"})).await.expect(409);
    let elsewhere = ada.create_group("elsewhere", &[]).await;
    let path = format!("/v1/conversations/{elsewhere}/messages");
    let there = ada.post(&path, json!({"id": id, "text": "mine"})).await;
    // A log knows ids of one shard alone. In another conversation an id is refused or is another message, and the first
    // stays what it is.
    assert!(there.is(409) || there.is(201), "{}", there.text);
    assert_eq!(ada.texts(&elsewhere).await.len(), usize::from(there.is(201)));
    assert_eq!(ada.texts(&group).await, ["mine"]);
}

async fn a_group_created_twice_at_once_is_one_group(cluster: &Cluster) {
    let ada = cluster.client().register("ada").await;
    let region: types::UserId = ada.id().parse().unwrap();
    let id = types::GroupId::generate(region.region()).to_string();
    let body = json!({"kind": "group", "id": id, "name": "one"});
    let answers = join_all((0..20).map(|_| ada.post("/v1/conversations", body.clone()))).await;
    let created = answers.iter().filter(|answer| answer.is(201)).count();
    assert!(answers.iter().all(|answer| answer.is(200) || answer.is(201)));
    assert_eq!(created, 1, "one made it, the others were told of it");
    assert_eq!(ada.get("/v1/conversations").await.expect(200)["items"].as_array().unwrap().len(), 1);
    ada.post("/v1/conversations", json!({"kind": "group", "id": id, "name": "another"})).await.expect(409);
}
