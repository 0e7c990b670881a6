//! Stores that tests fill by hand: a history that is told what is stored, and a log that is told what it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use history::{End, History, Message, Order, Page, Tail};
use log::{Append, Consumer, Feed, Head, Lag, Layout, Log, Receipt, Requests, Topic};
use parking_lot::Mutex;
use types::{Body, Content, ConversationId, Entry, Epoch, Event, EventId, Position, Region, Timestamp, UserId};

/// The epoch of the log that is told what it holds.
pub(crate) const EPOCH: Epoch = Epoch::new(7);

/// A history that answers as its contract says, from a list, without any cleverness.
#[derive(Default)]
pub(crate) struct PlainHistory {
    entries: Mutex<BTreeMap<(ConversationId, u64), Entry>>,
    marks: Mutex<BTreeMap<(UserId, ConversationId), u64>>,
    /// Of how many conversations the tail was asked, and of how many the end alone.
    pub(crate) tails_asked: AtomicUsize,
    pub(crate) ends_asked: AtomicUsize,
    /// Conversations whose last place is never told, and those of which it cannot be read.
    pub(crate) silent: Mutex<BTreeSet<ConversationId>>,
    pub(crate) damaged: Mutex<BTreeSet<ConversationId>>,
}

impl PlainHistory {
    pub(crate) fn of(entries: &[Entry]) -> Arc<Self> {
        let history = Self::default();
        history.put(entries);
        Arc::new(history)
    }

    pub(crate) fn put(&self, entries: &[Entry]) {
        let mut stored = self.entries.lock();
        stored.extend(entries.iter().map(|entry| ((entry.conversation, entry.position.seq), entry.clone())));
    }

    fn all(&self, conversation: ConversationId) -> Vec<Entry> {
        let stored = self.entries.lock();
        stored.range((conversation, 0)..=(conversation, u64::MAX)).map(|(_, entry)| entry.clone()).collect()
    }

    /// Every message in its present state, oldest first.
    fn present(&self, conversation: ConversationId) -> Vec<Message> {
        let mut messages: Vec<Message> = Vec::new();
        for entry in self.all(conversation) {
            let event = Event::decode(&entry.payload).unwrap();
            let (id, text) = match event.body {
                Body::Message(content) => {
                    messages.push(Message {
                        id: event.id,
                        conversation,
                        seq: entry.position.seq,
                        sender: event.sender,
                        content,
                        created_at: entry.at,
                        updated_at: entry.at,
                        deleted: false,
                    });
                    continue;
                }
                Body::Edit { message, text } => (message, Some(text)),
                Body::Delete { message } => (message, None),
                _ => continue,
            };
            let Some(message) = messages.iter_mut().find(|message| message.id == id && !message.deleted) else {
                continue;
            };
            message.updated_at = entry.at;
            match text {
                Some(text) => message.content.text = text,
                None => (message.content, message.deleted) = (message.content.withdrawn(), true),
            }
        }
        messages
    }
}

#[async_trait]
impl History for PlainHistory {
    async fn store(&self, entries: &[Entry]) -> history::Result<()> {
        self.put(entries);
        Ok(())
    }

    async fn tails(&self, conversations: &[ConversationId]) -> history::Result<Vec<Option<Tail>>> {
        self.tails_asked.fetch_add(conversations.len(), Ordering::Relaxed);
        let tail = |conversation: &ConversationId| {
            let last = self.all(*conversation).pop()?;
            let last_message = self.present(*conversation).pop();
            Some(Tail { position: last.position, at: last.at, last_message })
        };
        Ok(conversations.iter().map(tail).collect())
    }

    async fn ends(&self, conversations: &[ConversationId]) -> history::Result<Vec<Option<End>>> {
        self.ends_asked.fetch_add(conversations.len(), Ordering::Relaxed);
        let end = |conversation: &ConversationId| {
            let last = self.all(*conversation).pop()?;
            Some(End { position: last.position, at: last.at })
        };
        Ok(conversations.iter().map(end).collect())
    }

    async fn messages(&self, conversation: ConversationId, page: &Page) -> history::Result<Vec<Message>> {
        let mut messages = self.present(conversation);
        messages.retain(|message| {
            page.before_seq.is_none_or(|seq| message.seq < seq)
                && page.after_seq.is_none_or(|seq| message.seq > seq)
                && page.since.is_none_or(|since| message.created_at >= since)
                && page.sender.is_none_or(|sender| message.sender == sender)
        });
        if page.order == Order::Desc {
            messages.reverse();
        }
        messages.truncate(page.limit);
        Ok(messages)
    }

    async fn message(&self, conversation: ConversationId, id: EventId) -> history::Result<Option<Message>> {
        Ok(self.present(conversation).into_iter().find(|message| message.id == id))
    }

    async fn event(&self, conversation: ConversationId, id: EventId) -> history::Result<Option<Entry>> {
        let is_it = |entry: &Entry| Event::decode(&entry.payload).is_ok_and(|event| event.id == id);
        Ok(self.all(conversation).into_iter().find(is_it))
    }

    async fn events(&self, conversation: ConversationId, after: u64, limit: usize) -> history::Result<Vec<Entry>> {
        let entries = self.all(conversation).into_iter();
        Ok(entries.filter(|entry| entry.position.seq > after).take(limit).collect())
    }

    async fn last_seq(&self, conversation: ConversationId, until: u64) -> history::Result<u64> {
        if self.silent.lock().contains(&conversation) {
            std::future::pending::<()>().await;
        }
        if self.damaged.lock().contains(&conversation) {
            return Err(history::Error::Damaged("it is damaged".into()));
        }
        let seqs = self.all(conversation).into_iter().map(|entry| entry.position.seq);
        Ok(seqs.filter(|seq| *seq <= until).max().unwrap_or(0))
    }

    async fn peers(&self, user: UserId, after: Option<UserId>, limit: usize) -> history::Result<Vec<UserId>> {
        let stored = self.entries.lock();
        let peers: BTreeSet<UserId> =
            stored.keys().filter_map(|(conversation, _)| conversation.peer_of(user)).collect();
        Ok(peers.into_iter().filter(|peer| after.is_none_or(|after| *peer > after)).take(limit).collect())
    }

    async fn mark_read(&self, user: UserId, conversation: ConversationId, seq: u64) -> history::Result<u64> {
        let mut marks = self.marks.lock();
        let mark = marks.entry((user, conversation)).or_default();
        *mark = seq.max(*mark);
        Ok(*mark)
    }

    async fn read_marks(&self, user: UserId, conversations: &[ConversationId]) -> history::Result<Vec<u64>> {
        let marks = self.marks.lock();
        Ok(conversations.iter().map(|conversation| marks.get(&(user, *conversation)).copied().unwrap_or(0)).collect())
    }
}

/// A history that cannot be reached.
#[derive(Default)]
pub(crate) struct AwayHistory {
    /// How often it was asked.
    pub(crate) asked: AtomicUsize,
    /// Whether no answer ever comes.
    pub(crate) is_silent: bool,
}

impl AwayHistory {
    async fn away<T>(&self) -> history::Result<T> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.is_silent {
            std::future::pending::<()>().await;
        }
        Err(history::Error::Unavailable("it is away".into()))
    }
}

#[async_trait]
impl History for AwayHistory {
    async fn store(&self, _: &[Entry]) -> history::Result<()> {
        self.away().await
    }

    async fn tails(&self, _: &[ConversationId]) -> history::Result<Vec<Option<Tail>>> {
        self.away().await
    }

    async fn ends(&self, _: &[ConversationId]) -> history::Result<Vec<Option<End>>> {
        self.away().await
    }

    async fn messages(&self, _: ConversationId, _: &Page) -> history::Result<Vec<Message>> {
        self.away().await
    }

    async fn message(&self, _: ConversationId, _: EventId) -> history::Result<Option<Message>> {
        self.away().await
    }

    async fn event(&self, _: ConversationId, _: EventId) -> history::Result<Option<Entry>> {
        self.away().await
    }

    async fn events(&self, _: ConversationId, _: u64, _: usize) -> history::Result<Vec<Entry>> {
        self.away().await
    }

    async fn last_seq(&self, _: ConversationId, _: u64) -> history::Result<u64> {
        self.away().await
    }

    async fn peers(&self, _: UserId, _: Option<UserId>, _: usize) -> history::Result<Vec<UserId>> {
        self.away().await
    }

    async fn mark_read(&self, _: UserId, _: ConversationId, _: u64) -> history::Result<u64> {
        self.away().await
    }

    async fn read_marks(&self, _: UserId, _: &[ConversationId]) -> history::Result<Vec<u64>> {
        self.away().await
    }
}

/// A log that holds these entries and takes no others.
pub(crate) struct PlainLog {
    entries: Vec<Entry>,
    layout: Layout,
    retention: Duration,
    /// The shards that do not answer: the first ones.
    dead_shards: u16,
    /// Whether ingest has taken all of it; it does not tell otherwise.
    pub(crate) is_ingested: AtomicBool,
    /// Of how many conversations the head was asked.
    pub(crate) heads_asked: AtomicUsize,
    reading: AtomicUsize,
    /// How many have read at the same time.
    pub(crate) most_reading: AtomicUsize,
}

impl PlainLog {
    pub(crate) fn of(entries: &[Entry]) -> Arc<Self> {
        Self::kept_for(Duration::from_secs(3_600), entries)
    }

    /// A log that promises to keep events for so long.
    pub(crate) fn kept_for(retention: Duration, entries: &[Entry]) -> Arc<Self> {
        let layout = Layout { region: Region::default(), shards: 1, epoch: EPOCH };
        Arc::new(Self { entries: entries.to_vec(), retention, ..Self::with_layout(layout) })
    }

    /// An empty log of some shards.
    pub(crate) fn of_shards(shards: u16) -> Arc<Self> {
        Self::with_dead_shards(shards, 0)
    }

    /// An empty log of some shards, of which the first few cannot be asked for heads: no answer ever comes.
    pub(crate) fn with_dead_shards(shards: u16, dead_shards: u16) -> Arc<Self> {
        let layout = Layout { region: Region::default(), shards, epoch: EPOCH };
        Arc::new(Self { dead_shards, ..Self::with_layout(layout) })
    }

    fn with_layout(layout: Layout) -> Self {
        Self {
            entries: Vec::new(),
            layout,
            retention: Duration::from_secs(3_600),
            dead_shards: 0,
            is_ingested: AtomicBool::default(),
            heads_asked: AtomicUsize::default(),
            reading: AtomicUsize::default(),
            most_reading: AtomicUsize::default(),
        }
    }

    fn refuse<T>() -> log::Result<T> {
        Err(log::Error::Unavailable("this log is only read".into()))
    }
}

#[async_trait]
impl Log for PlainLog {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn duplicate_window(&self) -> Duration {
        Duration::from_secs(120)
    }

    fn retention(&self) -> Duration {
        self.retention
    }

    async fn heads(&self, conversations: &[ConversationId]) -> log::Result<Vec<Option<Head>>> {
        if conversations.iter().any(|conversation| conversation.shard(self.layout.shards) < self.dead_shards) {
            std::future::pending::<()>().await;
        }
        self.heads_asked.fetch_add(conversations.len(), Ordering::Relaxed);
        let head = |conversation: &ConversationId| {
            let last = self.entries.iter().rfind(|entry| entry.conversation == *conversation)?;
            Some(Head { position: last.position, at: last.at })
        };
        Ok(conversations.iter().map(head).collect())
    }

    async fn ends(&self) -> log::Result<Vec<u64>> {
        Ok(vec![self.entries.iter().map(|entry| entry.position.seq).max().unwrap_or(0)])
    }

    async fn read(&self, conversation: ConversationId, after: u64, limit: usize) -> log::Result<Vec<Entry>> {
        let reading = self.reading.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_reading.fetch_max(reading, Ordering::Relaxed);
        tokio::task::yield_now().await;
        self.reading.fetch_sub(1, Ordering::Relaxed);
        let entries = self.entries.iter().filter(|entry| entry.conversation == conversation);
        Ok(entries.filter(|entry| entry.position.seq > after).take(limit).cloned().collect())
    }

    async fn append(&self, _: Append) -> log::Result<Receipt> {
        Self::refuse()
    }

    async fn feed(&self) -> log::Result<Feed> {
        Self::refuse()
    }

    async fn notify(&self, _: Topic, _: Bytes) -> log::Result<()> {
        Self::refuse()
    }

    async fn request(&self, _: &'static str, _: Bytes, _: Duration) -> log::Result<Bytes> {
        Self::refuse()
    }

    async fn serve(&self, _: &'static str) -> log::Result<Requests> {
        Self::refuse()
    }

    async fn fetch(&self, _: Consumer, _: usize) -> log::Result<Vec<Entry>> {
        Self::refuse()
    }

    async fn ack(&self, _: Consumer, _: u64) -> log::Result<()> {
        Self::refuse()
    }

    async fn resume(&self, _: Consumer) -> log::Result<()> {
        Self::refuse()
    }

    async fn lag(&self, _: Consumer) -> log::Result<Lag> {
        if self.is_ingested.load(Ordering::Relaxed) {
            let end_seq = self.ends().await?.into_iter().max().unwrap_or_default();
            return Ok(Lag { events: 0, acked_seq: end_seq, end_seq });
        }
        Self::refuse()
    }

    async fn close(&self) {}
}

/// The entries that these events become, one millisecond after the other, every second `seq` being elsewhere's.
pub(crate) fn entries(conversation: ConversationId, events: &[Event]) -> Vec<Entry> {
    let seq = |index: usize| 2 * index as u64;
    let entry = |(index, event): (usize, &Event)| Entry {
        conversation,
        position: Position { epoch: EPOCH, seq: seq(index + 1) },
        prev: seq(index),
        at: Timestamp::from_millis(1_700_000_000_000 + index as i64),
        payload: event.encode(),
        trace: None,
    };
    events.iter().enumerate().map(entry).collect()
}

pub(crate) fn user() -> UserId {
    UserId::generate(Region::default())
}

/// A message of a sender.
pub(crate) fn message(sender: UserId, text: &str) -> Event {
    let content = Content { text: text.into(), ..Content::default() };
    Event { id: EventId::generate(Region::default()), sender, body: Body::Message(content) }
}
