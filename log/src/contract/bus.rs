//! Notices and requests.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;

use super::{Open, PATIENCE, group, is_unavailable, next_batch, soon, user};
use crate::{Delivery, Requests, Topic};

pub(crate) async fn a_notice_reaches_those_who_listen_and_nobody_else(open: &Open) {
    let log = open().await;
    let topics = [Topic::Group(group()), Topic::User(user()), Topic::Presence(user()), Topic::Directory];
    let mut all = log.feed().await.unwrap();
    let mut one = log.feed().await.unwrap();
    for topic in topics {
        all.topics().subscribe(topic).await.unwrap();
    }
    one.topics().subscribe(Topic::Directory).await.unwrap();
    for (number, topic) in topics.into_iter().enumerate() {
        log.notify(topic, number.to_string().into()).await.unwrap();
    }
    let mut heard = HashSet::new();
    while heard.len() < topics.len() {
        for delivery in next_batch(&mut all, 10).await {
            let Delivery::Notice { topic, notice } = delivery else { panic!("no notice: {delivery:?}") };
            assert!(heard.insert((topic, notice)), "a notice came twice");
        }
    }
    for (number, topic) in topics.into_iter().enumerate() {
        assert!(heard.contains(&(topic, number.to_string().into())));
    }
    let heard = next_batch(&mut one, 10).await;
    assert!(matches!(&*heard, [Delivery::Notice { topic: Topic::Directory, notice }] if notice == "3"), "{heard:?}");
}

/// Answers `count` requests with the server's name and the payload.
async fn answer(mut requests: Requests, name: &str, count: usize) -> usize {
    for _ in 0..count {
        let request = soon(requests.next()).await.unwrap();
        let answer = format!("{name}:{}", String::from_utf8_lossy(&request.payload));
        request.answer(answer.into());
    }
    count
}

pub(crate) async fn each_request_goes_to_one_of_those_who_serve(open: &Open) {
    let log = open().await;
    let mut servers = Vec::new();
    for name in ["a", "b"] {
        let mut requests = log.serve("directory").await.unwrap();
        servers.push(tokio::spawn(async move {
            let mut count = 0;
            while let Some(request) = requests.next().await {
                count += 1;
                let answer = format!("{name}:{}", String::from_utf8_lossy(&request.payload));
                request.answer(answer.into());
            }
            count
        }));
    }
    for number in 0..100 {
        let answer = log.request("directory", number.to_string().into(), PATIENCE).await.unwrap();
        let answer = String::from_utf8(answer.to_vec()).unwrap();
        assert!(answer == format!("a:{number}") || answer == format!("b:{number}"), "{answer}");
    }
    log.close().await;
    let mut counts = Vec::new();
    for server in servers {
        counts.push(soon(server).await.unwrap());
    }
    assert_eq!(counts.iter().sum::<usize>(), 100);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

pub(crate) async fn a_request_that_nobody_serves_is_unavailable(open: &Open) {
    let log = open().await;
    let _other = log.serve("directory").await.unwrap();
    assert!(is_unavailable(&soon(log.request("nobody", Bytes::new(), PATIENCE)).await));
}

pub(crate) async fn a_request_that_is_dropped_or_late_is_unavailable(open: &Open) {
    let log = open().await;
    let mut requests = log.serve("directory").await.unwrap();
    let server = tokio::spawn(async move {
        drop(soon(requests.next()).await.unwrap());
        let late = soon(requests.next()).await.unwrap();
        (requests, late)
    });
    assert!(is_unavailable(&soon(log.request("directory", "drop".into(), PATIENCE)).await));
    assert!(is_unavailable(&log.request("directory", "late".into(), Duration::from_millis(50)).await));
    let (_requests, late) = server.await.unwrap();
    assert_eq!(late.payload, "late");
    late.answer("nobody waits".into());
}

pub(crate) async fn a_server_that_ends_is_not_asked_again(open: &Open) {
    let log = open().await;
    let ending = log.serve("directory").await.unwrap();
    let staying = log.serve("directory").await.unwrap();
    drop(ending);
    let server = tokio::spawn(answer(staying, "stays", 4));
    for _ in 0..4 {
        assert_eq!(log.request("directory", "x".into(), PATIENCE).await.unwrap(), "stays:x");
    }
    assert_eq!(server.await.unwrap(), 4);
    assert!(is_unavailable(&soon(log.request("directory", "x".into(), PATIENCE)).await));
}
