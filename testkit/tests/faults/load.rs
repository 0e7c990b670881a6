//! Clients as they are in the field: senders that send again until they have an answer, and readers that resume.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::{Value, json};
use testkit::{Client, Socket};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use types::{EventId, Region};

/// How long a client waits for an answer before it goes to the other edge.
const ANSWER_WAIT: Duration = Duration::from_secs(6);
/// A client's pause before it tries again, and between its messages.
const PAUSE: Duration = Duration::from_millis(20);
/// How long anything may take to work again after a fault.
pub(crate) const RECOVERY: Duration = Duration::from_secs(90);

/// A message by its id, with its place.
pub(crate) type Places = BTreeMap<u64, String>;

/// Where the edges are now: one that was killed comes back at another port.
#[derive(Clone)]
pub(crate) struct Edges(Arc<Mutex<Vec<SocketAddr>>>);

impl Edges {
    pub(crate) fn new(addresses: Vec<SocketAddr>) -> Self {
        Self(Arc::new(Mutex::new(addresses)))
    }

    pub(crate) fn moved(&self, edge: usize, address: SocketAddr) {
        self.0.lock()[edge] = address;
    }

    /// `client` at an edge, counted round.
    pub(crate) fn client(&self, client: &Client, edge: usize) -> Client {
        let addresses = self.0.lock();
        client.at(&Client::new(addresses[edge % addresses.len()]))
    }
}

/// What all clients did and saw.
#[derive(Default)]
pub(crate) struct Ledger {
    /// By conversation: what was acked, and where the ack said it is.
    pub(crate) acked: Mutex<BTreeMap<String, Places>>,
    /// By reader and conversation: every event that came, of all kinds, in its place.
    pub(crate) seen: Mutex<BTreeMap<(usize, String), Places>>,
    pub(crate) acks: AtomicU64,
    /// Sends that were answered with 503.
    pub(crate) refusals: AtomicU64,
    /// Answers that never came.
    pub(crate) losses: AtomicU64,
    pub(crate) resumes: AtomicU64,
    /// Resumes that said they were not whole, and were made whole by reading events.
    pub(crate) partial_resumes: AtomicU64,
    sent: AtomicU64,
}

impl Ledger {
    /// Takes up an ack.
    pub(crate) fn ack(&self, conversation: &str, id: &str, seq: u64) {
        self.acks.fetch_add(1, Ordering::Relaxed);
        let mut acked = self.acked.lock();
        let twice = acked.entry(conversation.to_owned()).or_default().insert(seq, id.to_owned());
        assert!(twice.is_none_or(|other| other == id), "two messages were acked at {seq} of {conversation}");
    }

    /// Takes up an event that reader `reader` was given. It must be the next one of its conversation, or one that it
    /// has seen already, word for word.
    fn see(&self, reader: usize, frame: &Value) {
        let conversation = frame["conversation"].as_str().expect("an event has a conversation").to_owned();
        let (seq, prev) = (frame["seq"].as_u64().expect("a seq"), frame["prev"].as_u64().expect("a prev"));
        let id = frame["event"]["id"].as_str().expect("an event has an id");
        let mut seen = self.seen.lock();
        let events = seen.entry((reader, conversation)).or_default();
        if let Some(before) = events.get(&seq) {
            assert_eq!(before, id, "an event changed its place");
            return;
        }
        let last = events.last_key_value().map_or(0, |(last, _)| *last);
        assert!(prev == last || events.is_empty(), "reader {reader} has seen {last}, then comes {frame}");
        events.insert(seq, id.to_owned());
    }

    /// The same, but for an event that is not the next one.
    fn see_if_next(&self, reader: usize, frame: &Value) {
        let last = self.position(reader, frame["conversation"].as_str().expect("an event has a conversation"));
        if last == 0 || frame["prev"].as_u64().expect("a prev") <= last {
            self.see(reader, frame);
        }
    }

    fn position(&self, reader: usize, conversation: &str) -> u64 {
        let seen = self.seen.lock();
        seen.get(&(reader, conversation.to_owned()))
            .and_then(|events| events.last_key_value())
            .map_or(0, |(seq, _)| *seq)
    }
}

pub(crate) fn new_id() -> String {
    EventId::generate(Region::default()).to_string()
}

/// Clients under way.
pub(crate) struct Load {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) edges: Edges,
    pub(crate) users: Vec<Client>,
    pub(crate) conversations: Vec<String>,
    epoch: String,
    sending: CancellationToken,
    reading: CancellationToken,
    senders: JoinSet<()>,
    readers: JoinSet<()>,
}

impl Load {
    /// Every user sends into one conversation after the other and reads all of them.
    pub(crate) fn start(edges: Edges, users: Vec<Client>, conversations: Vec<String>, epoch: String) -> Self {
        let mut load = Self {
            ledger: Arc::default(),
            edges,
            users,
            conversations,
            epoch,
            sending: CancellationToken::new(),
            reading: CancellationToken::new(),
            senders: JoinSet::new(),
            readers: JoinSet::new(),
        };
        for number in 0..load.users.len() {
            let sender = load.sender(number);
            load.senders.spawn(sender.run(load.conversations.clone(), load.sending.clone()));
            let reader = load.reader(number);
            load.readers.spawn(reader.run(load.reading.clone()));
        }
        load
    }

    fn sender(&self, number: usize) -> Sender {
        Sender { ledger: self.ledger.clone(), edges: self.edges.clone(), client: self.users[number].clone(), number }
    }

    fn reader(&self, number: usize) -> Reader {
        Reader {
            ledger: self.ledger.clone(),
            edges: self.edges.clone(),
            client: self.users[number].clone(),
            number,
            conversations: self.conversations.clone(),
            epoch: self.epoch.clone(),
        }
    }

    /// Sends one message through each edge and waits until every reader has it: gives how long that took.
    pub(crate) async fn probe(&self) -> Duration {
        let began = Instant::now();
        let conversation = &self.conversations[0];
        let probes = (0..2).map(|edge| async move {
            let sender = self.sender(edge);
            timeout(RECOVERY, sender.send(conversation, edge)).await.expect("a message is taken again")
        });
        let last = join_all(probes).await.into_iter().max().unwrap_or_default();
        for reader in 0..self.users.len() {
            while self.ledger.position(reader, conversation) < last {
                assert!(began.elapsed() < RECOVERY, "reader {reader} does not see {last}");
                sleep(PAUSE).await;
            }
        }
        began.elapsed()
    }

    /// Sends a message of a user again until it is acked.
    pub(crate) async fn insist(&self, user: usize, conversation: &str, body: &Value) {
        timeout(RECOVERY, self.sender(user).insist(conversation, body, user)).await.expect("it is taken at last");
    }

    /// Ends the sending; every message that was begun is acked by then.
    pub(crate) async fn stop_sending(&mut self) {
        self.sending.cancel();
        let ended = timeout(RECOVERY, async {
            while let Some(ended) = self.senders.join_next().await {
                ended.expect("no sender fails");
            }
        });
        ended.await.expect("every message is acked at last");
    }

    /// Ends the reading.
    pub(crate) async fn stop_reading(&mut self) {
        self.reading.cancel();
        while let Some(ended) = self.readers.join_next().await {
            ended.expect("no reader fails");
        }
    }

    /// Fails when a client has failed.
    pub(crate) fn check_clients(&mut self) {
        for clients in [&mut self.senders, &mut self.readers] {
            if let Some(ended) = clients.try_join_next() {
                ended.expect("no client fails");
                panic!("a client has ended by itself");
            }
        }
    }
}

struct Sender {
    ledger: Arc<Ledger>,
    edges: Edges,
    client: Client,
    number: usize,
}

impl Sender {
    async fn run(self, conversations: Vec<String>, stop: CancellationToken) {
        let mut turn = self.number;
        while !stop.is_cancelled() {
            self.send(&conversations[turn % conversations.len()], turn).await;
            turn += 1;
            sleep(PAUSE).await;
        }
    }

    /// Sends a new message. Gives its place.
    async fn send(&self, conversation: &str, first_edge: usize) -> u64 {
        let text = format!("message {}", self.ledger.sent.fetch_add(1, Ordering::Relaxed));
        self.insist(conversation, &json!({"id": new_id(), "text": text}), first_edge).await
    }

    /// Sends a message, to one edge and the other, until it is acked. Gives its place.
    async fn insist(&self, conversation: &str, body: &Value, first_edge: usize) -> u64 {
        let id = body["id"].as_str().expect("a message has an id");
        let path = format!("/v1/conversations/{conversation}/messages");
        let mut edge = first_edge;
        loop {
            let client = self.edges.client(&self.client, edge);
            let answer = timeout(ANSWER_WAIT, client.post(&path, body.clone())).await;
            match answer.as_ref().map_or(0, |answer| answer.status) {
                200 | 201 => {
                    let message = answer.expect("it has a status").body;
                    let seq = message["seq"].as_u64().expect("a message has a seq");
                    assert_eq!(message["id"], id);
                    self.ledger.ack(conversation, id, seq);
                    return seq;
                }
                503 => {
                    let answer = answer.expect("it has a status");
                    assert!(answer.headers.contains_key("retry-after"), "a 503 says when to try again");
                    assert!(answer.body["code"].is_string(), "a 503 says why: {}", answer.text);
                    self.ledger.refusals.fetch_add(1, Ordering::Relaxed);
                }
                0 => {
                    self.ledger.losses.fetch_add(1, Ordering::Relaxed);
                    edge += 1;
                }
                status => panic!("a send was answered with {status}: {}", answer.expect("it has a status").text),
            }
            sleep(PAUSE).await;
        }
    }
}

struct Reader {
    ledger: Arc<Ledger>,
    edges: Edges,
    client: Client,
    number: usize,
    conversations: Vec<String>,
    epoch: String,
}

impl Reader {
    async fn run(self, stop: CancellationToken) {
        let mut edge = self.number;
        while !stop.is_cancelled() {
            if let Some(ended) = stop.run_until_cancelled(self.visit(edge)).await
                && !ended
            {
                self.fill_up(edge).await;
            }
            edge += 1;
            sleep(PAUSE).await;
        }
    }

    /// Resumes at an edge and reads until the socket ends. `false` when the resume was not whole.
    async fn visit(&self, edge: usize) -> bool {
        let client = self.edges.client(&self.client, edge);
        let opening = timeout(ANSWER_WAIT, Socket::try_open(client.address(), Some(client.token())));
        let Ok(Ok(mut socket)) = opening.await else { return true };
        let position = |conversation: &String| {
            let position = json!({"epoch": self.epoch, "seq": self.ledger.position(self.number, conversation)});
            (conversation.clone(), position)
        };
        let positions: serde_json::Map<String, Value> = self.conversations.iter().map(position).collect();
        self.ledger.resumes.fetch_add(1, Ordering::Relaxed);
        if socket.send_raw(json!({"type": "resume", "positions": positions}).to_string().into()).await.is_err() {
            return true;
        }
        // What comes before the server has heard of the resume comes again with it, in its place.
        let mut held = Some(Vec::new());
        loop {
            // A socket of a server that is gone without a word is given up, as a client's heartbeat does.
            let Some(frame) = socket.next_within(crate::SILENCE).await else { return true };
            match frame["type"].as_str() {
                Some("event") => match &mut held {
                    Some(held) => held.push(frame),
                    None => self.ledger.see(self.number, &frame),
                },
                Some("resumed") if frame["complete"] != true => return false,
                Some("resumed") => {
                    let held = held.take().unwrap_or_default();
                    held.iter().for_each(|frame| self.ledger.see_if_next(self.number, frame));
                }
                Some("broken" | "close") => return true,
                _ => {}
            }
        }
    }

    /// Reads what a resume could not give.
    async fn fill_up(&self, edge: usize) {
        self.ledger.partial_resumes.fetch_add(1, Ordering::Relaxed);
        let client = self.edges.client(&self.client, edge);
        for conversation in &self.conversations {
            let after_seq = self.ledger.position(self.number, conversation);
            let path = format!("/v1/conversations/{conversation}/events?after_seq={after_seq}&epoch={}", self.epoch);
            let Ok(answer) = timeout(ANSWER_WAIT, client.get(&path)).await else { return };
            if !answer.is(200) || answer.body["complete"] != true {
                return;
            }
            for frame in answer.body["items"].as_array().expect("a page has items") {
                self.ledger.see(self.number, frame);
            }
        }
    }
}
