//! Promise 5: a client that returns with its last position gets every later event, or is told that it does not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Client, Cluster, scenarios};

scenarios!(
    an_absence_leaves_no_hole,
    a_resume_under_traffic_is_whole_and_in_order,
    another_epoch_is_told_to_be_incomplete,
    events_page_from_a_position,
    a_long_poll_answers_at_once_when_there_is_something,
    a_long_poll_waits_for_what_comes,
    a_position_of_everything_resumes_everything,
);

async fn two_in_a_group(cluster: &Cluster) -> (Client, Client, String) {
    let ada = cluster.client().register("ada").await;
    let ben = cluster.other_client().register("ben").await;
    let group = ada.create_group("rooks", &[&ben]).await;
    (ada, ben, group)
}

fn position(frame: &Value) -> Value {
    json!({"epoch": frame["epoch"], "seq": frame["seq"]})
}

async fn an_absence_leaves_no_hole(cluster: &Cluster) {
    let (ada, ben, group) = two_in_a_group(cluster).await;
    let mut socket = ben.connect().await;
    let seen = ada.send(&group, "seen").await;
    let last = socket.next_event("message").await;
    socket.close().await;

    let message = ada.send(&group, "missed").await;
    let path = format!("/v1/conversations/{group}/messages/{}", message["id"].as_str().unwrap());
    ada.patch(&path, json!({"text": "missed, and edited"})).await.expect(200);
    ada.delete(&format!("/v1/conversations/{group}/messages/{}", seen["id"].as_str().unwrap())).await.expect(204);
    let cyd = cluster.client().register("cyd").await;
    ada.post(&format!("/v1/conversations/{group}/members"), json!({"users": [cyd.id()]})).await.expect(200);
    ada.patch(&format!("/v1/conversations/{group}"), json!({"name": "ravens"})).await.expect(200);

    // Back, at the other edge.
    let mut socket = ben.at(&cluster.client()).connect().await;
    socket.send(&json!({"type": "resume", "positions": {&group: position(&last)}})).await;
    let (mut kinds, mut prev) = (Vec::new(), last["seq"].clone());
    loop {
        let frame = socket.next().await;
        if frame["type"] == "resumed" {
            assert_eq!(frame["complete"], true);
            break;
        }
        assert_eq!(frame["prev"], prev, "a chain without a gap");
        prev = frame["seq"].clone();
        kinds.push(frame["event"]["kind"].as_str().unwrap().to_owned());
    }
    assert_eq!(kinds, ["message", "edit", "delete", "member_added", "group_updated"]);
}

async fn a_resume_under_traffic_is_whole_and_in_order(cluster: &Cluster) {
    const MESSAGES: usize = 600;
    let (ada, ben, group) = two_in_a_group(cluster).await;
    let mut socket = ben.connect().await;
    ada.send(&group, "start").await;
    let start = socket.next_event("message").await;
    let sending = {
        let (ada, group) = (ada.clone(), group.clone());
        tokio::spawn(async move {
            let mut socket = ada.connect().await;
            for n in 0..MESSAGES {
                socket.send_text(&group, &n.to_string()).await;
            }
        })
    };
    // Comes and goes between the edges all the while, each time with the last position it has seen.
    let (mut seen, mut last, mut visits) = (Vec::new(), start, 0);
    while seen.len() < MESSAGES {
        visits += 1;
        let edge = if visits % 2 == 0 { cluster.client() } else { cluster.other_client() };
        let mut socket = ben.at(&edge).connect().await;
        socket.send(&json!({"type": "resume", "positions": {&group: position(&last)}})).await;
        let mut resumed = false;
        let enough = seen.len() + 37;
        while seen.len() < MESSAGES && !(resumed && seen.len() >= enough) {
            let frame = socket.next().await;
            if frame["type"] == "resumed" {
                assert_eq!(frame["complete"], true);
                resumed = true;
            }
            // What came live before the resume took hold comes again after it.
            let is_early = frame["prev"] != last["seq"] && !resumed;
            if is_early || frame["type"] != "event" || frame["seq"].as_u64() <= last["seq"].as_u64() {
                continue;
            }
            assert_eq!(frame["prev"], last["seq"], "a chain without a gap, on visit {visits}");
            seen.push(frame["event"]["text"].as_str().unwrap().to_owned());
            last = frame;
        }
        socket.close().await;
    }
    sending.await.unwrap();
    let expected: Vec<String> = (0..MESSAGES).map(|n| n.to_string()).collect();
    assert_eq!(seen, expected);
    assert!(visits > 2);
}

async fn another_epoch_is_told_to_be_incomplete(cluster: &Cluster) {
    let (ada, ben, group) = two_in_a_group(cluster).await;
    let sent = ada.send(&group, "x").await;
    let events = ben.get(&format!("/v1/conversations/{group}/events?after_seq=0&limit=100")).await.expect(200);
    let epoch = events["position"]["epoch"].as_str().unwrap();
    let other = if epoch == "ffffffff" { "fffffffe" } else { "ffffffff" };
    let mut socket = ben.connect().await;
    socket.send(&json!({"type": "resume", "positions": {&group: {"epoch": other, "seq": sent["seq"]}}})).await;
    assert_eq!(socket.next_of("resumed").await["complete"], false);
    let answer = ben.get(&format!("/v1/conversations/{group}/events?after_seq=1&epoch={other}")).await.expect(200);
    assert_eq!(answer["complete"], false);
    assert_eq!(answer["position"]["epoch"], epoch, "it says where to read on");
}

async fn events_page_from_a_position(cluster: &Cluster) {
    let (ada, ben, group) = two_in_a_group(cluster).await;
    for n in 0..25 {
        ada.send(&group, &n.to_string()).await;
    }
    let (mut after, mut seen, mut prev) = (0, Vec::new(), json!(0));
    loop {
        let page = ben.get(&format!("/v1/conversations/{group}/events?after_seq={after}&limit=10")).await.expect(200);
        for frame in page["items"].as_array().unwrap() {
            assert_eq!(frame["prev"], prev);
            prev = frame["seq"].clone();
            seen.push(frame["event"]["kind"].as_str().unwrap().to_owned());
        }
        assert_eq!(page["complete"], true);
        if page["items"].as_array().unwrap().is_empty() {
            break;
        }
        after = page["position"]["seq"].as_u64().unwrap();
    }
    assert_eq!(seen.len(), 27);
    assert_eq!(&seen[..3], ["member_added", "member_added", "message"]);
}

async fn a_long_poll_answers_at_once_when_there_is_something(cluster: &Cluster) {
    let (ada, ben, group) = two_in_a_group(cluster).await;
    let start = ben.get("/v1/events?timeout=0").await.expect(200);
    let position = start["position"].as_str().unwrap();
    ada.send(&group, "there already").await;
    let began = std::time::Instant::now();
    let answer = ben.get(&format!("/v1/events?position={position}&timeout=60")).await.expect(200);
    assert!(began.elapsed() < Duration::from_secs(30));
    assert_eq!(answer["items"][0]["event"]["text"], "there already");
    assert_eq!(answer["complete"], true);
    let position = answer["position"].as_str().unwrap();
    let nothing = ben.get(&format!("/v1/events?position={position}&timeout=0")).await.expect(200);
    assert_eq!(nothing["items"], json!([]), "nothing comes twice");
}

async fn a_long_poll_waits_for_what_comes(cluster: &Cluster) {
    let (ada, ben, group) = two_in_a_group(cluster).await;
    let mut position = ben.get("/v1/events?timeout=0").await.expect(200)["position"].as_str().unwrap().to_owned();
    let mut seen = Vec::new();
    for n in 0..5 {
        let path = format!("/v1/events?position={position}&timeout=60");
        let (answer, _) = tokio::join!(ben.get(&path), async {
            tokio::task::yield_now().await;
            ada.send(&group, &n.to_string()).await
        });
        let answer = answer.expect(200);
        seen.extend(
            answer["items"].as_array().unwrap().iter().map(|f| f["event"]["text"].as_str().unwrap().to_owned()),
        );
        position = answer["position"].as_str().unwrap().to_owned();
    }
    assert_eq!(seen, ["0", "1", "2", "3", "4"]);
}

async fn a_position_of_everything_resumes_everything(cluster: &Cluster) {
    let (ada, ben, group) = two_in_a_group(cluster).await;
    let socket = ben.connect().await;
    let everything = socket.hello["resume"].as_str().unwrap().to_owned();
    socket.close().await;
    ada.send(&group, "in the group").await;
    ada.post(&format!("/v1/conversations/@{}/messages", ben.id()), json!({"text": "aside"})).await.expect(201);
    let mut socket = ben.connect().await;
    socket.send(&json!({"type": "resume", "position": everything})).await;
    let mut texts = Vec::new();
    loop {
        let frame = socket.next().await;
        match frame["type"].as_str().unwrap() {
            "resumed" => {
                assert_eq!(frame["complete"], true);
                break;
            }
            "event" if frame["event"]["kind"] == "message" => {
                texts.push(frame["event"]["text"].as_str().unwrap().to_owned())
            }
            "event" => {}
            other => panic!("{other}"),
        }
    }
    texts.sort();
    assert_eq!(texts, ["aside", "in the group"]);
}
