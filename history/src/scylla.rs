//! History on a CQL server, ScyllaDB or Cassandra: what is written where says `migrations/scylla/history/`, and why
//! it may be repeated and reordered [`stamp`].
//!
//! Rows of one conversation and ten days lie in one partition and are written together. Nothing on the way of an event
//! locks, counts, or asks servers to agree: what must be decided, the stamps decide.

mod buckets;
mod connection;
mod events;
mod ids;
mod marks;
mod pages;
mod peers;
mod plan;
mod recent;
mod schema;
mod sharing;
mod stamp;
mod tails;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use types::{ConversationId, Entry, EventId, UserId};

use self::connection::Connection;
use self::events::{Class, Events, Partition};
use self::ids::Ids;
use self::marks::Marks;
use self::pages::Pages;
use self::peers::Peers;
use self::sharing::Sharing;
use self::tails::Tails;
use self::writer::Writer;
use crate::{CqlServer, End, History, Message, Page, Result, Tail};

/// Questions of one call that are on their way at once.
const QUESTIONS_AT_ONCE: usize = 64;

struct Scylla {
    store: Arc<Store>,
    writer: Writer,
    tails: Arc<Sharing<ConversationId, Option<Tail>>>,
    ends: Arc<Sharing<ConversationId, Option<End>>>,
    pages: Arc<Sharing<(ConversationId, Page), Vec<Message>>>,
    events: Arc<Sharing<(ConversationId, u64, usize), Vec<Entry>>>,
}

/// What reads need.
struct Store {
    pages: Pages,
    tails: Arc<Tails>,
    ids: Arc<Ids>,
    peers: Arc<Peers>,
    marks: Marks,
}

/// Opens the history on `server`, which must have been migrated.
///
/// # Errors
/// When the server does not answer, or its schema is older than this program's.
pub(crate) async fn open(server: &CqlServer) -> Result<Arc<dyn History>> {
    let connection = Arc::new(Connection::open(server).await?);
    schema::check(&connection, server).await?;
    Ok(Arc::new(Scylla::over(&connection).await?))
}

/// Brings the keyspace and its tables to this program's schema.
///
/// # Errors
/// When the server does not answer, or its schema is newer than this program's.
pub(crate) async fn migrate(server: &CqlServer) -> Result<()> {
    schema::migrate(&Connection::open(server).await?, server).await
}

impl Scylla {
    async fn over(connection: &Arc<Connection>) -> Result<Self> {
        let (tails, ids) = (Arc::new(Tails::prepare(connection).await?), Arc::new(Ids::prepare(connection).await?));
        let (peers, events) =
            (Arc::new(Peers::prepare(connection).await?), Arc::new(Events::prepare(connection).await?));
        let (pages, marks) = (Pages::prepare(connection, events).await?, Marks::prepare(connection).await?);
        let writer = Writer::prepare(connection, tails.clone(), ids.clone(), peers.clone(), &pages).await?;
        let store = Arc::new(Store { pages, tails, ids, peers, marks });
        let (tails, ends) = (Arc::default(), Arc::default());
        Ok(Self { store, writer, tails, ends, pages: Arc::default(), events: Arc::default() })
    }
}

impl Store {
    async fn tail(&self, conversation: ConversationId) -> Result<Option<Tail>> {
        let Some(tail) = self.tails.read(conversation).await? else { return Ok(None) };
        let last_message = match tail.last_message {
            Some((bucket, seq)) => self.message_at(conversation, bucket, seq).await?,
            None => None,
        };
        Ok(Some(Tail { position: tail.position, at: tail.at, last_message }))
    }

    async fn end(&self, conversation: ConversationId) -> Result<Option<End>> {
        let tail = self.tails.read(conversation).await?;
        Ok(tail.map(|tail| End { position: tail.position, at: tail.at }))
    }

    async fn message_at(
        &self,
        conversation: ConversationId,
        bucket: stamp::Bucket,
        seq: u64,
    ) -> Result<Option<Message>> {
        let key = conversation.key();
        let partition = Partition { conversation, key: &key, bucket };
        let messages = self.pages.events.named(partition, &[seq], crate::Order::Asc).await?;
        Ok(messages.into_iter().next())
    }

    async fn place(&self, conversation: ConversationId, id: EventId) -> Result<Option<events::Place>> {
        Ok(self.ids.find(conversation, [id]).await?.remove(&id))
    }

    /// As [`History::events`]: up to the tail, for beyond it some may be there and others not yet.
    async fn events(&self, conversation: ConversationId, after_seq: u64, limit: usize) -> Result<Vec<Entry>> {
        let tail = self.tails.read(conversation).await?;
        let Some(last_seq) = tail.map(|tail| tail.position.seq).filter(|last| *last > after_seq && limit > 0) else {
            return Ok(Vec::new());
        };
        self.pages.events(conversation, (after_seq, last_seq), limit).await
    }

    /// As [`History::last_seq`]: up to the tail, for the same reason.
    async fn last_seq(&self, conversation: ConversationId, until: u64) -> Result<u64> {
        match self.tails.read(conversation).await?.map(|tail| tail.position.seq) {
            Some(tail) if tail > until => self.pages.last_seq(conversation, until).await,
            tail => Ok(tail.unwrap_or(0)),
        }
    }
}

#[async_trait]
impl History for Scylla {
    async fn store(&self, entries: &[Entry]) -> Result<()> {
        self.writer.store(entries).await
    }

    async fn tails(&self, conversations: &[ConversationId]) -> Result<Vec<Option<Tail>>> {
        let tails = conversations.iter().map(|conversation| {
            let store = Arc::clone(&self.store);
            self.tails.read(*conversation, move |conversation| {
                let store = Arc::clone(&store);
                async move { store.tail(conversation).await }
            })
        });
        let tails: Vec<_> = tails.collect();
        stream::iter(tails).buffered(QUESTIONS_AT_ONCE).try_collect().await
    }

    async fn ends(&self, conversations: &[ConversationId]) -> Result<Vec<Option<End>>> {
        let &[conversation] = conversations else { return self.store.tails.ends(conversations).await };
        let store = Arc::clone(&self.store);
        let read = move |conversation| {
            let store = Arc::clone(&store);
            async move { store.end(conversation).await }
        };
        Ok(vec![self.ends.read(conversation, read).await?])
    }

    async fn messages(&self, conversation: ConversationId, page: &Page) -> Result<Vec<Message>> {
        let store = Arc::clone(&self.store);
        let read = move |(conversation, page): (ConversationId, Page)| {
            let store = Arc::clone(&store);
            async move { store.pages.messages(conversation, &page).await }
        };
        self.pages.read((conversation, page.clone()), read).await
    }

    async fn message(&self, conversation: ConversationId, id: EventId) -> Result<Option<Message>> {
        match self.store.place(conversation, id).await? {
            Some(place) if place.class == Class::Message => {
                self.store.message_at(conversation, place.bucket, place.seq).await
            }
            _ => Ok(None),
        }
    }

    async fn event(&self, conversation: ConversationId, id: EventId) -> Result<Option<Entry>> {
        let Some(place) = self.store.place(conversation, id).await? else { return Ok(None) };
        self.store.pages.events.entry(conversation, place).await
    }

    async fn events(&self, conversation: ConversationId, after_seq: u64, limit: usize) -> Result<Vec<Entry>> {
        let store = Arc::clone(&self.store);
        let read = move |(conversation, after_seq, limit)| {
            let store = Arc::clone(&store);
            async move { store.events(conversation, after_seq, limit).await }
        };
        self.events.read((conversation, after_seq, limit), read).await
    }

    async fn last_seq(&self, conversation: ConversationId, until: u64) -> Result<u64> {
        self.store.last_seq(conversation, until).await
    }

    async fn peers(&self, user: UserId, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>> {
        self.store.peers.list((user, after), limit).await
    }

    async fn mark_read(&self, user: UserId, conversation: ConversationId, seq: u64) -> Result<u64> {
        self.store.marks.raise(user, (conversation, seq)).await
    }

    async fn read_marks(&self, user: UserId, conversations: &[ConversationId]) -> Result<Vec<u64>> {
        self.store.marks.read(user, conversations).await
    }
}

#[cfg(test)]
mod tests;
