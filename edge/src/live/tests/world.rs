//! A whole edge on a port of its own, and clients that connect to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use directory::{Command, Directory, NewSession, NewUser, SecretHash};
use futures_util::{SinkExt, StreamExt};
use history::History;
use http::header;
use log::{Append, Consumer, Log, Topic};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use types::{Body, ConversationId, Event, EventId, GroupId, Notice, Region, SessionId, Timestamp, UserId};

use super::racing::Racing;
use crate::config::Config;
use crate::{Edge, Seams, router, server};

/// Nothing in a test takes so long unless it never happens.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// An edge with its stores.
pub(super) struct World {
    pub(super) edge: Arc<Edge>,
    pub(super) address: SocketAddr,
    pub(super) log: Arc<dyn Log>,
    pub(super) directory: Arc<dyn Directory>,
    pub(super) shutdown: CancellationToken,
    pub(super) served: tokio::task::JoinHandle<()>,
    ingesting: watch::Sender<bool>,
    _data: TempDir,
}

/// A logged-in user.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) id: UserId,
    pub(super) session: SessionId,
    pub(super) token: String,
}

/// The default configuration, without limits on rates.
pub(super) fn config() -> Config {
    let mut config = Config::default();
    config.limits.requests_per_second_per_user = 1_000_000;
    config.limits.request_burst_per_user = 1_000_000;
    config.limits.requests_per_second_per_address = 1_000_000;
    config.limits.request_burst_per_address = 1_000_000;
    config
}

impl World {
    pub(super) async fn start() -> Self {
        Self::start_with(config()).await
    }

    pub(super) async fn start_with(config: Config) -> Self {
        Self::start_over(config, |log| log).await
    }

    /// One whose log can be made to race.
    pub(super) async fn start_racing() -> (Arc<Self>, Arc<Racing>) {
        let mut racing = None;
        let world = Self::start_over(config(), |log| racing.insert(Arc::new(Racing::over(log))).clone()).await;
        (Arc::new(world), racing.unwrap())
    }

    async fn start_over(config: Config, over: impl FnOnce(Arc<dyn Log>) -> Arc<dyn Log>) -> Self {
        let data = tempfile::tempdir().unwrap();
        let log = over(log::open(&log::Config::default(), data.path(), Region::default()).await.unwrap());
        let directory = directory::open(&directory::Config::default(), data.path()).await.unwrap();
        let history = history::open(&history::Config::default(), data.path()).await.unwrap();
        let shutdown = CancellationToken::new();
        let seams = Seams {
            log: log.clone(),
            directory: directory.clone(),
            history: history.clone(),
            analytics: analytics::open(&analytics::Config::default(), data.path()).await.unwrap(),
            blobs: blobs::open(&blobs::Config::default(), data.path()).await.unwrap(),
            metrics: None,
        };
        let edge = Edge::open(config, seams, data.path(), shutdown.clone()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = router::router(edge.clone()).unwrap();
        let serving = edge.clone();
        let served = tokio::spawn(async move { server::serve(router, &serving, listener).await });
        let (ingesting, is_on) = watch::channel(true);
        tokio::spawn(ingest(log.clone(), history, is_on));
        Self { edge, address, log, directory, shutdown, served, ingesting, _data: data }
    }

    /// Stops, or goes on with, storing events in history.
    pub(super) fn set_ingesting(&self, is_on: bool) {
        self.ingesting.send_replace(is_on);
    }

    pub(super) async fn person(&self, name: &str) -> Person {
        let (id, at) = (UserId::generate(Region::default()), Timestamp::now());
        let session = NewSession {
            id: SessionId::generate(Region::default()),
            user: id,
            refresh_hash: SecretHash([7; 32]),
            client: "test".into(),
            expires_at: at.plus(Duration::from_secs(3600)),
            at,
            verified: None,
        };
        let user = NewUser {
            id,
            username: name.into(),
            name: name.into(),
            email: format!("{name}@example.org"),
            password_hash: String::new(),
            at,
        };
        let session_id = session.id;
        let command = Command::Register { user, session: Some(session) };
        let outcome = self.directory.execute(&command).await.unwrap().unwrap();
        let token = self.edge.tokens.issue(&outcome.user.unwrap(), session_id).unwrap();
        Person { id, session: session_id, token }
    }

    /// Carries out a command and tells everybody, as the directory service does.
    pub(super) async fn command(&self, command: &Command) {
        let outcome = self.directory.execute(command).await.unwrap().unwrap();
        for row in outcome.events {
            let append =
                Append { conversation: row.conversation, id: row.id, payload: row.payload.clone(), trace: None };
            let appended = self.log.append(append).await.unwrap().await.unwrap();
            let ConversationId::Group(group) = row.conversation else { continue };
            let (user, notice) = match Event::decode(&row.payload).unwrap().body {
                Body::MemberAdded { user } => (user, Notice::MemberAdded { group, user, seq: appended.position.seq }),
                Body::MemberRemoved { user } => (user, Notice::MemberRemoved { group, user }),
                _ => continue,
            };
            self.log.notify(Topic::User(user), notice.encode()).await.unwrap();
            self.log.notify(Topic::Directory, notice.encode()).await.unwrap();
        }
    }

    pub(super) async fn group(&self, owner: &Person, members: &[&Person]) -> ConversationId {
        let group = GroupId::generate(Region::default());
        let members = members.iter().map(|member| member.id).collect();
        let name = "group".to_owned();
        self.command(&Command::CreateGroup { group, name, owner: owner.id, members, at: Timestamp::now() }).await;
        group.into()
    }

    pub(super) async fn add(&self, conversation: ConversationId, owner: &Person, user: &Person) {
        let group = group_of(conversation);
        self.command(&Command::AddMembers { group, by: owner.id, users: vec![user.id], at: Timestamp::now() }).await;
    }

    pub(super) async fn remove(&self, conversation: ConversationId, owner: &Person, user: &Person) {
        let group = group_of(conversation);
        self.command(&Command::RemoveMember { group, by: owner.id, user: user.id, at: Timestamp::now() }).await;
    }

    /// Sends a message past all clients and gives its `seq`.
    pub(super) async fn say(&self, sender: &Person, conversation: ConversationId, text: &str) -> u64 {
        let draft = crate::posting::Draft {
            id: None,
            content: types::Content { text: text.into(), ..types::Content::default() },
            attachment: None,
        };
        self.edge.posting.send(sender.id, conversation, draft).await.unwrap().message.seq
    }

    /// Sends the numbers up to `count`, in turn to these rooms.
    pub(super) async fn count(&self, sender: &Person, rooms: &[ConversationId], count: usize) {
        for index in 0..count {
            self.say(sender, rooms[index % rooms.len()], &index.to_string()).await;
        }
    }

    /// A client that has been greeted.
    pub(super) async fn connect(&self, person: &Person) -> Client {
        let mut client = self.open(person).await;
        client.hello = client.next().await;
        assert_eq!(client.hello["type"], "hello", "{}", client.hello);
        client
    }

    /// A client that has read nothing yet.
    pub(super) async fn open(&self, person: &Person) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        self.open_on(stream, person).await
    }

    /// A client whose system takes few bytes that it does not read.
    pub(super) async fn open_narrow(&self, person: &Person) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let stream = socket.connect(self.address).await.unwrap();
        self.open_on(stream, person).await
    }

    async fn open_on(&self, stream: TcpStream, person: &Person) -> Client {
        stream.set_nodelay(true).unwrap();
        let mut request = format!("ws://{}/v1/ws", self.address).into_client_request().unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, format!("Bearer {}", person.token).parse().unwrap());
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        Client { socket, hello: Value::Null }
    }

    /// The JSON of an answer to `GET`, with its status.
    pub(super) async fn get(&self, person: &Person, path: &str) -> (u16, Value) {
        let request = http::Request::get(path)
            .header(header::AUTHORIZATION, format!("Bearer {}", person.token))
            .body(axum::body::Body::empty())
            .unwrap();
        let router = router::router(self.edge.clone()).unwrap();
        let response = tokio::time::timeout(PATIENCE * 4, router.oneshot(request)).await.unwrap().unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Does what ingest does, while it is on.
async fn ingest(log: Arc<dyn Log>, history: Arc<dyn History>, mut is_on: watch::Receiver<bool>) {
    let consumer = Consumer { group: "ingest", shard: 0 };
    while is_on.wait_for(|is_on| *is_on).await.is_ok() {
        let Ok(entries) = log.fetch(consumer, 500).await else { return };
        if is_on.wait_for(|is_on| *is_on).await.is_err() {
            return;
        }
        history.store(&entries).await.unwrap();
        log.ack(consumer, entries.last().unwrap().position.seq).await.unwrap();
    }
}

pub(super) fn group_of(conversation: ConversationId) -> GroupId {
    let ConversationId::Group(group) = conversation else { panic!("{conversation} is no group") };
    group
}

/// A client.
pub(super) struct Client {
    pub(super) socket: WebSocketStream<TcpStream>,
    pub(super) hello: Value,
}

impl Client {
    /// The next frame's JSON.
    pub(super) async fn next(&mut self) -> Value {
        loop {
            match self.message().await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("instead of a frame came {other:?}"),
            }
        }
    }

    pub(super) async fn message(&mut self) -> Option<Result<Message, WsError>> {
        tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("nothing came")
    }

    /// The next frame that is an event of this conversation.
    pub(super) async fn event(&mut self, conversation: ConversationId) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"] == "event" && frame["conversation"] == conversation.to_string() {
                return frame;
            }
        }
    }

    /// The events of this conversation up to the message with this text.
    pub(super) async fn events_until(&mut self, conversation: ConversationId, text: &str) -> Vec<Value> {
        let mut events = vec![self.event(conversation).await];
        while events.last().unwrap()["event"]["text"] != text {
            events.push(self.event(conversation).await);
        }
        events
    }

    /// The next frame of this type.
    pub(super) async fn of_type(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    pub(super) async fn send(&mut self, frame: &Value) {
        self.text(&frame.to_string()).await;
    }

    pub(super) async fn text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Sends a frame and gives its answer; events that come before it are dropped.
    pub(super) async fn ask(&mut self, mut frame: Value) -> Value {
        let reference = EventId::generate(Region::default()).to_string();
        frame["ref"] = json!(reference);
        self.send(&frame).await;
        loop {
            let answer = self.next().await;
            if answer["ref"] == json!(reference) {
                return answer;
            }
        }
    }

    /// Everything that came before an answer that is sure to come after it.
    pub(super) async fn all_so_far(&mut self) -> Vec<Value> {
        let reference = EventId::generate(Region::default()).to_string();
        self.send(&json!({"type": "ping", "ref": reference})).await;
        let mut frames = Vec::new();
        loop {
            let frame = self.next().await;
            if frame["type"] == "pong" && frame["ref"] == json!(reference) {
                return frames;
            }
            frames.push(frame);
        }
    }

    /// Reads until the server closes; the code, the reason, and the frames that came before.
    pub(super) async fn closed(&mut self) -> (u16, String, Vec<Value>) {
        let mut frames = Vec::new();
        loop {
            match self.message().await {
                Some(Ok(Message::Text(text))) => frames.push(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(Some(close)))) => return (close.code.into(), close.reason.to_string(), frames),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("instead of a close frame came {other:?}"),
            }
        }
    }
}

/// The texts of messages in frames.
pub(super) fn texts(frames: &[Value]) -> Vec<&str> {
    frames.iter().filter_map(|frame| frame["event"]["text"].as_str()).collect()
}

/// Whether each frame's `prev` is the `seq` before it.
#[track_caller]
pub(super) fn assert_chained(frames: &[Value]) {
    for pair in frames.windows(2) {
        assert_eq!(pair[1]["prev"], pair[0]["seq"], "{pair:?}");
    }
}
