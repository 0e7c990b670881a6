//! The program as an operator meets it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;
use testkit::{Process, eventually};
use tokio::io::{AsyncBufReadExt, BufReader};

const PROGRAM: &str = env!("CARGO_BIN_EXE_rookery");

fn run(data: &Path, args: &[&str]) -> Output {
    Command::new(PROGRAM).arg("--data").arg(data).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_folder_is_refused_clearly() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let first = Process::start(PROGRAM, &data).await;
    let second = run(&data, &["--listen", "127.0.0.1:0"]);
    assert!(!second.status.success());
    let said = text(&second.stderr);
    assert!(said.contains("another rookery process is using") && said.contains(data.to_str().unwrap()), "{said}");
    first.client().get("/readyz").await.expect(200);
    assert!(first.terminate().await.success());
    let third = Process::start(PROGRAM, &data).await;
    third.client().get("/readyz").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_end_tells_clients_where_to_resume() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(PROGRAM, &folder.path().join("data")).await;
    let ada = process.client().register("ada").await;
    let mut socket = ada.connect().await;
    let ended = tokio::spawn(process.terminate());
    let close = loop {
        let frame = socket.next().await;
        if frame["type"] == "close" {
            break frame;
        }
    };
    assert_eq!(close["code"], 1001);
    assert!(close["reason"].as_str().unwrap().contains("resume"), "{close}");
    drop(socket);
    assert!(ended.await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_reconciled_with_history_by_a_command_that_fails_when_they_differ() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let process = Process::start(PROGRAM, &data).await;
    let ada = process.client().register("ada").await;
    let conversation = ada.create_group("one", &[]).await;
    for text in ["hi", "there"] {
        let path = format!("/v1/conversations/{conversation}/messages");
        ada.post(&path, json!({ "text": text })).await.expect(201);
    }
    eventually("both are counted", || async {
        let ranking = ada.get("/v1/analytics/top-users").await.expect(200);
        (ranking["items"][0]["messages"] == 2).then_some(())
    })
    .await;
    assert!(process.terminate().await.success());

    let until = ["reconcile", "--end", "9999-01-01T00:00:00Z"];
    let equal = run(&data, &until);
    assert!(equal.status.success(), "{}", text(&equal.stderr));
    assert!(text(&equal.stdout).contains("compared 2 messages of 1 users in 1 conversations"), "{equal:?}");

    let analytics = analytics::open(&analytics::Config::default(), &data).await.unwrap();
    let group: types::GroupId = conversation.parse().unwrap();
    let sender = types::UserId::generate(types::Region::default());
    let (shard, at) = (0, types::Timestamp::now());
    let after_seq = analytics.recorded_seq(shard).await.unwrap();
    let fact = analytics::Fact { seq: after_seq + 1, at, region: sender.region(), conversation: group.into(), sender };
    let range = analytics::Range { shard, after_seq, through_seq: after_seq + 1, facts: &[fact] };
    analytics.record(range).await.unwrap();
    drop(analytics);
    let differs = run(&data, &until);
    assert_eq!(differs.status.code(), Some(1));
    assert!(text(&differs.stdout).contains(&format!("conversation {conversation}: 3 counted, 2 in history")));
    assert!(text(&differs.stdout).contains(&format!("user {sender}: 1 counted, 0 in history")));
    assert!(text(&differs.stderr).contains("2 numbers differ"));
}

#[test]
fn the_effective_configuration_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let printed = run(folder.path(), &["config"]);
    assert!(printed.status.success());
    assert!(text(&printed.stdout).contains(&format!("data = {:?}", folder.path())), "{}", text(&printed.stdout));
}

#[test]
fn an_unknown_key_stops_the_program_before_it_does_anything() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rookery.toml");
    std::fs::write(&file, "[edge]\nlissten = \"127.0.0.1:1\"\n").unwrap();
    let output = run(&folder.path().join("data"), &["--config", file.to_str().unwrap()]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("lissten"), "{}", text(&output.stderr));
    assert!(!folder.path().join("data").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_granted_beside_a_running_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let process = Process::start(PROGRAM, &data).await;
    process.client().register("first").await;
    let ben = process.client().register("ben").await;
    let granted = run(&data, &["grant", ben.username(), "operator", "analyst"]);
    assert!(granted.status.success(), "{}", text(&granted.stderr));
    let again = process.client().log_in(ben.username()).await;
    let path = format!("/v1/users/{}/roles", ben.id());
    let answer = again.put(&path, serde_json::json!({"roles": ["operator"]})).await.expect(200);
    assert_eq!(answer["roles"], serde_json::json!(["operator"]));
    assert!(!run(&data, &["grant", "nobody", "operator"]).status.success());
}

#[test]
fn migrating_twice_is_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let output = run(folder.path(), &["migrate"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_an_edge_answers_operators() {
    let folder = tempfile::tempdir().unwrap();
    let mut ingest = tokio::process::Command::new(PROGRAM)
        .arg("--data")
        .arg(folder.path().join("data"))
        .arg("ingest")
        .env("ROOKERY__OPERATIONS__LISTEN", "127.0.0.1:0")
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(ingest.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    let address = line.split_once("http://").unwrap().1.split_once(": ").unwrap().0.to_owned();
    let client = testkit::Client::new(address.parse().unwrap());
    assert_eq!(client.get("/healthz").await.expect(200), json!({"status": "ok"}));
    let ready = eventually("it is ready", || async {
        let answer = client.get("/readyz").await;
        answer.is(200).then_some(answer.body)
    });
    let stores = json!({"log": true, "directory": true, "history": true, "blobs": true});
    assert_eq!(ready.await, json!({"status": "ready", "stores": stores}));
    assert_eq!(client.get("/metrics").await.status, 200);
    ingest.kill().await.unwrap();
}
