//! Reads of what is stored.
//!
//! Any replica of a stream may answer a direct get, and one that lags behind answers too little. So whoever needs
//! the end of a conversation asks the stream's leader for it, and reads up to there by batches of direct gets; a
//! batch that ends earlier was answered by a lagging replica and is asked for again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, Message, StatusCode};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use types::{ConversationId, Entry, Epoch, Position, Timestamp};

use super::connection::{ANSWER, unavailable};
use super::headers;
use super::headers::Stored;
use super::mailbox::Mailbox;
use super::names::Names;
use super::streams::Kept;
use crate::{Error, Head, Result};

/// Messages that are asked for at once.
pub(super) const BATCH: usize = 512;
/// Questions of one call that are under way at once.
const QUESTIONS: usize = 64;
/// How long a lagging replica is given.
const LAGGING: Duration = Duration::from_secs(3);
/// The pause before a lagging replica is asked again.
const PAUSE: Duration = Duration::from_millis(10);
/// How many answers that there is nothing are believed.
const OPINIONS: usize = 3;
/// The error code for a message that does not exist.
const NO_MESSAGE: u64 = 10_037;

/// Reads the streams of one region's log.
pub(super) struct Reading {
    pub(super) client: Client,
    pub(super) names: Arc<Names>,
    pub(super) epoch: Epoch,
    mailbox: Mailbox,
    replicas: u8,
    /// The `seq` before the first one of every shard.
    pub(super) base: u64,
    /// The last `seq` of each shard that this process knows of, [`Reading::base`] where there is none.
    ends: Vec<AtomicU64>,
}

/// Some messages of a stream, as they were asked for.
pub(super) struct Batch {
    pub(super) messages: Vec<Message>,
    /// Whether the server left none out.
    pub(super) is_whole: bool,
}

/// The leader's answer to the question for one message.
#[derive(Deserialize)]
struct Got {
    message: Option<GotMessage>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct GotMessage {
    seq: u64,
    time: Timestamp,
}

/// Why the server did not do as asked.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) err_code: u64,
    #[serde(default)]
    pub(super) description: String,
}

impl Reading {
    pub(super) fn new(client: Client, names: Arc<Names>, kept: Kept, mailbox: Mailbox, replicas: u8) -> Self {
        let base = kept.first_seq - 1;
        let ends = (0..names.shards).map(|_| AtomicU64::new(base)).collect();
        Self { client, names, epoch: kept.epoch, mailbox, replicas, base, ends }
    }

    /// Notes that there is something at `seq`.
    pub(super) fn learn_end(&self, shard: u16, seq: u64) {
        if let Some(end) = self.ends.get(usize::from(shard)) {
            end.fetch_max(seq, Ordering::AcqRel);
        }
    }

    /// The last `seq` of a shard that this process knows of.
    pub(super) fn known_end(&self, shard: u16) -> u64 {
        self.ends.get(usize::from(shard)).map_or(self.base, |end| end.load(Ordering::Acquire))
    }

    /// The end of a shard, by its leader's word.
    pub(super) async fn end(&self, shard: u16) -> Result<u64> {
        let last = self.ask_leader(shard, json!({ "last_by_subj": self.names.events_of_shard(shard) })).await?;
        self.learn_end(shard, last.map_or(0, |last| last.position.seq));
        Ok(self.known_end(shard))
    }

    /// The end of each shard, by its leader's word.
    pub(super) async fn ends(&self) -> Result<Vec<u64>> {
        let shards = 0..self.names.shards;
        stream::iter(shards).map(|shard| self.end(shard)).buffered(QUESTIONS).try_collect().await
    }

    /// See [`crate::Log::heads`].
    pub(super) async fn heads(&self, conversations: &[ConversationId]) -> Result<Vec<Option<Head>>> {
        let mut known = HashMap::with_capacity(conversations.len());
        let asked: HashSet<ConversationId> = conversations.iter().copied().collect();
        let mut questions = stream::iter(asked)
            .map(|conversation| async move { (conversation, self.head(conversation).await) })
            .buffer_unordered(QUESTIONS);
        while let Some((conversation, head)) = questions.next().await {
            known.insert(conversation, head?);
        }
        Ok(conversations.iter().map(|conversation| known.get(conversation).copied().flatten()).collect())
    }

    /// The last event of a conversation, by its leader's word.
    async fn head(&self, conversation: ConversationId) -> Result<Option<Head>> {
        let question = json!({ "last_by_subj": self.names.events_of(conversation) });
        let last = self.ask_leader(self.names.shard_of(conversation), question).await?;
        Ok(last.map(|Stored { position, at }| Head { position, at }))
    }

    /// When an event was stored, by its leader's word; `None` when it has left the log.
    pub(super) async fn moment(&self, shard: u16, seq: u64) -> Result<Option<Timestamp>> {
        Ok(self.ask_leader(shard, json!({ "seq": seq })).await?.map(|stored| stored.at))
    }

    /// See [`crate::Log::read`].
    pub(super) async fn read(&self, conversation: ConversationId, after: u64, limit: usize) -> Result<Vec<Entry>> {
        if limit == 0 || after == u64::MAX {
            return Ok(Vec::new());
        }
        let (head, mut prev) = tokio::try_join!(self.head(conversation), self.last_until(conversation, after))?;
        let mut entries: Vec<Entry> = Vec::new();
        let Some(head) = head.map(|head| head.position.seq).filter(|head| *head > after) else { return Ok(entries) };
        let shard = self.names.shard_of(conversation);
        let subject = self.names.events_of(conversation);
        let began = Instant::now();
        let mut seen = after;
        while seen < head && entries.len() < limit {
            let batch = BATCH.min(limit - entries.len());
            let question = json!({ "seq": seen + 1, "batch": batch, "next_by_subj": &subject });
            let Batch { messages, .. } = self.direct(shard, &question, batch).await?;
            if messages.is_empty() {
                self.wait_for_replica(began).await?;
            }
            for message in messages {
                let entry = self.entry(message, prev)?;
                (seen, prev) = (entry.position.seq, entry.position.seq);
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// The events of a shard after `after` up to and with `until`, at most a batch of them, with `prev` unknown.
    /// Fewer only where some have left the log.
    pub(super) async fn stretch(&self, shard: u16, after: u64, until: u64) -> Result<Vec<Entry>> {
        let began = Instant::now();
        let length = usize::try_from(until.saturating_sub(after)).unwrap_or(usize::MAX).min(BATCH);
        let subject = self.names.events_of_shard(shard);
        let question = json!({ "seq": after + 1, "batch": length, "next_by_subj": subject });
        loop {
            let Batch { messages, .. } = self.direct(shard, &question, length).await?;
            if !messages.is_empty() {
                return messages.into_iter().map(|message| self.entry(message, 0)).collect();
            }
            // Either a lagging replica has answered, or they have all left the log.
            if self.ask_leader(shard, json!({ "seq": after + 1, "next_by_subj": subject })).await?.is_none() {
                return Ok(Vec::new());
            }
            self.wait_for_replica(began).await?;
        }
    }

    /// The last `seq` of each of these conversations of one shard up to and with `until`; 0 where there is none.
    pub(super) async fn last_of(
        &self,
        shard: u16,
        conversations: &[ConversationId],
        until: u64,
    ) -> Result<HashMap<ConversationId, u64>> {
        let mut known = HashMap::with_capacity(conversations.len());
        if until == 0 {
            return Ok(known);
        }
        for some in conversations.chunks(BATCH) {
            let mut asked = some.to_vec();
            // When they are too large they do not all come at once.
            while !asked.is_empty() && !self.ask_last_of(shard, &asked, until, &mut known).await? {
                asked.retain(|conversation| !known.contains_key(conversation));
            }
        }
        Ok(known)
    }

    /// Adds to `known` what an answer tells of those asked for. Whether that is all there is.
    async fn ask_last_of(
        &self,
        shard: u16,
        asked: &[ConversationId],
        until: u64,
        known: &mut HashMap<ConversationId, u64>,
    ) -> Result<bool> {
        let subjects: Vec<String> = asked.iter().map(|asked| self.names.events_of(*asked)).collect();
        let question = json!({ "multi_last": subjects, "up_to_seq": until });
        let mut attempts = 0;
        let Batch { messages, is_whole } = loop {
            let batch = self.direct(shard, &question, asked.len()).await?;
            attempts += 1;
            // A replica that has not come to `until` yet says that there is nothing, as one does that has it all.
            if !batch.messages.is_empty() || self.replicas == 1 || attempts == OPINIONS {
                break batch;
            }
            sleep(PAUSE).await;
        };
        let is_all = is_whole || messages.is_empty();
        for message in messages {
            let entry = self.entry(message, 0)?;
            known.insert(entry.conversation, entry.position.seq);
        }
        Ok(is_all)
    }

    /// Finds out `prev` of these events of one shard, which are in order and lack none of their conversations' between
    /// the first and the last. `known` are the last events of conversations before them, and is kept up.
    pub(super) async fn fill_prevs(
        &self,
        shard: u16,
        entries: &mut [Entry],
        known: &mut HashMap<ConversationId, u64>,
    ) -> Result<()> {
        let Some(until) = entries.first().map(|first| first.position.seq - 1) else { return Ok(()) };
        let unknown: HashSet<ConversationId> =
            entries.iter().map(|entry| entry.conversation).filter(|one| !known.contains_key(one)).collect();
        if !unknown.is_empty() {
            let unknown: Vec<ConversationId> = unknown.into_iter().collect();
            known.extend(self.last_of(shard, &unknown, until).await?);
        }
        for entry in entries {
            entry.prev = known.insert(entry.conversation, entry.position.seq).unwrap_or(0);
        }
        Ok(())
    }

    async fn last_until(&self, conversation: ConversationId, until: u64) -> Result<u64> {
        let known = self.last_of(self.names.shard_of(conversation), &[conversation], until).await?;
        Ok(known.get(&conversation).copied().unwrap_or_default())
    }

    /// Gives a lagging replica a little more time.
    async fn wait_for_replica(&self, began: Instant) -> Result<()> {
        if began.elapsed() > LAGGING {
            return Err(Error::Unavailable("a replica of the log lags behind".into()));
        }
        sleep(PAUSE).await;
        Ok(())
    }

    /// Asks whichever replica answers for several messages, at most `most`.
    pub(super) async fn direct(&self, shard: u16, question: &serde_json::Value, most: usize) -> Result<Batch> {
        self.direct_from(&self.names.stream(shard), question, most).await
    }

    /// As [`Reading::direct`], from any stream.
    pub(super) async fn direct_from(&self, stream: &str, question: &serde_json::Value, most: usize) -> Result<Batch> {
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        let mut answers = self.mailbox.ask(subject, question.to_string().into(), most + 1).await?;
        let mut messages = Vec::new();
        loop {
            let Ok(Some(message)) = timeout(ANSWER, answers.next()).await else {
                return Err(Error::Unavailable(format!("{stream} does not answer")));
            };
            match message.status {
                // A question for one message is answered by it alone.
                None if messages.len() + 1 == most => {
                    messages.push(message);
                    return Ok(Batch { messages, is_whole: true });
                }
                None => messages.push(message),
                // The end of the batch.
                Some(status) if status.as_u16() == 204 => {
                    let pending = message.headers.as_ref().and_then(|found| headers::number(found, headers::PENDING));
                    return Ok(Batch { messages, is_whole: pending.unwrap_or(0) == 0 });
                }
                Some(StatusCode::NOT_FOUND) => return Ok(Batch { messages, is_whole: true }),
                Some(status) => {
                    let description = message.description.unwrap_or_default();
                    return Err(Error::Unavailable(format!("{stream} cannot be read: {status} {description}")));
                }
            }
        }
    }

    /// Asks the leader for one message.
    async fn ask_leader(&self, shard: u16, question: serde_json::Value) -> Result<Option<Stored>> {
        let subject = format!("$JS.API.STREAM.MSG.GET.{}", self.names.stream(shard));
        let answer = self.client.request(subject, question.to_string().into()).await.map_err(unavailable)?;
        let got: Got = serde_json::from_slice(&answer.payload).map_err(unavailable)?;
        match (got.message, got.error) {
            (Some(message), _) => {
                self.learn_end(shard, message.seq);
                let position = Position { epoch: self.epoch, seq: message.seq };
                Ok(Some(Stored { position, at: message.time }))
            }
            (None, Some(Refusal { err_code: NO_MESSAGE, .. })) => Ok(None),
            (None, error) => {
                let why = error.map_or_else(String::new, |error| error.description);
                Err(Error::Unavailable(format!("the leader of shard {shard} does not tell: {why}")))
            }
        }
    }

    /// A stored message as an entry.
    pub(super) fn entry(&self, message: Message, prev: u64) -> Result<Entry> {
        let found = message.headers.as_ref();
        let stored = found.and_then(|headers| headers::stored(headers, self.epoch));
        let subject = found.and_then(|found| headers::text(found, headers::SUBJECT));
        let conversation = subject.and_then(|subject| self.names.read_event(subject));
        let (Some(Stored { position, at }), Some((_, conversation))) = (stored, conversation) else {
            return Err(Error::Damaged(format!("a message of {} is none of ours", self.names.stream(0))));
        };
        let trace = headers::trace(found);
        Ok(Entry { conversation, position, prev, at, payload: message.payload, trace })
    }
}
