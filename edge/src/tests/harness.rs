//! A whole edge in a test, and a client that speaks to it. What ingest and the analytics worker do happens when a
//! test says so, with `App::ingest`, so that nothing depends on time.

use std::collections::HashMap;
use std::sync::Arc;

use ::analytics::{Fact, Range};
use ::log::{Append, Consumer, Log};
use axum::Router;
use axum::body::Body;
use directory::{Answer, Command, Directory};
use history::History;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use types::{Body as Said, Entry, Event, Region, Timestamp};

use crate::config::{Config, PasswordConfig};
use crate::{Edge, Seams, router};

/// A password that may be used.
pub(crate) const PASSWORD: &str = "correct horse";

/// The longest list that is read whole, in pages.
const MAX_PAGES: usize = 20;

/// An edge.
pub(crate) struct App {
    pub(crate) edge: Arc<Edge>,
    pub(crate) log: Arc<dyn Log>,
    router: Router,
    /// How far each shard was ingested.
    ingested: tokio::sync::Mutex<HashMap<u16, u64>>,
    _data: TempDir,
}

/// The default configuration, with passwords that cost little.
pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.auth.password = PasswordConfig { memory_kib: 64, iterations: 1, ..PasswordConfig::default() };
    config.limits.sign_ins_per_minute_per_address = 1_000;
    config
}

/// Stores in a folder of their own.
pub(crate) async fn seams(data: &TempDir) -> Seams {
    seams_over(data, |directory| directory).await
}

/// How a test lays a double over the directory.
type Lay = fn(Arc<dyn Directory>) -> Arc<dyn Directory>;

async fn seams_over(data: &TempDir, lay: Lay) -> Seams {
    let region = Region::default();
    let log = ::log::open(&::log::Config::default(), data.path(), region).await.unwrap();
    let directory = lay(directory::open(&directory::Config::default(), data.path()).await.unwrap());
    tokio::spawn(serve_directory(Arc::clone(&log), Arc::clone(&directory)));
    Seams {
        history: history::open(&history::Config::default(), data.path()).await.unwrap(),
        analytics: ::analytics::open(&::analytics::Config::default(), data.path()).await.unwrap(),
        blobs: blobs::open(&blobs::Config::default(), data.path()).await.unwrap(),
        log,
        directory,
        metrics: None,
    }
}

/// Does what the directory service does, one command after the other.
async fn serve_directory(log: Arc<dyn Log>, directory: Arc<dyn Directory>) {
    let mut requests = log.serve(directory::SERVICE).await.unwrap();
    while let Some(request) = requests.next().await {
        let command: Command = serde_json::from_slice(&request.payload).unwrap();
        let done = directory.execute(&command).await.unwrap();
        let version = directory.version().await.unwrap();
        let answer = match done {
            Ok(outcome) => Answer::Done { outcome, version },
            Err(refusal) => Answer::Refused { refusal, version },
        };
        for row in directory.outbox(0, 1_000).await.unwrap() {
            let append = Append { conversation: row.conversation, id: row.id, payload: row.payload, trace: None };
            log.append(append).await.unwrap().await.unwrap();
            directory.relayed(&[row.id]).await.unwrap();
        }
        request.answer(answer.encode());
    }
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The body as JSON; `null` when it is empty.
    pub(crate) fn json(&self) -> Value {
        if self.body.is_empty() { Value::Null } else { serde_json::from_slice(&self.body).unwrap() }
    }

    /// The JSON of an answer that must have this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status.as_u16(), status, "{body}");
        if status >= 400 {
            assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{body}");
        }
        self.json()
    }

    /// The code of a refusal that must have this status.
    #[track_caller]
    pub(crate) fn refusal(&self, status: u16) -> String {
        self.expect(status)["code"].as_str().unwrap().to_owned()
    }
}

/// A logged-in user.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) token: String,
    pub(crate) refresh_token: String,
}

impl From<Value> for Person {
    fn from(session: Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self {
            id: text(&session["user"]["id"]),
            token: text(&session["access_token"]),
            refresh_token: text(&session["refresh_token"]),
        }
    }
}

impl App {
    pub(crate) async fn start() -> Self {
        Self::start_with(config()).await
    }

    pub(crate) async fn start_with(config: Config) -> Self {
        let data = tempfile::tempdir().unwrap();
        let seams = seams(&data).await;
        Self::open(config, seams, data).await
    }

    /// With something laid over the directory.
    pub(crate) async fn start_over(lay: Lay) -> Self {
        let data = tempfile::tempdir().unwrap();
        let seams = seams_over(&data, lay).await;
        Self::open(config(), seams, data).await
    }

    /// On another history.
    pub(crate) async fn start_on(history: Arc<dyn History>) -> Self {
        let data = tempfile::tempdir().unwrap();
        let seams = Seams { history, ..seams(&data).await };
        Self::open(config(), seams, data).await
    }

    async fn open(config: Config, seams: Seams, data: TempDir) -> Self {
        let log = Arc::clone(&seams.log);
        let edge = Edge::open(config, seams, data.path(), CancellationToken::new()).await.unwrap();
        let router = router::router(Arc::clone(&edge)).unwrap();
        Self { edge, log, router, ingested: tokio::sync::Mutex::default(), _data: data }
    }

    /// What serves its requests.
    pub(crate) fn router(&self) -> Router {
        self.router.clone()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Reply { status: parts.status, headers: parts.headers, body }
    }

    /// Registers a user with this name.
    pub(crate) async fn register(&self, username: &str) -> Person {
        let body = json!({"username": username, "email": format!("{username}@example.org"), "password": PASSWORD});
        self.call(Method::POST, "/v1/auth/register", None, Some(body)).await.expect(201).into()
    }

    pub(crate) async fn login(&self, login: &str, password: &str) -> Reply {
        let body = json!({"login": login, "password": password});
        self.call(Method::POST, "/v1/auth/login", None, Some(body)).await
    }

    pub(crate) async fn get(&self, person: &Person, path: &str) -> Reply {
        self.call(Method::GET, path, Some(person), None).await
    }

    pub(crate) async fn post(&self, person: &Person, path: &str, body: Value) -> Reply {
        self.call(Method::POST, path, Some(person), Some(body)).await
    }

    pub(crate) async fn put(&self, person: &Person, path: &str, body: Value) -> Reply {
        self.call(Method::PUT, path, Some(person), Some(body)).await
    }

    pub(crate) async fn patch(&self, person: &Person, path: &str, body: Value) -> Reply {
        self.call(Method::PATCH, path, Some(person), Some(body)).await
    }

    pub(crate) async fn delete(&self, person: &Person, path: &str) -> Reply {
        self.call(Method::DELETE, path, Some(person), None).await
    }

    pub(crate) async fn call(&self, method: Method, path: &str, person: Option<&Person>, body: Option<Value>) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(person) = person {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", person.token));
        }
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    /// A group of the first of these people, with the others in it.
    pub(crate) async fn group(&self, name: &str, people: &[&Person]) -> String {
        let others: Vec<&str> = people[1..].iter().map(|person| person.id.as_str()).collect();
        let body = json!({"kind": "group", "name": name, "members": others});
        let group = self.post(people[0], "/v1/conversations", body).await.expect(201);
        group["id"].as_str().unwrap().to_owned()
    }

    /// Sends a text and gives the message. What is sent next bears a later time.
    pub(crate) async fn say(&self, person: &Person, conversation: &str, text: &str) -> Value {
        let path = format!("/v1/conversations/{conversation}/messages");
        let sent = self.post(person, &path, json!({"text": text})).await.expect(201);
        let at: Timestamp = sent["created_at"].as_str().unwrap().parse().unwrap();
        while Timestamp::now() <= at {
            tokio::task::yield_now().await;
        }
        sent
    }

    /// The texts at `field` of a whole list, page by page. `path` has a query.
    pub(crate) async fn pages(&self, person: &Person, path: &str, field: &str) -> Vec<String> {
        let mut read = Vec::new();
        let mut page = self.get(person, path).await.expect(200);
        for _ in 0..MAX_PAGES {
            read.extend(texts(&page, field));
            let Some(next) = page["next"].as_str() else { return read };
            page = self.get(person, &format!("{path}&cursor={next}")).await.expect(200);
        }
        panic!("{path} has no end");
    }

    /// Brings history and analytics up to the end of the log.
    pub(crate) async fn ingest(&self) {
        let mut ingested = self.ingested.lock().await;
        for shard in 0..self.log.layout().shards {
            let after_seq = ingested.get(&shard).copied().unwrap_or_default();
            let through_seq = self.ingest_shard(shard, after_seq).await;
            ingested.insert(shard, through_seq);
        }
    }

    async fn ingest_shard(&self, shard: u16, after_seq: u64) -> u64 {
        let log = &self.log;
        let consumer = Consumer { group: "test", shard };
        if log.lag(consumer).await.unwrap().events == 0 {
            return after_seq;
        }
        let entries = log.fetch(consumer, 10_000).await.unwrap();
        let through_seq = entries.last().unwrap().position.seq;
        self.edge.history.store(&entries).await.unwrap();
        let facts: Vec<Fact> = entries.iter().filter_map(fact).collect();
        self.edge.analytics.record(Range { shard, after_seq, through_seq, facts: &facts }).await.unwrap();
        log.ack(consumer, through_seq).await.unwrap();
        through_seq
    }
}

fn fact(entry: &Entry) -> Option<Fact> {
    let event = Event::decode(&entry.payload).unwrap();
    let Said::Message(_) = event.body else { return None };
    Some(Fact {
        seq: entry.position.seq,
        at: entry.at,
        region: event.sender.region(),
        conversation: entry.conversation,
        sender: event.sender,
    })
}

/// The same JSON on every run: ids are numbered as they come, times, tokens and epochs are left out.
pub(crate) fn stable(value: &Value) -> Value {
    let mut ids = Vec::new();
    scrub(value, &mut ids)
}

fn scrub(value: &Value, ids: &mut Vec<String>) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| scrub(item, ids)).collect(),
        Value::Object(fields) => in_order(fields)
            .map(|(name, value)| match (name.as_str(), value) {
                ("access_token" | "refresh_token" | "epoch" | "next", Value::String(_)) => {
                    (name.clone(), format!("<{name}>").into())
                }
                ("seq", Value::Number(seq)) if seq.as_u64() > Some(0) => (name.clone(), "<seq>".into()),
                _ => (name.clone(), scrub(value, ids)),
            })
            .collect(),
        Value::String(text) => scrub_text(text, ids).into(),
        other => other.clone(),
    }
}

/// The fields by name: in which order a map keeps them depends on what else is in the build.
fn in_order(fields: &serde_json::Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    fields.iter().collect::<std::collections::BTreeMap<_, _>>().into_iter()
}

/// The same JSON with the fields of every object by name.
pub(crate) fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Object(fields) => in_order(fields).map(|(name, value)| (name.clone(), sorted(value))).collect(),
        other => other.clone(),
    }
}

fn scrub_text(text: &str, ids: &mut Vec<String>) -> String {
    if text.parse::<Timestamp>().is_ok() {
        return "<time>".into();
    }
    if let Some((one, other)) = text.split_once('~') {
        return format!("{}~{}", scrub_text(one, ids), scrub_text(other, ids));
    }
    if text.parse::<types::EventId>().is_err() {
        return text.to_owned();
    }
    let number = ids.iter().position(|id| id == text).unwrap_or_else(|| {
        ids.push(text.to_owned());
        ids.len() - 1
    });
    format!("<id {}>", number + 1)
}

/// The texts at `field` of the items of a list.
pub(crate) fn texts(list: &Value, field: &str) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item[field].as_str().unwrap().to_owned()).collect()
}
