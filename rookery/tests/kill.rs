//! `kill -9` under load, again and again on the same data: nothing acked is lost, nothing is there twice, the
//! order is kept, and the counts equal a count of history.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Client, Process, Socket, eventually};
use types::{EventId, Region};

const ROUNDS: usize = 20;
const SENDERS: usize = 8;
const GROUPS: usize = 3;

/// What a sender knows of what it sent: acked messages in order, and those whose ack never came.
#[derive(Default)]
struct Sent {
    acked: Vec<(String, String, u64)>,
    unsure: Vec<(String, String)>,
}

/// Sends into one group until the socket breaks. What was in doubt in the round before is sent again first,
/// with the same ids, as a client does.
async fn send_until_killed(client: Client, group: String, mut sent: Sent, name: String) -> Sent {
    let Ok(mut socket) = Socket::try_open(client.address(), Some(client.token())).await else { return sent };
    let again = std::mem::take(&mut sent.unsure);
    let fresh = (0..).map(|n| (EventId::generate(Region::default()).to_string(), format!("{name} {n}")));
    for (id, text) in again.into_iter().chain(fresh) {
        sent.unsure.push((id.clone(), text.clone()));
        let frame = json!({"type": "send", "ref": id, "conversation": group, "id": id, "text": text});
        if socket.send_raw(frame.to_string().into()).await.is_err() {
            break;
        }
        let seq = loop {
            let frame = socket.next().await;
            match frame["type"].as_str() {
                Some("ack") if frame["ref"] == *id => break frame["seq"].as_u64(),
                Some("broken" | "close") => break None,
                Some("error") => panic!("{frame}"),
                _ => {}
            }
        };
        let Some(seq) = seq else { break };
        sent.unsure.retain(|(unsure, _)| *unsure != id);
        sent.acked.push((id, text, seq));
    }
    sent
}

async fn history(client: &Client, group: &str) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/conversations/{group}/messages?order=asc&limit=100{cursor}");
        let page = client.get(&path).await.expect(200);
        items.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { return items };
        cursor = format!("&cursor={next}");
    }
}

/// Every acked message is in history once, at the place that its ack named; nothing is there that nobody sent.
fn check(group: &[Value], sent: &[&Sent]) {
    let mut by_id = BTreeMap::new();
    let mut before = 0;
    for message in group {
        let seq = message["seq"].as_u64().unwrap();
        assert!(seq > before, "history is in order");
        before = seq;
        let twice = by_id.insert(message["id"].as_str().unwrap(), message);
        assert!(twice.is_none(), "{message} is there twice");
    }
    for sender in sent {
        let mut order = 0;
        for (id, text, seq) in &sender.acked {
            let message = by_id.remove(id.as_str()).unwrap_or_else(|| panic!("{text} was acked and is lost"));
            assert_eq!((message["text"].as_str(), message["seq"].as_u64()), (Some(text.as_str()), Some(*seq)));
            assert!(*seq > order, "a sender's messages keep their order");
            order = *seq;
        }
        for (id, _) in &sender.unsure {
            by_id.remove(id.as_str());
        }
    }
    assert!(by_id.is_empty(), "nobody sent {by_id:?}");
}

async fn counts_equal_history(client: &Client, groups: &BTreeMap<String, usize>) {
    eventually("the counts equal history", || async {
        let top = client.get("/v1/analytics/top-conversations?limit=100").await.expect(200);
        let counted: BTreeMap<String, usize> = top["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let id = row["conversation"]["id"].as_str().unwrap().to_owned();
                (id, usize::try_from(row["messages"].as_u64().unwrap()).unwrap())
            })
            .collect();
        for (group, counted) in &counted {
            assert!(counted <= &groups[group], "{group} is counted too often");
        }
        (counted == *groups).then_some(())
    })
    .await;
}

async fn rounds(data: &Path) {
    let program = env!("CARGO_BIN_EXE_rookery");
    let first = Process::start(program, data).await;
    let mut users = Vec::new();
    for n in 0..SENDERS {
        users.push(first.client().register(&format!("sender{n}-")).await);
    }
    let mut groups = Vec::new();
    for n in 0..GROUPS {
        groups.push(users[0].create_group(&format!("group {n}"), &users.iter().skip(1).collect::<Vec<_>>()).await);
    }
    first.kill().await;

    let mut sent: Vec<Sent> = users.iter().map(|_| Sent::default()).collect();
    for round in 0..ROUNDS {
        let process = Process::start(program, data).await;
        let mut senders = Vec::new();
        for (n, state) in sent.drain(..).enumerate() {
            let client = process.client().log_in(users[n].username()).await;
            let name = format!("round {round} sender {n} message");
            senders.push(tokio::spawn(send_until_killed(client, groups[n % GROUPS].clone(), state, name)));
        }
        // The moment of the kill is what varies from round to round, not a wait for something.
        let until_kill = Duration::from_millis(40 + u64::try_from(round * 37 % 200).unwrap());
        tokio::time::sleep(until_kill).await;
        process.kill().await;
        for sender in senders {
            sent.push(sender.await.unwrap());
        }
    }

    let last = Process::start(program, data).await;
    let reader = last.client().log_in(users[0].username()).await;
    let mut counts = BTreeMap::new();
    for (n, group) in groups.iter().enumerate() {
        let messages = history(&reader, group).await;
        let senders: Vec<&Sent> = sent.iter().skip(n).step_by(GROUPS).collect();
        check(&messages, &senders);
        counts.insert(group.clone(), messages.len());
    }
    counts_equal_history(&reader, &counts).await;
    let acked: usize = sent.iter().map(|sender| sender.acked.len()).sum();
    assert!(acked > ROUNDS * SENDERS, "there was load: {acked} acked");
    assert!(last.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_under_load_lose_and_repeat_nothing() {
    let data = tempfile::tempdir().unwrap();
    rounds(&data.path().join("data")).await;
}
