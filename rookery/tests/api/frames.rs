//! The frames of a real WebSocket, held against `/asyncapi.json`: each is valid by its schema, and each that is
//! described comes.

use std::path::Path;

use serde_json::{Value, json};
use testkit::{Client, Socket, files};
use tokio::process::Command;

on_either_kind_of_store!(every_frame_is_as_described);

/// A socket that keeps every frame that it was given.
struct Tape {
    socket: Socket,
    frames: Vec<Value>,
    /// Those that came while another was waited for.
    passed: Vec<Value>,
}

impl Tape {
    async fn start(client: &Client) -> Self {
        let socket = client.connect().await;
        let frames = vec![socket.hello.clone()];
        Self { socket, frames, passed: Vec::new() }
    }

    /// The first frame like this that nobody waited for yet: those of different origins come in any order.
    async fn find(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        if let Some(index) = self.passed.iter().position(&is_it) {
            return self.passed.remove(index);
        }
        loop {
            let frame = self.socket.next().await;
            assert!(
                frame["type"] != "close" && frame["type"] != "broken",
                "it ended with {frame} after {:?}",
                self.passed
            );
            self.frames.push(frame.clone());
            if is_it(&frame) {
                return frame;
            }
            self.passed.push(frame);
        }
    }

    /// A frame of this type that also has these fields.
    async fn next(&mut self, kind: &str, fields: &[(&str, &Value)]) -> Value {
        self.find(|frame| frame["type"] == kind && fields.iter().all(|(name, value)| frame[name] == **value)).await
    }

    async fn event(&mut self, kind: &str) -> Value {
        self.find(|frame| frame["type"] == "event" && frame["event"]["kind"] == kind).await
    }

    /// Sends a frame and gives its answer.
    async fn ask(&mut self, mut frame: Value, answer: &str) -> Value {
        frame["ref"] = json!("r");
        self.socket.send(&frame).await;
        self.next(answer, &[("ref", &json!("r"))]).await
    }
}

/// Messages of each kind, an edit, a deletion, and what a conversation tells of itself.
async fn a_group_is_talked_in(ada: &Client, ben: &Client, of_ada: &mut Tape) -> String {
    let group = ada.create_group("rooks", &[ben]).await;
    of_ada.event("member_added").await;
    let first = of_ada.ask(json!({"type": "send", "conversation": group, "text": "one"}), "ack").await;
    let file = ada.upload("dot.png", "image/png", files::png(1, 1)).await.expect(201);
    for content in [
        json!({"text": "two", "reply_to": first["id"], "mentions": [ben.id()]}),
        json!({"image": {"url": "https://example.org/cat.png", "width": 640, "height": 480}}),
        json!({"video": {"url": "https://www.youtube.com/watch?v=1", "length_seconds": 212}}),
        json!({"attachment": {"id": file["id"]}}),
    ] {
        let mut frame = content;
        (frame["type"], frame["conversation"]) = (json!("send"), json!(group));
        of_ada.ask(frame, "ack").await;
    }
    let imported = json!({"text": "long ago", "sent_at": "2019-05-01T12:00:00Z"});
    ada.post(&format!("/v1/conversations/{group}/messages"), imported).await.expect(201);
    let message = &first["id"];
    of_ada.ask(json!({"type": "edit", "conversation": group, "message": message, "text": "1"}), "ack").await;
    of_ada.ask(json!({"type": "delete", "conversation": group, "message": message}), "ack").await;
    ada.patch(&format!("/v1/conversations/{group}"), json!({"name": "ravens"})).await.expect(200);
    of_ada.event("group_updated").await;
    group
}

/// What passes between the two users of a direct conversation, and between the devices of one. Ben leaves at the end.
async fn two_see_what_the_other_does(ada: &Client, ben: &Client, of_ada: &mut Tape) -> Vec<Value> {
    let (mut of_ben, mut second) = (Tape::start(ben).await, Tape::start(ben).await);
    let sent = ada.send(&format!("@{}", ben.id()), "hello").await;
    let (conversation, seq) = (&sent["conversation"], &sent["seq"]);
    of_ben.next("event", &[("seq", seq), ("conversation", conversation)]).await;
    of_ben.socket.send(&json!({"type": "typing", "conversation": conversation})).await;
    of_ada.next("typing", &[]).await;
    of_ben.socket.send(&json!({"type": "delivered", "conversation": conversation, "seq": seq})).await;
    of_ada.next("delivered", &[]).await;
    of_ben.ask(json!({"type": "read", "conversation": conversation, "seq": seq}), "ack").await;
    of_ada.next("read", &[("user", &json!(ben.id()))]).await;
    second.next("read", &[]).await;
    of_ben.frames.append(&mut second.frames);
    second.socket.close().await;
    of_ada.ask(json!({"type": "watch", "users": [ben.id()]}), "ack").await;
    of_ada.next("presence", &[("status", &json!("online"))]).await;
    of_ben.socket.close().await;
    of_ada.next("presence", &[("status", &json!("offline"))]).await;
    of_ben.frames
}

/// Both ways to resume, and how it is told that one is not whole.
async fn one_resumes(group: &str, tape: &mut Tape) {
    let place = loop {
        let pong = tape.ask(json!({"type": "ping"}), "pong").await;
        if let Some(place) = pong.get("resume") {
            break place.clone();
        }
    };
    tape.ask(json!({"type": "resume", "position": place}), "resumed").await;
    let other = json!({group: {"epoch": "ffffffff", "seq": 1}});
    assert_eq!(tape.ask(json!({"type": "resume", "positions": other}), "resumed").await["complete"], false);
    assert_eq!(tape.ask(json!({"type": "nonsense"}), "error").await["code"], "unknown_type");
}

async fn every_frame_is_as_described(client: &Client) {
    // The first user of a system is its operator.
    let ada = client.register("ada").await;
    let roles = json!({"roles": ["operator", "import"]});
    ada.put(&format!("/v1/users/{}/roles", ada.id()), roles).await.expect(200);
    let ada = client.log_in(ada.username()).await;
    let ben = client.register("ben").await;
    let mut of_ada = Tape::start(&ada).await;
    let group = a_group_is_talked_in(&ada, &ben, &mut of_ada).await;
    let mut of_both = two_see_what_the_other_does(&ada, &ben, &mut of_ada).await;
    one_resumes(&group, &mut of_ada).await;
    let mut of_ben = Tape::start(&ben).await;
    ada.delete(&format!("/v1/conversations/{group}/members/{}", ben.id())).await.expect(204);
    of_ada.event("member_removed").await;
    of_ada.next("unwatched", &[]).await;
    of_ben.next("removed", &[]).await;

    let folder = tempfile::tempdir().unwrap();
    let (document, frames) = (folder.path().join("asyncapi.json"), folder.path().join("frames"));
    std::fs::write(&document, client.get("/asyncapi.json").await.expect(200).to_string()).unwrap();
    of_both.extend(of_ada.frames.into_iter().chain(of_ben.frames));
    let lines: Vec<String> = of_both.iter().map(Value::to_string).collect();
    std::fs::write(&frames, lines.join("\n")).unwrap();
    let python = super::description::schemathesis().await.with_file_name("python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/frames.py");
    let said = super::succeed(Command::new(python).arg(script).arg(document).arg(frames)).await;
    assert!(said.contains("frames are as described"), "{said}");
}
