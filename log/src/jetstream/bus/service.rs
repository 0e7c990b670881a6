//! The side that serves.
//!
//! A service has a connection of its own, on which it can leave without losing a request: it ends its subscription,
//! and hands back what the server has sent before it knew. A client library that forgets a subscription as soon as
//! it is ended drops those, and whoever asked waits in vain.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, HeaderMap};
use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use types::{EventId, Timestamp};

use super::{ERROR, ERROR_CODE, GONE, NO_ANSWER};
use crate::jetstream::connection::{Address, unavailable};
use crate::jetstream::link::Link;
use crate::jetstream::names::Names;
use crate::jetstream::wire::{self, Heard, Op};
use crate::{Error, Request, Requests, Result};

/// Requests to one service in one process that wait for it.
const QUEUE: usize = 1_024;
/// Requests that wait for its answer besides.
const UNANSWERED: usize = 4_096;
/// How long an answer is waited for: nobody who asked waits longer.
const ANSWERING: Duration = Duration::from_secs(60);
/// How long leaving may take.
const LEAVING: Duration = Duration::from_secs(2);
/// How often the server is asked whether it lives.
const PING: Duration = Duration::from_secs(5);
/// How long it may be silent.
const DEAD: Duration = Duration::from_secs(12);
/// The pause before the next attempt to connect.
const PAUSE: Duration = Duration::from_millis(250);
/// Those who serve the same share its requests.
const QUEUE_GROUP: &str = "q";
/// The subscription of the requests.
const REQUESTS: u64 = 1;
/// What a service is asked about itself, each by a subscription to all services, to those of its name, and to it.
const VERBS: [&str; 3] = ["PING", "INFO", "STATS"];

/// What serving needs.
pub(in crate::jetstream) struct Service {
    pub(in crate::jetstream) client: Client,
    pub(in crate::jetstream) address: Address,
    pub(in crate::jetstream) names: Arc<Names>,
    pub(in crate::jetstream) service: &'static str,
    pub(in crate::jetstream) stop: CancellationToken,
}

/// A service while it runs.
struct Serving {
    about: Service,
    id: String,
    started: Timestamp,
    sender: mpsc::Sender<Request>,
    room: Arc<Semaphore>,
    counts: Arc<Counts>,
    out: BytesMut,
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    errors: AtomicU64,
    nanos: AtomicU64,
}

/// See [`crate::Log::serve`].
pub(in crate::jetstream) async fn serve(about: Service) -> Result<Requests> {
    let (sender, queue) = mpsc::channel(QUEUE);
    let mut serving = Serving {
        id: EventId::generate(about.names.region).to_string(),
        started: Timestamp::now(),
        about,
        sender,
        room: Arc::new(Semaphore::new(UNANSWERED)),
        counts: Arc::default(),
        out: BytesMut::new(),
    };
    let link = serving.connect(0).await?;
    drop(tokio::spawn(async move { serving.run(link).await }));
    Ok(Requests { queue })
}

impl Serving {
    /// Connects; on return the server knows that this is served here.
    async fn connect(&mut self, attempt: usize) -> Result<Link> {
        let servers = &self.about.address.servers;
        let server = &servers[attempt % servers.len()];
        let mut link = Link::open(server, &self.about.address, "rookery service").await?;
        let (names, service) = (&self.about.names, self.about.service);
        self.out.clear();
        wire::queue_subscribe(&mut self.out, &names.service(service), QUEUE_GROUP, REQUESTS);
        let name = names.service_name(service);
        let mut sid = REQUESTS;
        for verb in VERBS {
            for subject in
                [format!("$SRV.{verb}"), format!("$SRV.{verb}.{name}"), format!("$SRV.{verb}.{name}.{}", self.id)]
            {
                sid += 1;
                wire::subscribe(&mut self.out, &subject, sid);
            }
        }
        wire::ping(&mut self.out);
        link.write(&self.out.split()).await?;
        self.until_pong(&mut link, false).await?;
        Ok(link)
    }

    async fn run(&mut self, mut link: Link) {
        let mut attempt = 0;
        loop {
            match self.follow(&mut link).await {
                Ok(()) => break,
                Err(error) => tracing::warn!(service = self.about.service, %error, "a service has lost its connection"),
            }
            let Some(again) = self.connect_again(&mut attempt).await else { return };
            link = again;
        }
        wire::unsubscribe(&mut self.out, REQUESTS);
        wire::ping(&mut self.out);
        let leaving = async {
            link.write(&self.out.split()).await?;
            self.until_pong(&mut link, true).await
        };
        if !matches!(timeout(LEAVING, leaving).await, Ok(Ok(()))) {
            tracing::debug!(service = self.about.service, "a service has not left in order");
        }
    }

    /// Connects until that succeeds; `None` when it is to end.
    async fn connect_again(&mut self, attempt: &mut usize) -> Option<Link> {
        loop {
            tokio::select! {
                () = self.about.stop.cancelled() => return None,
                () = self.sender.closed() => return None,
                () = sleep(PAUSE) => *attempt += 1,
            }
            if let Ok(link) = self.connect(*attempt).await {
                return Some(link);
            }
        }
    }

    /// Serves until it is to end.
    async fn follow(&mut self, link: &mut Link) -> Result<()> {
        let stop = self.about.stop.clone();
        let mut heard = Instant::now();
        loop {
            if !self.out.is_empty() {
                link.write(&self.out.split()).await?;
            }
            let sender = self.sender.clone();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sender.closed() => return Ok(()),
                op = link.read() => {
                    heard = Instant::now();
                    self.take(op?, false).await?;
                }
                () = sleep(PING) => {
                    if heard.elapsed() > DEAD {
                        return Err(unavailable("the server is silent"));
                    }
                    wire::ping(&mut self.out);
                }
            }
        }
    }

    /// Takes what the server has sent before it answers a `PING`.
    async fn until_pong(&mut self, link: &mut Link, is_leaving: bool) -> Result<()> {
        loop {
            match link.read().await? {
                Op::Pong => return Ok(()),
                op => self.take(op, is_leaving).await?,
            }
        }
    }

    async fn take(&mut self, op: Op, is_leaving: bool) -> Result<()> {
        match op {
            Op::Message(message) if message.sid != REQUESTS => self.tell_about(&message).await,
            Op::Message(message) if is_leaving => self.hand_back(&message.reply).await,
            Op::Message(message) => self.forward(message).await,
            Op::Ping => wire::pong(&mut self.out),
            Op::Error(error) => return Err(Error::Unavailable(error)),
            Op::Pong | Op::Info(_) | Op::Nothing => {}
        }
        Ok(())
    }

    async fn forward(&self, message: Heard) {
        let Ok(room) = Arc::clone(&self.room).acquire_owned().await else { return };
        let (answer, answered) = oneshot::channel();
        if self.sender.send(Request { payload: message.payload, answer }).await.is_err() {
            return self.hand_back(&message.reply).await;
        }
        let (client, counts) = (self.about.client.clone(), Arc::clone(&self.counts));
        drop(tokio::spawn(give_answer(client, counts, answered, message.reply, room)));
    }

    /// Nothing was done with the request: another who serves takes it.
    async fn hand_back(&self, reply: &Bytes) {
        respond(&self.about.client, reply, Err((GONE, "the service has ended"))).await;
    }

    /// Answers what is asked about the service.
    async fn tell_about(&self, message: &Heard) {
        let mut about = json!({
            "name": self.about.names.service_name(self.about.service), "id": self.id,
            "version": env!("CARGO_PKG_VERSION"), "metadata": {},
        });
        let mut endpoint = json!({
            "name": self.about.service, "subject": self.about.names.service(self.about.service),
            "queue_group": QUEUE_GROUP, "metadata": {},
        });
        let sid = usize::try_from(message.sid - REQUESTS - 1).unwrap_or(0);
        match VERBS.get(sid / 3).copied() {
            Some("PING") => about["type"] = "io.nats.micro.v1.ping_response".into(),
            Some("INFO") => {
                about["type"] = "io.nats.micro.v1.info_response".into();
                about["description"] = "".into();
                about["endpoints"] = Value::Array(vec![endpoint]);
            }
            _ => {
                about["type"] = "io.nats.micro.v1.stats_response".into();
                about["started"] = self.started.to_string().into();
                self.counts.tell(&mut endpoint);
                about["endpoints"] = Value::Array(vec![endpoint]);
            }
        }
        respond(&self.about.client, &message.reply, Ok(about.to_string().into())).await;
    }
}

impl Counts {
    fn tell(&self, endpoint: &mut Value) {
        let [requests, errors, nanos] =
            [&self.requests, &self.errors, &self.nanos].map(|count| count.load(Ordering::Relaxed));
        endpoint["num_requests"] = requests.into();
        endpoint["num_errors"] = errors.into();
        endpoint["last_error"] = "".into();
        endpoint["processing_time"] = nanos.into();
        endpoint["average_processing_time"] = nanos.checked_div(requests).unwrap_or(0).into();
    }
}

async fn give_answer(
    client: Client,
    counts: Arc<Counts>,
    answered: oneshot::Receiver<Bytes>,
    reply: Bytes,
    room: OwnedSemaphorePermit,
) {
    let began = Instant::now();
    let answer = timeout(ANSWERING, answered).await.ok().and_then(std::result::Result::ok);
    counts.requests.fetch_add(1, Ordering::Relaxed);
    counts.errors.fetch_add(u64::from(answer.is_none()), Ordering::Relaxed);
    let nanos = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    counts.nanos.fetch_add(nanos, Ordering::Relaxed);
    respond(&client, &reply, answer.ok_or((NO_ANSWER, "no answer was given"))).await;
    drop(room);
}

async fn respond(client: &Client, reply: &Bytes, answer: std::result::Result<Bytes, (usize, &str)>) {
    let Some(reply) = std::str::from_utf8(reply).ok().filter(|reply| !reply.is_empty()) else { return };
    let sent = match answer {
        Ok(answer) => client.publish(reply.to_owned(), answer).await,
        Err((code, words)) => {
            let mut headers = HeaderMap::new();
            headers.insert(ERROR_CODE, code.to_string());
            headers.insert(ERROR, words);
            client.publish_with_headers(reply.to_owned(), headers, Bytes::new()).await
        }
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "an answer was not sent");
    }
}
