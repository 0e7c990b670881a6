//! Brings events of a shard that this process holds from the server to its [`Slot`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, Subject, Subscriber};
use futures_util::{FutureExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use types::{ConversationId, Entry, Position, Timestamp};

use super::{Parts, Slot};
use crate::jetstream::connection::{Connection, unavailable};
use crate::jetstream::headers;
use crate::jetstream::reading::{Reading, Refusal};
use crate::{Consumer, Error, Result};

/// Events that wait to be given, at most.
const BUFFER: usize = 2_000;
/// The least that is asked for: no request for each event.
const LEAST: usize = 500;
/// How long events gather on the server once it has sent the first of them. A server that sends each one as it is
/// stored works for each one: in a stream with replicas it even has them agree on how far the consumer is, on disk.
const GATHER: Duration = Duration::from_millis(50);
/// Bytes of one request's answer.
const ANSWER_BYTES: usize = 8 << 20;
/// How long a request waits on the server.
const EXPIRY: Duration = Duration::from_secs(30);
/// How often the server says that it still has the request.
const HEARTBEAT: Duration = Duration::from_secs(4);
/// How long it may say nothing.
const SILENCE: Duration = Duration::from_secs(10);
/// Events that are looked at together.
const CHUNK: usize = 500;
/// How long it is waited for the next of them.
const LINGER: Duration = Duration::from_millis(20);
/// Conversations whose last event is remembered.
const REMEMBERED: usize = 65_536;
/// How long whoever was given events has before the server sends them again.
const LEASE: Duration = Duration::from_secs(30);
/// Events that may be given and not acknowledged.
const UNACKNOWLEDGED: u32 = 65_536;
/// The pause after a failure.
const PAUSE: Duration = Duration::from_millis(200);

/// Follows one shard.
pub(super) struct Puller {
    pub(super) parts: Parts,
    pub(super) consumer: Consumer,
    pub(super) slot: Arc<Slot>,
}

/// What has been read of the shard.
struct Follow {
    answers: Subscriber,
    /// The last `seq` that was put into the slot.
    last: u64,
    /// Events that the server may still send for the last request.
    open: usize,
    /// Before then no more is asked for.
    gathered: Instant,
    heard: Instant,
    prevs: HashMap<ConversationId, u64>,
}

/// What the server says to a change of a consumer.
#[derive(Deserialize)]
struct Told {
    ack_floor: Option<Floor>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Floor {
    stream_seq: u64,
}

impl Puller {
    /// Runs until it is dropped.
    pub(super) async fn run(self) {
        let mut is_failing = false;
        loop {
            let Err(error) = self.follow().await else {
                is_failing = false;
                continue;
            };
            if !std::mem::replace(&mut is_failing, true) {
                let Consumer { group, shard } = self.consumer;
                tracing::warn!(group, shard, %error, "events do not come from the log; trying again");
            }
            sleep(PAUSE).await;
        }
    }

    /// Follows the shard from what is acknowledged, until it is to begin anew.
    async fn follow(&self) -> Result<()> {
        let Parts { connection, reading, .. } = &self.parts;
        let mut link = connection.watch();
        link.mark_unchanged();
        let next = self.slot.acked().map_or(0, |acked| acked + 1);
        let floor = reset(connection, reading, self.consumer, next).await?;
        self.slot.begin(floor);
        let floor = self.slot.acked().unwrap_or(floor);
        let inbox = connection.client.new_inbox();
        let answers = connection.client.subscribe(inbox.clone()).await.map_err(unavailable)?;
        let (gathered, heard) = (Instant::now(), Instant::now());
        let mut follow = Follow { answers, last: floor, open: 0, gathered, heard, prevs: HashMap::new() };
        let ended = loop {
            if self.slot.is_rewound() {
                break Ok(());
            }
            self.ask(&mut follow, &inbox).await?;
            tokio::select! {
                message = follow.answers.next() => {
                    let Some(message) = message else { break Err(unavailable("the connection has ended")) };
                    if let Err(error) = self.take(message, &mut follow).await {
                        break Err(error);
                    }
                }
                () = self.slot.wanted.notified() => {}
                () = sleep_until(follow.gathered), if follow.gathered > Instant::now() => {}
                // What was on its way is lost; the server is to send it again.
                _ = link.changed() => break connection.is_up().await,
                () = sleep_until(follow.heard + SILENCE), if follow.open > 0 => {
                    break Err(unavailable("the server does not send what was asked for"));
                }
            }
        };
        // The server must not send anything more there.
        drop(follow.answers.unsubscribe().await);
        ended
    }

    /// Asks for more when there is room: for all that is known to be stored; when that is nothing, for one event, which
    /// tells that there are some again.
    async fn ask(&self, follow: &mut Follow, inbox: &str) -> Result<()> {
        let room = BUFFER.saturating_sub(self.slot.buffered());
        if follow.open > 0 || room < LEAST || follow.gathered > Instant::now() {
            return Ok(());
        }
        let batch = self.behind(follow).clamp(1, room);
        let names = &self.parts.reading.names;
        let Consumer { group, shard } = self.consumer;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{group}", names.stream(shard));
        let request = json!({
            "batch": batch, "max_bytes": ANSWER_BYTES,
            "expires": nanos(EXPIRY), "idle_heartbeat": nanos(HEARTBEAT),
        });
        let client = &self.parts.connection.client;
        client.publish_with_reply(subject, inbox.to_owned(), request.to_string().into()).await.map_err(unavailable)?;
        (follow.open, follow.heard) = (batch, Instant::now());
        Ok(())
    }

    /// Events that are known to be stored and were not read yet.
    fn behind(&self, follow: &Follow) -> usize {
        let behind = self.parts.reading.known_end(self.consumer.shard).saturating_sub(follow.last);
        usize::try_from(behind).unwrap_or(usize::MAX)
    }

    /// Takes a message and all that came with it.
    async fn take(&self, first: Message, follow: &mut Follow) -> Result<()> {
        follow.heard = Instant::now();
        let mut next = Some(first);
        let (mut entries, mut replies) = (Vec::new(), Vec::new());
        while let Some(message) = next {
            match message.status {
                None => {
                    follow.open = follow.open.saturating_sub(1);
                    let (entry, reply) = self.read(message)?;
                    replies.push((entry.position.seq, reply));
                    entries.push(entry);
                }
                Some(status) => follow.open = self.told(status.as_u16(), message.description, follow.open)?,
            }
            let last = entries.last().map_or(follow.last, |entry: &Entry| entry.position.seq);
            next = if entries.len() < CHUNK { self.next_of_chunk(follow, last).await } else { None };
        }
        let mut entries = self.continued(entries, follow.last).await?;
        if follow.prevs.len() > REMEMBERED {
            follow.prevs.clear();
        }
        self.parts.reading.fill_prevs(self.consumer.shard, &mut entries, &mut follow.prevs).await?;
        if let Some(last) = entries.last() {
            follow.last = last.position.seq;
            self.parts.reading.learn_end(self.consumer.shard, follow.last);
            if self.behind(follow) < LEAST {
                follow.gathered = Instant::now() + GATHER;
            }
        }
        self.slot.put(entries, replies);
        Ok(())
    }

    /// What has come already; and while more is known to be stored than has come, what comes within a moment, so that
    /// whoever fetches is not given a batch in pieces.
    async fn next_of_chunk(&self, follow: &mut Follow, last: u64) -> Option<Message> {
        if let Some(next) = follow.answers.next().now_or_never() {
            return next;
        }
        if follow.open == 0 || last >= self.parts.reading.known_end(self.consumer.shard) {
            return None;
        }
        timeout(LINGER, follow.answers.next()).await.ok().flatten()
    }

    /// What the server says about a request: how many events it may still send.
    fn told(&self, status: u16, description: Option<String>, open: usize) -> Result<usize> {
        let description = description.unwrap_or_default();
        match status {
            // It still has the request.
            100 => Ok(open),
            // It is through with it.
            404 | 408 => Ok(0),
            409 if !description.contains("Deleted") => Ok(0),
            _ => Err(Error::Unavailable(format!("the consumer {} says {status} {description}", self.consumer.group))),
        }
    }

    /// The entries without those that came before, and with those that did not come.
    async fn continued(&self, entries: Vec<Entry>, mut last: u64) -> Result<Vec<Entry>> {
        let mut continued = Vec::with_capacity(entries.len());
        for entry in entries {
            let seq = entry.position.seq;
            while last > 0 && last + 1 < seq {
                let missing = self.parts.reading.stretch(self.consumer.shard, last, seq - 1).await?;
                // Nothing: they have left the log.
                last = missing.last().map_or(seq - 1, |missing| missing.position.seq);
                continued.extend(missing);
            }
            if seq > last {
                last = seq;
                continued.push(entry);
            }
        }
        Ok(continued)
    }

    /// A message of the consumer as an entry with `prev` unknown, and how it is acknowledged.
    fn read(&self, message: Message) -> Result<(Entry, Subject)> {
        let reading = &self.parts.reading;
        let read = message.reply.and_then(|reply| {
            let (_, conversation) = reading.names.read_event(&message.subject)?;
            let Stored { seq, at, behind } = stored(&reply)?;
            reading.learn_end(self.consumer.shard, seq.saturating_add(behind));
            let position = Position { epoch: reading.epoch, seq };
            let trace = headers::trace(message.headers.as_ref());
            Some((Entry { conversation, position, prev: 0, at, payload: message.payload, trace }, reply))
        });
        read.ok_or_else(|| Error::Damaged(format!("a message of shard {} is none of ours", self.consumer.shard)))
    }
}

/// Where and when a message was stored, and how many are stored behind it.
#[derive(Debug, PartialEq)]
struct Stored {
    seq: u64,
    at: Timestamp,
    behind: u64,
}

/// What is told of the message that is acknowledged so:
/// `$JS.ACK.<stream>.<consumer>.<times>.<seq>.<seq of the consumer>.<nanoseconds>.<pending>`, on servers of a domain
/// with the domain and an account before the stream.
fn stored(reply: &str) -> Option<Stored> {
    let words: Vec<&str> = reply.split('.').collect();
    let first = if words.len() >= 11 { 7 } else { 5 };
    let seq = words.get(first)?.parse().ok()?;
    let nanos: i64 = words.get(first + 2)?.parse().ok()?;
    let behind = words.get(first + 3)?.parse().ok()?;
    Some(Stored { seq, at: Timestamp::from_millis(nanos.div_euclid(1_000_000)), behind })
}

/// Has the server send from `seq`, or for 0 from what is not acknowledged; everything before is acknowledged then.
/// Makes the consumer when there is none. Gives the last acknowledged `seq`.
pub(super) async fn reset(connection: &Connection, reading: &Reading, consumer: Consumer, seq: u64) -> Result<u64> {
    let Consumer { group, shard } = consumer;
    let stream = reading.names.stream(shard);
    // One that is there stays as it is. A server does not answer at all that there is none.
    let config = json!({
        "durable_name": group, "ack_policy": "all", "deliver_policy": "all", "ack_wait": nanos(LEASE),
        "max_ack_pending": UNACKNOWLEDGED, "max_waiting": 16,
    });
    let subject = format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{group}");
    let mut told = ask(connection, subject, json!({ "stream_name": stream, "config": config })).await?;
    if told.error.is_none() {
        told = ask(connection, format!("$JS.API.CONSUMER.RESET.{stream}.{group}"), json!({ "seq": seq })).await?;
    }
    match told {
        Told { ack_floor: Some(floor), .. } => Ok(floor.stream_seq),
        Told { error, .. } => {
            let why = error.map_or_else(String::new, |error| error.description);
            Err(Error::Unavailable(format!("the consumer {group} of {stream} cannot be read: {why}")))
        }
    }
}

async fn ask(connection: &Connection, subject: String, question: serde_json::Value) -> Result<Told> {
    let answer = connection.client.request(subject, question.to_string().into()).await.map_err(unavailable)?;
    serde_json::from_slice(&answer.payload).map_err(unavailable)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_tells_where_an_event_is() {
        let at = Timestamp::from_millis(1_795_668_326_201);
        assert_eq!(
            stored("$JS.ACK.chat-0-0.ingest.1.17.4.1795668326201212764.9"),
            Some(Stored { seq: 17, at, behind: 9 })
        );
        assert_eq!(
            stored("$JS.ACK.hub.account.chat-0-0.ingest.1.17.4.1795668326201212764.9.x"),
            Some(Stored { seq: 17, at, behind: 9 })
        );
        assert_eq!(stored("$JS.ACK.chat-0-0"), None);
    }
}
