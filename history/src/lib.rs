//! History: every event of every conversation, stored for good; messages in their present state for pages;
//! and what each user has read.
//!
//! Only ingest stores events here, from the log, in order; edges read, and set read marks. What is not yet
//! stored an edge takes from the tail of the log.
//!
//! Embedded: on fjall. In a cluster: on a CQL server, ScyllaDB or Cassandra. Every implementation passes the
//! suite in `contract.rs`.

#[cfg(test)]
mod contract;
mod embedded;
mod message;
mod reading;
mod scylla;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use types::{Content, ConversationId, Entry, EventId, Position, Secret, Timestamp, UserId};

/// Which history, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Config {
    /// In this process, on the local disk.
    Embedded {
        /// The folder; made when missing. Relative to the data folder.
        path: PathBuf,
    },
    /// On a CQL server.
    Scylla(CqlServer),
}

/// A CQL server, ScyllaDB or Cassandra, and where on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CqlServer {
    /// Where to begin: `host` or `host:port` of a few nodes. The others are learnt from them.
    pub nodes: Vec<String>,
    /// The keyspace, made by [`migrate`] when missing: letters, digits and `_`, at most 48.
    #[serde(default = "CqlServer::keyspace")]
    pub keyspace: String,
    /// The datacenter whose nodes are asked, and no others. Without one, any node is. All processes of a cluster must
    /// name the same: in another one a tail may be seen before the events that it is the end of.
    #[serde(default)]
    pub local_datacenter: Option<String>,
    /// Who we are, when the server asks.
    #[serde(default)]
    pub username: Option<String>,
    /// What proves it.
    #[serde(default)]
    pub password: Option<Secret>,
    /// How a keyspace that is made keeps its copies: the options of `NetworkTopologyStrategy`, such as
    /// `{ replication_factor = 3 }` for three in each datacenter there is, or `{ eu = 3, us = 3 }`.
    #[serde(default = "CqlServer::replication")]
    pub replication: BTreeMap<String, u8>,
    /// How long one request may take, in milliseconds, repetitions by the driver counted in.
    #[serde(default = "CqlServer::request_timeout_ms")]
    pub request_timeout_ms: u32,
}

impl CqlServer {
    fn keyspace() -> String {
        "rookery".into()
    }

    fn replication() -> BTreeMap<String, u8> {
        BTreeMap::from([("replication_factor".into(), 3)])
    }

    const fn request_timeout_ms() -> u32 {
        5_000
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::Embedded { path: "history".into() }
    }
}

/// What went wrong, by what the caller can do about it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// It could not be stored or read now; the same call may succeed later.
    #[error("history is unavailable: {0}")]
    Unavailable(String),
    /// What is stored cannot be understood. An operator must look.
    #[error("history is damaged: {0}")]
    Damaged(String),
    /// It is not as this program needs it: not migrated, or named in a way that cannot be. Only [`open`] and [`migrate`]
    /// say so, and waiting does not help.
    #[error("history is not as it must be: {0}")]
    Unfit(String),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// A message in its present state: as sent, then edited or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The id of the event that sent it.
    pub id: EventId,
    /// Where it was sent.
    pub conversation: ConversationId,
    /// Its place in the conversation.
    pub seq: u64,
    /// Who sent it.
    pub sender: UserId,
    /// What it says now; [`Content::withdrawn`] when it was deleted.
    pub content: Content,
    /// When the log stored it. When it was said may be another time: see [`Content::said_at`].
    pub created_at: Timestamp,
    /// When it last changed: `created_at`, or the time of the last edit or of the deletion.
    pub updated_at: Timestamp,
    /// Whether its content was withdrawn.
    pub deleted: bool,
}

/// Where what is stored of a conversation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The place of the last stored event.
    pub position: Position,
    /// When the log stored that event.
    pub at: Timestamp,
}

/// The end of what is stored of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The place of the last stored event. Everything before it is stored too.
    pub position: Position,
    /// When the log stored that event.
    pub at: Timestamp,
    /// The last message, in its present state.
    pub last_message: Option<Message>,
}

/// Which messages of a conversation. All bounds hold together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Page {
    /// Only messages with a smaller `seq`.
    pub before_seq: Option<u64>,
    /// Only messages with a greater `seq`.
    pub after_seq: Option<u64>,
    /// Only messages that the log stored at this time or later, whenever they were said. Relies on that within a conversation
    /// times do not fall as `seq` grows. Where they do, because another machine goes on with the log whose clock is behind,
    /// the page begins at one of the places where the time passes this one; the order is that of `seq` all the same.
    pub since: Option<Timestamp>,
    /// Only messages of this sender.
    pub sender: Option<UserId>,
    /// The order of the answer, and so which messages are cut off by `limit`.
    pub order: Order,
    /// At most so many.
    pub limit: usize,
}

/// The order of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Newest first.
    #[default]
    Desc,
    /// Oldest first.
    Asc,
}

/// Every event of every conversation. Cheap to share; every method may be called from many tasks at once.
#[async_trait]
pub trait History: Send + Sync + 'static {
    /// Stores events, durably on return. The events of one conversation come in order of `seq`, none left out
    /// since the last call; repeating events that are stored already, in any mixture, changes nothing. A reader
    /// that sees a conversation's [`Tail`] sees everything up to it.
    ///
    /// A message gets its row; an edit or a deletion changes the row of its message as well, when the message
    /// is there, is not deleted, and lies before it. Every event, of a known kind or not, stands as its own row.
    async fn store(&self, entries: &[Entry]) -> Result<()>;

    /// The tails of conversations, `None` where nothing is stored, in the order of the question.
    async fn tails(&self, conversations: &[ConversationId]) -> Result<Vec<Option<Tail>>>;

    /// As [`History::tails`] without the last messages, which cost as much again: for the order of conversations, and
    /// for where the log goes on.
    async fn ends(&self, conversations: &[ConversationId]) -> Result<Vec<Option<End>>>;

    /// A page of messages. A page of a part of them costs in the size of the page and not of the conversation,
    /// for a sender too.
    async fn messages(&self, conversation: ConversationId, page: &Page) -> Result<Vec<Message>>;

    /// One message by its id.
    async fn message(&self, conversation: ConversationId, id: EventId) -> Result<Option<Message>>;

    /// The stored event with this id, of any kind: whether an id was used, and for what.
    async fn event(&self, conversation: ConversationId, id: EventId) -> Result<Option<Entry>>;

    /// Events of all kinds with a greater `seq`, oldest first, at most `limit`, payloads as they were stored.
    async fn events(&self, conversation: ConversationId, after_seq: u64, limit: usize) -> Result<Vec<Entry>>;

    /// The `seq` of the last stored event of any kind up to and with `until`, 0 where there is none.
    async fn last_seq(&self, conversation: ConversationId, until: u64) -> Result<u64>;

    /// The users with whom `user` has a direct conversation of at least one stored event, in order of their
    /// ids, beginning after `after`, at most `limit`.
    async fn peers(&self, user: UserId, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>>;

    /// Notes that `user` has read up to and with `seq`. A smaller `seq` than before changes nothing. Durable on
    /// return. Gives the mark as it now stands.
    async fn mark_read(&self, user: UserId, conversation: ConversationId, seq: u64) -> Result<u64>;

    /// How far `user` has read each conversation, 0 where it has not, in the order of the question.
    async fn read_marks(&self, user: UserId, conversations: &[ConversationId]) -> Result<Vec<u64>>;
}

/// Opens the history that `config` names; an embedded one is made when missing, one on a server never is: see
/// [`migrate`]. Relative paths are below `data_dir`.
///
/// # Errors
/// When another process has it open, the disk refuses, or the server does not answer; [`Error::Unfit`] when its schema
/// is older than this program's. A newer one is taken: schemas change so that the program before still works.
pub async fn open(config: &Config, data_dir: &Path) -> Result<Arc<dyn History>> {
    match config {
        Config::Embedded { path } => Ok(embedded::open(data_dir.join(path)).await?),
        Config::Scylla(server) => Ok(scylla::open(server).await?),
    }
}

/// Brings the history that `config` names to this program's schema, making what is missing. May be run again, and
/// from many places at once: one does it, the others wait.
///
/// # Errors
/// As [`open`]; and [`Error::Damaged`] when the schema is newer than this program's, for it never goes back.
pub async fn migrate(config: &Config, data_dir: &Path) -> Result<()> {
    match config {
        Config::Embedded { .. } => open(config, data_dir).await.map(drop),
        Config::Scylla(server) => scylla::migrate(server).await,
    }
}
