//! Socket.IO, as its users' own client sees it. In a split cluster the clients are at different edges.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "socketio/client.rs"]
mod client;

use client::{Node, Socket};
use serde_json::{Value, json};
use testkit::{Client, Cluster, files, scenarios};

scenarios!(
    b2_10_messages_reach_members_and_peers_by_either_transport,
    b2_10_a_group_is_made_and_joined_by_members_only,
    b2_10_a_file_is_sent_by_its_id,
    b2_10_a_stranger_hears_nothing_and_may_nothing,
    b2_10_a_reconnect_resumes_without_a_hole,
    b2_10_who_is_not_let_in_is_told_why,
    b2_10_a_removed_member_and_an_ended_session_are_cut_off,
    b2_10_a_resent_message_is_stored_once,
    b2_10_a_client_that_does_not_read_is_cut_off_and_resumes,
);

const WEBSOCKET: [&str; 1] = ["websocket"];
const POLLING: [&str; 1] = ["polling"];
const BOTH: [&str; 2] = ["polling", "websocket"];

struct People {
    ada: Client,
    ben: Client,
    stranger: Client,
}

async fn people(cluster: &Cluster) -> People {
    People {
        ada: cluster.client().register("ada").await,
        ben: cluster.other_client().register("ben").await,
        stranger: cluster.other_client().register("eve").await,
    }
}

fn direct(one: &Client, other: &Client) -> String {
    let mut ids = [one.id(), other.id()];
    ids.sort_unstable();
    ids.join("~")
}

/// Where a client stands after this frame.
fn positions(frame: &Value) -> Value {
    let position = json!({"epoch": frame["epoch"], "seq": frame["seq"]});
    json!({"positions": {frame["conversation"].as_str().unwrap(): position}})
}

async fn b2_10_messages_reach_members_and_peers_by_either_transport(cluster: &Cluster) {
    let People { ada, ben, stranger } = people(cluster).await;
    let group = ada.create_group("rooks", &[&ben]).await;
    let node = Node::start().await;
    for (way, transports) in [("websocket", &WEBSOCKET[..]), ("polling", &POLLING), ("websocket", &BOTH)] {
        let sender = node.connect("ada", &ada, transports).await;
        let receiver = node.connect("ben", &ben, transports).await;
        let other = node.connect("eve", &stranger, transports).await;
        assert_eq!(receiver.next("hello").await["user"], ben.id());
        sender.talks_by(way).await;
        receiver.talks_by(way).await;

        let ack = sender.done("group_message", json!({"group": group, "text": "to all"})).await;
        let frame = receiver.next("group_message").await;
        assert_eq!((&frame["seq"], &frame["event"]["id"]), (&ack["seq"], &ack["id"]));
        assert_eq!((&frame["event"]["text"], &frame["event"]["sender"]), (&json!("to all"), &json!(ada.id())));
        assert_eq!(sender.next("group_message").await, frame, "the sender's socket gets the event too");

        let ack = sender.done("send_message", json!({"to": ben.id(), "text": "to you"})).await;
        let frame = receiver.next("receive_message").await;
        assert_eq!((&frame["conversation"], &frame["event"]["text"]), (&json!(direct(&ada, &ben)), &json!("to you")));
        assert_eq!(ack["conversation"], frame["conversation"]);
        let reply = json!({"conversation": frame["conversation"], "text": "and you", "reply_to": ack["id"]});
        receiver.done("send_message", reply).await;
        sender.next("receive_message").await;
        assert_eq!(sender.next("receive_message").await["event"]["reply_to"], ack["id"]);

        assert_eq!(other.names_so_far().await, ["hello"]);
        for socket in [sender, receiver, other] {
            socket.leave().await;
        }
    }
    // A WebSocket of ours hears what Socket.IO sends, and the other way round.
    let mut ours = ben.connect().await;
    let theirs = node.connect("ada", &ada, &WEBSOCKET).await;
    theirs.done("group_message", json!({"group": group, "text": "over"})).await;
    assert_eq!(ours.next_event("message").await["event"]["text"], "over");
    theirs.next("group_message").await;
    ours.send_text(&group, "and out").await;
    assert_eq!(theirs.next("group_message").await["event"]["text"], "and out");
    node.end().await;
}

async fn b2_10_a_group_is_made_and_joined_by_members_only(cluster: &Cluster) {
    let People { ada, ben, stranger } = people(cluster).await;
    let node = Node::start().await;
    let (owner, member) = (node.connect("ada", &ada, &WEBSOCKET).await, node.connect("ben", &ben, &POLLING).await);
    let other = node.connect("eve", &stranger, &WEBSOCKET).await;
    let made = owner.done("create_group", json!({"name": "rooks", "members": [ben.id()]})).await["group"].clone();
    assert_eq!((&made["name"], &made["owner"], &made["members_count"]), (&json!("rooks"), &json!(ada.id()), &json!(2)));
    let group = made["id"].clone();

    let joined = member.done("join_group", json!({"group": group})).await["group"].clone();
    assert_eq!((&joined["id"], &joined["role"]), (&group, &json!("member")));
    owner.done("group_message", json!({"group": group, "text": "welcome"})).await;
    assert_eq!(member.next("group_message").await["event"]["text"], "welcome");

    let refused = other.emit("join_group", json!({"group": group})).await;
    assert_eq!((&refused["ok"], &refused["code"]), (&json!(false), &json!("not_found")));
    let nobodys = json!({"group": "01980a8e-6c00-7001-8a3b-5d2f1c9e7a40"});
    assert_eq!(other.emit("join_group", nobodys).await, refused, "a group that there is not looks alike");

    // Once the owner has added it, it joins, and hears.
    ada.post(&format!("/v1/conversations/{}/members", group.as_str().unwrap()), json!({"users": [stranger.id()]}))
        .await
        .expect(200);
    other.done("join_group", json!({"group": group})).await;
    owner.done("group_message", json!({"group": group, "text": "welcome, too"})).await;
    assert_eq!(other.next("group_message").await["event"]["text"], "welcome, too");
    for (event, data, code) in [
        ("create_group", json!({"name": ""}), "invalid"),
        ("create_group", json!({"nmae": "x"}), "malformed"),
        ("no_such_event", json!({}), "unknown_type"),
    ] {
        assert_eq!(owner.emit(event, data).await["code"], code, "{event}");
    }
    node.end().await;
}

async fn b2_10_a_file_is_sent_by_its_id(cluster: &Cluster) {
    let People { ada, ben, stranger } = people(cluster).await;
    let group = ada.create_group("rooks", &[&ben]).await;
    let node = Node::start().await;
    let sender = node.connect("ada", &ada, &WEBSOCKET).await;
    let receiver = node.connect("ben", &ben, &POLLING).await;
    let other = node.connect("eve", &stranger, &WEBSOCKET).await;
    other.names_so_far().await;

    let png = files::png(3, 2);
    let file = ada.upload("rook.png", "image/png", png.clone()).await.expect(201);
    let attachment = json!({"id": file["id"]});
    for place in [("to", ben.id()), ("group", &*group)] {
        let sent = json!({(place.0): place.1, "attachment": attachment, "text": "Look!"});
        let ack = sender.done("send_file", sent).await;
        for heard in [receiver.next("receive_file").await, sender.next("receive_file").await] {
            assert_eq!((&heard["event"]["attachment"], &heard["event"]["text"]), (&file, &json!("Look!")));
            assert_eq!((&heard["event"]["id"], &heard["seq"]), (&ack["id"], &ack["seq"]));
        }
    }
    let path = file["url"].as_str().unwrap();
    assert!(ben.download(path, &[]).await.bytes == png);
    stranger.get(path).await.expect(404);
    assert_eq!(other.names_so_far().await, Vec::<String>::new());

    // A stranger sends it nowhere: it is not a member there, and the file is not its own.
    let there = json!({"group": group, "attachment": attachment});
    assert_eq!(other.emit("send_file", there).await["code"], "not_found");
    let elsewhere = json!({"to": ben.id(), "attachment": attachment});
    assert_eq!(other.emit("send_file", elsewhere).await["code"], "invalid");
    let nobodys = json!({"to": ben.id(), "attachment": {"id": "01980a8e-6c00-7001-8a3b-5d2f1c9e7a40"}});
    assert_eq!(sender.emit("send_file", nobodys).await["code"], "invalid");
    assert_eq!(sender.emit("send_file", json!({"to": ben.id()})).await["code"], "malformed");
    node.end().await;
}

async fn b2_10_a_stranger_hears_nothing_and_may_nothing(cluster: &Cluster) {
    let People { ada, ben, stranger } = people(cluster).await;
    let group = ada.create_group("rooks", &[&ben]).await;
    let first = ada.send(&group, "before").await;
    let node = Node::start().await;
    let positions = json!({"positions": {
        (group.clone()): {"epoch": ada.get(&format!("/v1/conversations/{group}")).await.expect(200)["position"]["epoch"], "seq": 0},
    }});
    let other = node.resume("eve", &stranger, &WEBSOCKET, positions).await;
    let resumed = other.next("resumed").await;
    assert_eq!((&resumed["complete"], &resumed["incomplete"][0]["reason"]), (&json!(false), &json!("not_found")));
    for (event, data) in [
        ("group_message", json!({"group": group, "text": "let me in"})),
        ("send_message", json!({"conversation": group, "text": "let me in"})),
        ("send_message", json!({"conversation": direct(&ada, &ben), "text": "let me in"})),
        ("join_group", json!({"group": group})),
    ] {
        assert_eq!(other.emit(event, data).await["code"], "not_found", "{event}");
    }
    let member = node.connect("ben", &ben, &WEBSOCKET).await;
    ada.send(&group, "secret").await;
    ada.send(&direct(&ada, &ben), "secret, too").await;
    assert_eq!(member.next("receive_message").await["event"]["text"], "secret, too");
    assert_eq!(other.names_so_far().await, Vec::<String>::new());
    assert_eq!(ada.texts(&group).await, ["before", "secret"], "{first}");
    node.end().await;
}

async fn b2_10_a_reconnect_resumes_without_a_hole(cluster: &Cluster) {
    let People { ada, ben, .. } = people(cluster).await;
    let group = ada.create_group("rooks", &[&ben]).await;
    let node = Node::start().await;
    for transports in [&WEBSOCKET[..], &POLLING] {
        let receiver = node.connect("ben", &ben, transports).await;
        ada.send(&group, "seen").await;
        let last = receiver.next("group_message").await;
        receiver.leave().await;
        let missed: Vec<String> = (0..200).map(|number| format!("missed {number}")).collect();
        for text in &missed {
            ada.send(&group, text).await;
        }
        // As a new client, at the other edge.
        let elsewhere = ben.at(&cluster.client());
        let receiver = node.resume("ben again", &elsewhere, transports, positions(&last)).await;
        let last = expect_texts(&receiver, &last, &missed).await;
        let resumed = receiver.next("resumed").await;
        assert_eq!(resumed["complete"], true, "{resumed}");
        ada.send(&group, "live").await;
        let last = expect_texts(&receiver, &last, &["live".to_owned()]).await;
        // As the same client, whose connection breaks off, from the opaque position.
        let mut auth = json!({"token": ben.token()});
        auth["position"] = receiver.done("position", json!({})).await["position"].clone();
        receiver.break_off(auth).await;
        let resumed = receiver.next("resumed").await;
        assert_eq!(resumed["complete"], true, "{resumed}");
        ada.send(&group, "again").await;
        expect_texts(&receiver, &last, &["again".to_owned()]).await;
        receiver.leave().await;
    }
    node.end().await;
}

/// The next messages are these, each right behind the one before; gives the last.
async fn expect_texts(socket: &Socket<'_>, last: &Value, texts: &[String]) -> Value {
    let mut before = last.clone();
    for text in texts {
        let frame = socket.next("group_message").await;
        assert_eq!((&frame["event"]["text"], &frame["prev"]), (&json!(text), &before["seq"]));
        before = frame;
    }
    before
}

async fn b2_10_who_is_not_let_in_is_told_why(cluster: &Cluster) {
    let ada = cluster.client().register("ada").await;
    let node = Node::start().await;
    for transports in [&WEBSOCKET[..], &POLLING] {
        for (auth, code) in [
            (json!({}), "unauthenticated: "),
            (json!({"token": "no token"}), "unauthenticated: "),
            (json!({"token": ada.token(), "position": "nonsense"}), "malformed: "),
        ] {
            let answer = node.try_connect("ada", &ada, transports, auth.clone()).await;
            assert_eq!(answer["connected"], false, "{auth}");
            assert!(answer["error"].as_str().unwrap().starts_with(code), "{auth}: {answer}");
        }
    }
    node.end().await;
}

async fn b2_10_a_removed_member_and_an_ended_session_are_cut_off(cluster: &Cluster) {
    let People { ada, ben, .. } = people(cluster).await;
    let group = ada.create_group("rooks", &[&ben]).await;
    let node = Node::start().await;
    let member = node.connect("ben", &ben, &WEBSOCKET).await;
    ada.delete(&format!("/v1/conversations/{group}/members/{}", ben.id())).await.expect(204);
    assert_eq!(member.next("removed").await["conversation"], *group);
    ada.send(&group, "without you").await;
    ada.send(&direct(&ada, &ben), "between us").await;
    assert_eq!(member.next("receive_message").await["event"]["text"], "between us");
    assert_eq!(member.emit("group_message", json!({"group": group, "text": "hey"})).await["code"], "not_found");
    assert_eq!(member.names_so_far().await, Vec::<String>::new());

    for transports in [&WEBSOCKET[..], &POLLING] {
        let session = ben.log_in(ben.username()).await;
        let signed_in = node.connect("ben elsewhere", &session, transports).await;
        signed_in.next("hello").await;
        session.post("/v1/auth/logout", json!({})).await.expect(204);
        let closing = signed_in.next("closing").await;
        assert_eq!((&closing["code"], &closing["reason"]), (&json!(4401), &json!("the session has ended")));
        assert_eq!(signed_in.ending().await, "io server disconnect");
        let again = json!({"token": session.token()});
        let answer = node.try_connect("ben", &session, transports, again).await;
        assert!(answer["error"].as_str().unwrap().starts_with("unauthenticated: "), "{answer}");
    }
    node.end().await;
}

async fn b2_10_a_resent_message_is_stored_once(cluster: &Cluster) {
    let People { ada, ben, .. } = people(cluster).await;
    let group = ada.create_group("rooks", &[&ben]).await;
    let node = Node::start().await;
    let sender = node.connect("ada", &ada, &WEBSOCKET).await;
    let first = sender.done("group_message", json!({"group": group, "text": "once"})).await;
    let again = json!({"group": group, "text": "once", "id": first["id"]});
    let second = sender.done("group_message", again).await;
    assert_eq!((&second["seq"], &second["duplicate"]), (&first["seq"], &json!(true)));
    let other = json!({"group": group, "text": "twice", "id": first["id"]});
    assert_eq!(sender.emit("group_message", other).await["code"], "id_taken");
    assert_eq!(ada.texts(&group).await, ["once"]);
    node.end().await;
}

async fn b2_10_a_client_that_does_not_read_is_cut_off_and_resumes(cluster: &Cluster) {
    let People { ada, ben, .. } = people(cluster).await;
    let group = ada.create_group("rooks", &[&ben]).await;
    let node = Node::start().await;
    let receiver = node.connect("ben", &ben, &WEBSOCKET).await;
    let mut sender = ada.connect().await;
    let mut before = sender.send_text(&group, "first").await["seq"].clone();
    receiver.next("group_message").await;
    receiver.stall(true).await;
    // 16 MB: more than the system's buffers, the library's queue and the outbox hold together.
    let (text, mut sent) = ("\u{1f426}".repeat(8_000), Vec::new());
    for _ in 0..500 {
        sender.send(&json!({"type": "send", "conversation": group, "text": text})).await;
        sent.push(sender.next_of("ack").await["seq"].clone());
    }
    receiver.stall(false).await;
    let mut heard = receiver.places_until_the_end("group_message").await;
    let closing = heard.pop().unwrap()["closing"].clone();
    assert_eq!((&closing["code"], &closing["resume"]), (&json!(4408), &json!(true)), "{closing}");
    assert!(heard.len() < sent.len(), "it was cut off before the end");
    let again = node.resume("ben again", &ben, &WEBSOCKET, positions(heard.last().unwrap())).await;
    for _ in heard.len()..sent.len() {
        heard.push(again.next("group_message").await);
    }
    for (frame, seq) in heard.iter().zip(&sent) {
        assert_eq!((&frame["prev"], &frame["seq"]), (&before, seq), "a chain without a hole");
        before = seq.clone();
    }
    assert_eq!(again.next("resumed").await["complete"], true);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b2_10_a_graceful_end_tells_clients_to_come_back() {
    let cluster = Cluster::all().await;
    let ada = cluster.client().register("ada").await;
    let node = Node::start().await;
    let group = ada.create_group("rooks", &[]).await;
    let (one, other) = (node.connect("one", &ada, &WEBSOCKET).await, node.connect("other", &ada, &POLLING).await);
    let last = one.done("group_message", json!({"group": group, "text": "last"})).await;
    let cluster = cluster.restart().await;
    let closing = one.next("closing").await;
    assert_eq!((&closing["code"], &closing["resume"]), (&json!(1001), &json!(true)), "{closing}");
    assert!(closing["after_ms"].is_u64(), "{closing}");
    assert_eq!(one.ending().await, "io server disconnect");
    // Whether it was told depends on whether it was asking just then; that it ends does not.
    other.ending().await;
    ada.at(&cluster.client()).send(&group, "missed").await;
    let again = node.resume("again", &ada.at(&cluster.client()), &WEBSOCKET, positions(&last)).await;
    assert_eq!(again.next("group_message").await["event"]["text"], "missed");
    node.end().await;
}
