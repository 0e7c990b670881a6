//! Who is there, and what has been delivered and read.

use serde_json::{Value, json};
use testkit::{Client, Cluster, Socket, eventually, scenarios};

scenarios!(
    b4_09_a_sender_sees_what_was_delivered_and_read,
    b4_10_who_shares_a_conversation_sees_who_is_there,
    b4_10_whoever_is_removed_sees_nobody_any_more,
);

async fn presence_of(viewer: &Client, users: &[&Client]) -> Vec<Value> {
    let ids: Vec<&str> = users.iter().map(|user| user.id()).collect();
    let page = viewer.get(&format!("/v1/presence?users={}", ids.join(","))).await.expect(200);
    page["items"].as_array().unwrap().clone()
}

async fn status_of(viewer: &Client, user: &Client) -> Value {
    presence_of(viewer, &[user]).await.first().map_or(Value::Null, |item| item["status"].clone())
}

/// Watches and waits until the user is seen with this status.
async fn until(socket: &mut Socket, user: &Client, status: &str) -> Value {
    loop {
        let frame = socket.next_of("presence").await;
        if frame["user"] == user.id() && frame["status"] == status {
            return frame;
        }
    }
}

async fn watch(socket: &mut Socket, users: &[&Client]) {
    let ids: Vec<&str> = users.iter().map(|user| user.id()).collect();
    socket.send(&json!({"type": "watch", "ref": "w", "users": ids})).await;
}

async fn b4_09_a_sender_sees_what_was_delivered_and_read(cluster: &Cluster) {
    let ada = cluster.client().register("ada").await;
    let ben = cluster.other_client().register("ben").await;
    let (mut of_ada, mut of_ben) = (ada.connect().await, ben.connect().await);
    let sent = ada.send(&format!("@{}", ben.id()), "hello").await;
    let (conversation, seq) = (sent["conversation"].as_str().unwrap(), &sent["seq"]);
    of_ben.next_event("message").await;
    of_ben.send(&json!({"type": "delivered", "conversation": conversation, "seq": seq})).await;
    let delivered = of_ada.next_of("delivered").await;
    assert_eq!((&delivered["user"], &delivered["seq"]), (&json!(ben.id()), seq));
    let beyond = seq.as_u64().unwrap() + 1_000_000;
    of_ben.send(&json!({"type": "read", "ref": "r", "conversation": conversation, "seq": beyond})).await;
    let read = of_ada.next_of("read").await;
    assert_eq!((&read["user"], &read["conversation"], &read["seq"]), (&json!(ben.id()), &json!(conversation), seq));
    let reads = ada.get(&format!("/v1/conversations/{conversation}/reads")).await.expect(200);
    let mark =
        |user: &Client| reads["items"].as_array().unwrap().iter().find(|item| item["user"] == user.id()).cloned();
    assert_eq!(mark(&ben).unwrap()["seq"], *seq);
    assert_eq!(mark(&ada).unwrap()["seq"], 0);
    let eve = cluster.client().register("eve").await;
    eve.get(&format!("/v1/conversations/{conversation}/reads")).await.expect(404);

    let group = ada.create_group("rooks", &[&ben]).await;
    let sent = ada.send(&group, "all").await;
    ben.put(&format!("/v1/conversations/{group}/read"), json!({"seq": sent["seq"]})).await.expect(204);
    let page = ada.get(&format!("/v1/conversations/{group}/reads?limit=1")).await.expect(200);
    let next = page["next"].as_str().unwrap();
    let rest = ada.get(&format!("/v1/conversations/{group}/reads?limit=1&cursor={next}")).await.expect(200);
    let seqs = [&page["items"][0]["seq"], &rest["items"][0]["seq"]];
    assert!(seqs.contains(&&sent["seq"]) && rest["next"].is_null(), "{page} {rest}");
}

async fn b4_10_who_shares_a_conversation_sees_who_is_there(cluster: &Cluster) {
    let ada = cluster.client().register("ada").await;
    let ben = cluster.other_client().register("ben").await;
    let eve = cluster.client().register("eve").await;
    ada.create_group("rooks", &[&ben]).await;
    let offline = presence_of(&ada, &[&ben]).await;
    assert_eq!(offline[0]["status"], "offline");
    assert!(offline[0]["last_seen"].is_string(), "a session tells when it was last used: {offline:?}");

    let mut of_ada = ada.connect().await;
    watch(&mut of_ada, &[&ben, &eve]).await;
    until(&mut of_ada, &ben, "offline").await;
    let of_ben = ben.connect().await;
    until(&mut of_ada, &ben, "online").await;
    assert_eq!(status_of(&ada, &ben).await, "online");
    assert_eq!(status_of(&ben, &ada).await, "online");
    let second = ben.at(&cluster.client()).connect().await;
    second.close().await;
    assert_eq!(status_of(&ada, &ben).await, "online", "one of two connections is left");
    of_ben.close().await;
    let gone = until(&mut of_ada, &ben, "offline").await;
    assert!(gone["last_seen"].is_string(), "{gone}");
    eventually("ben is offline", || async { (status_of(&ada, &ben).await == "offline").then_some(()) }).await;

    let _of_eve = eve.connect().await;
    assert_eq!(presence_of(&eve, &[&ada, &ben]).await, Vec::<Value>::new(), "a stranger sees nobody");
    assert_eq!(presence_of(&ada, &[&eve]).await, Vec::<Value>::new());
    let heard = of_ada.frames_so_far().await;
    assert!(heard.iter().all(|frame| frame["user"] != eve.id()), "a stranger is not shown: {heard:?}");
    ada.send(&format!("@{}", eve.id()), "hello").await;
    eventually("who was written to is no stranger", || async {
        (status_of(&ada, &eve).await == "online").then_some(())
    })
    .await;
    for users in ["", "x", &vec![ada.id(); 101].join(",")] {
        ada.get(&format!("/v1/presence?users={users}")).await.expect(422);
    }
}

async fn b4_10_whoever_is_removed_sees_nobody_any_more(cluster: &Cluster) {
    let ada = cluster.client().register("ada").await;
    let ben = cluster.other_client().register("ben").await;
    let group = ada.create_group("rooks", &[&ben]).await;
    let (mut of_ada, mut of_ben) = (ada.connect().await, ben.connect().await);
    for (socket, other) in [(&mut of_ada, &ben), (&mut of_ben, &ada)] {
        watch(socket, &[other]).await;
        until(socket, other, "online").await;
    }
    ada.delete(&format!("/v1/conversations/{group}/members/{}", ben.id())).await.expect(204);
    assert_eq!(of_ben.next_of("unwatched").await["user"], ada.id());
    assert_eq!(of_ada.next_of("unwatched").await["user"], ben.id());
    eventually("the two share nothing any more", || async {
        let nobody = presence_of(&ben, &[&ada]).await.is_empty() && presence_of(&ada, &[&ben]).await.is_empty();
        nobody.then_some(())
    })
    .await;
}
