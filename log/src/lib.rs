//! The log: the ordered, durable record of every event, from which all else follows; and beside it the
//! unstored bus (notices, requests) on which edges and the directory service talk.
//!
//! A region's log is cut into a fixed number of shards; a conversation lies in one shard for good. Within a
//! shard `seq` grows with every event, so the events of a conversation are in one order for everybody.
//!
//! Embedded: on fjall. In a cluster: on NATS JetStream. Every implementation passes the suite in `contract.rs`.

#[cfg(test)]
mod contract;
mod embedded;
mod feed;
mod jetstream;
mod service;
pub mod trace;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use types::{
    ConversationId, Entry, Epoch, EventId, GroupId, Position, Region, ServerUrl, Timestamp, TraceContext, UserId,
};

pub use feed::{Delivery, Feed, Topics};
pub use service::{Request, Requests};

/// Which log, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Config {
    /// In this process, on the local disk.
    Embedded {
        /// The folder; made when missing. Relative to the data folder.
        path: PathBuf,
        /// How long events are kept once every consumer has taken them, in hours.
        retention_hours: u32,
        /// How long an event id is remembered, in seconds: see [`Log::append`].
        duplicate_window_seconds: u32,
    },
    /// On NATS servers with JetStream, 2.14 or later. Made and brought up to date by [`migrate`].
    #[serde(rename = "jetstream")]
    JetStream {
        /// Where the servers are: `nats://host:4222`, or `tls://…`, with a name and a password before the host or
        /// a token if they ask for one. One that answers is enough.
        servers: Vec<ServerUrl>,
        /// What the names of streams, subjects and buckets begin with, so that several systems can share servers:
        /// letters, digits, `_` and `-`.
        #[serde(default = "default_name")]
        name: String,
        /// A file of NATS credentials, if the servers ask for them.
        #[serde(default)]
        credentials: Option<PathBuf>,
        /// The number of shards. Fixed for good when the log is made.
        #[serde(default = "default_shards")]
        shards: u16,
        /// How many servers hold each event.
        #[serde(default = "default_replicas")]
        replicas: u8,
        /// How long events are kept, in hours. A consumer that is further behind loses events.
        #[serde(default = "default_retention_hours")]
        retention_hours: u32,
        /// How long an event id is remembered, in seconds: see [`Log::append`].
        #[serde(default = "default_duplicate_window_seconds")]
        duplicate_window_seconds: u32,
    },
}

fn default_name() -> String {
    "rookery".into()
}

fn default_shards() -> u16 {
    8
}

fn default_replicas() -> u8 {
    3
}

fn default_retention_hours() -> u32 {
    72
}

fn default_duplicate_window_seconds() -> u32 {
    120
}

impl Config {
    /// How long events are kept, in hours.
    #[must_use]
    pub const fn retention_hours(&self) -> u32 {
        match self {
            Self::Embedded { retention_hours, .. } | Self::JetStream { retention_hours, .. } => *retention_hours,
        }
    }

    /// How long an event id is remembered, in seconds.
    #[must_use]
    pub const fn duplicate_window_seconds(&self) -> u32 {
        match self {
            Self::Embedded { duplicate_window_seconds, .. } | Self::JetStream { duplicate_window_seconds, .. } => {
                *duplicate_window_seconds
            }
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::Embedded { path: "log".into(), retention_hours: 72, duplicate_window_seconds: 120 }
    }
}

/// What went wrong, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be stored or read now; the same call may succeed later. An append that failed so may
    /// still have been stored: re-send it with the same event id.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// The call can never succeed as it is: an event that is too large, a shard that does not exist.
    #[error("the log refused: {0}")]
    Refused(String),
    /// What is stored cannot be understood. An operator must look.
    #[error("the log is damaged: {0}")]
    Damaged(String),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// An event on its way into the log.
#[derive(Clone, Debug)]
pub struct Append {
    /// Where it happens.
    pub conversation: ConversationId,
    /// The event's id, by which a repetition is known.
    pub id: EventId,
    /// The event's JSON, at most [`MAX_PAYLOAD_BYTES`].
    pub payload: Bytes,
    /// The span that appends it, if its trace is recorded: carried beside the payload to whoever reads the event.
    pub trace: Option<TraceContext>,
}

/// The largest payload, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 256 * 1024;

/// The log's answer to an append: the event is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Where it is stored.
    pub position: Position,
    /// When it was stored. For a duplicate, when it was stored first.
    pub at: Timestamp,
    /// Whether the id was stored before; then nothing was appended and the position is the first one's.
    pub duplicate: bool,
}

/// Resolves when the event is durable. Dropping it does not take the append back.
pub type Receipt = futures_util::future::BoxFuture<'static, Result<Appended>>;

/// The last event of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its place.
    pub position: Position,
    /// When it was stored.
    pub at: Timestamp,
}

/// The shape of a region's log, fixed when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The region whose conversations it orders.
    pub region: Region,
    /// The number of shards.
    pub shards: u16,
    /// The incarnation.
    pub epoch: Epoch,
}

/// A place to listen: live events and unstored notices come by topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A group: its stored events, and notices such as typing.
    Group(GroupId),
    /// A user: the stored events of all its direct conversations, and notices for its sessions.
    User(UserId),
    /// What edges say of a user's presence, for those that want to know. Notices only.
    Presence(UserId),
    /// Changes that every edge must know at once, such as a removed member. Notices only.
    Directory,
}

/// A durable reader of one shard, by name. All processes that give the same name share its progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Consumer {
    /// The role that reads, such as `ingest`.
    pub group: &'static str,
    /// The shard.
    pub shard: u16,
}

/// How far a consumer is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Events stored and not acknowledged.
    pub events: u64,
    /// The last acknowledged `seq`, 0 where there is none.
    pub acked_seq: u64,
    /// Where the shard ends: see [`Log::ends`].
    pub end_seq: u64,
}

/// The ordered, durable record of every event, and the bus beside it. Cheap to share; every method may be
/// called from many tasks at once.
#[async_trait]
pub trait Log: Send + Sync + 'static {
    /// The log's shape. It does not change while the process runs.
    fn layout(&self) -> &Layout;

    /// Hands an event to the log; waits only for room in the queue. Events that one caller hands over one
    /// after the other into one conversation are stored in that order. The receipt resolves once the event is
    /// on disk as safely as the configuration says, and not before; nobody sees it earlier.
    ///
    /// An id that was stored less than the duplicate window ago is not stored again: the receipt tells the
    /// first one's position with `duplicate`. Two appends of one id at the same time store one event. An append
    /// that has failed may be stored some seconds later yet, but no later than that.
    async fn append(&self, append: Append) -> Result<Receipt>;

    /// How long an event id is certainly remembered.
    fn duplicate_window(&self) -> Duration;

    /// How long an event is certainly kept after it was stored, taken by every consumer or not.
    fn retention(&self) -> Duration;

    /// The last event of each conversation, `None` where there is none or it has left the log. Never behind an
    /// append whose receipt has resolved, whichever process appended. Answers come in the order of the question.
    async fn heads(&self, conversations: &[ConversationId]) -> Result<Vec<Option<Head>>>;

    /// The last `seq` of each shard; where nothing was ever stored, the one before the first that will be. Never behind
    /// an append whose receipt has resolved, whichever process appended, and the lag that is asked for afterwards counts
    /// up to there.
    async fn ends(&self) -> Result<Vec<u64>>;

    /// The conversation's events with a greater `seq` than `after_seq`, oldest first, at most `limit`; fewer
    /// only when there are no more. Never behind an append whose receipt has resolved. Events that have left
    /// the log are missing: the first one's `prev` then tells.
    async fn read(&self, conversation: ConversationId, after_seq: u64, limit: usize) -> Result<Vec<Entry>>;

    /// A new feed, with no topics yet.
    async fn feed(&self) -> Result<Feed>;

    /// Sends a notice to all who listen to the topic now. It is not stored and may be lost.
    async fn notify(&self, topic: Topic, notice: Bytes) -> Result<()>;

    /// Asks a service and waits for its answer, at most `timeout`. The request may have been carried out
    /// although an error is returned.
    async fn request(&self, service: &'static str, payload: Bytes, timeout: Duration) -> Result<Bytes>;

    /// The requests to a service. Each goes to one of all those that serve it. Ends serving when dropped.
    async fn serve(&self, service: &'static str) -> Result<Requests>;

    /// The events after the consumer's progress, in order of `seq`, at most `limit`, waiting until there is at
    /// least one. What was given and is not acknowledged is given again: after a while, to another process,
    /// or to the same one when it asks from anew (`resume`). Cancel-safe.
    async fn fetch(&self, consumer: Consumer, limit: usize) -> Result<Vec<Entry>>;

    /// Acknowledges everything up to and with `seq`: it is never given to this consumer again.
    async fn ack(&self, consumer: Consumer, seq: u64) -> Result<()>;

    /// Forgets what `fetch` gave and nobody acknowledged, so that the next `fetch` gives it again.
    async fn resume(&self, consumer: Consumer) -> Result<()>;

    /// How far the consumer is behind, as this process was last told: cheap, and never ahead of the truth.
    async fn lag(&self, consumer: Consumer) -> Result<Lag>;

    /// Lets what was handed over become durable, then refuses more. For a graceful end.
    async fn close(&self);
}

/// Opens the log that `config` names; an embedded one is made when missing. Relative paths are below
/// `data_dir`. `region` names whose log it is.
///
/// # Errors
/// When another process has it open, the disk refuses, or it was made for another region; on servers, when they
/// cannot be reached, or hold no log with these settings: see [`migrate`].
pub async fn open(config: &Config, data_dir: &Path, region: Region) -> Result<Arc<dyn Log>> {
    match Place::of(config, data_dir, region) {
        Place::Embedded(options) => embedded::open(options).await,
        Place::JetStream(options) => jetstream::open(options).await,
    }
}

/// Makes the log that `config` names, or brings its settings up to date. Safe to run twice, and from two places at
/// once.
///
/// # Errors
/// [`Error::Refused`] when a later program has made the settings, or the number of shards is another.
pub async fn migrate(config: &Config, data_dir: &Path, region: Region) -> Result<()> {
    match Place::of(config, data_dir, region) {
        Place::Embedded(options) => embedded::open(options).await?.close().await,
        Place::JetStream(options) => jetstream::migrate(&options).await?,
    }
    Ok(())
}

/// Where a log is, in the words of its implementation.
enum Place {
    Embedded(embedded::Options),
    JetStream(jetstream::Options),
}

impl Place {
    fn of(config: &Config, data_dir: &Path, region: Region) -> Self {
        let retention = Duration::from_secs(u64::from(config.retention_hours()) * 3600);
        let duplicate_window = Duration::from_secs(u64::from(config.duplicate_window_seconds()));
        match config {
            Config::Embedded { path, .. } => {
                Self::Embedded(embedded::Options::new(data_dir.join(path), region, retention, duplicate_window))
            }
            Config::JetStream { servers, name, credentials, shards, replicas, .. } => {
                Self::JetStream(jetstream::Options {
                    servers: servers.iter().map(|server| server.expose().to_owned()).collect(),
                    name: name.clone(),
                    credentials: credentials.as_ref().map(|path| data_dir.join(path)),
                    region,
                    shards: *shards,
                    replicas: *replicas,
                    retention,
                    duplicate_window,
                })
            }
        }
    }
}
