//! Analytics: exact counts over messages, and the worker that keeps them.
//!
//! A fact is one message that was sent. The worker reads the log and records facts by ranges of `seq`, so that
//! each message is counted once whatever crashes or is redelivered. Facts hold ids only; names are looked up
//! by whoever shows them.
//!
//! Embedded: on SQLite. In a cluster: on ClickHouse. Every implementation passes the suite in `contract.rs`.

mod clickhouse;
#[cfg(test)]
mod contract;
mod span;
mod sqlite;
pub mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use types::{ConversationId, Region, Secret, ServerUrl, Timestamp, UserId};

/// Which analytics store, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Config {
    /// One SQLite file on the local disk.
    Sqlite {
        /// The file; made when missing. Relative to the data folder.
        path: PathBuf,
    },
    /// A ClickHouse server, and a NATS server that notes which ranges were recorded.
    Clickhouse {
        /// Where it answers over HTTP: `http://127.0.0.1:8123`.
        url: String,
        /// The database; `rookery migrate` makes it.
        #[serde(default = "default_database")]
        database: String,
        /// Who we are.
        #[serde(default = "default_user")]
        user: String,
        /// What proves it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password: Option<Secret>,
        /// Whether `rookery migrate` makes tables that are replicated. The server must then know its `{shard}`
        /// and `{replica}`, and have a Keeper.
        #[serde(default)]
        replicated: bool,
        /// Where ranges are noted before they are inserted.
        ranges: Ranges,
    },
}

/// A key-value bucket of NATS JetStream in which the worker notes its ranges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ranges {
    /// The servers: `nats://127.0.0.1:4222`, with a name and a password before the host or a token if they ask for one.
    pub servers: Vec<ServerUrl>,
    /// The bucket; `rookery migrate` makes it.
    #[serde(default = "default_bucket")]
    pub name: String,
    /// A file with the credentials of a NATS user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PathBuf>,
    /// On how many servers the bucket is kept: 1, 3 or 5.
    #[serde(default = "default_replicas")]
    pub replicas: u8,
}

fn default_database() -> String {
    "rookery".into()
}

fn default_user() -> String {
    "default".into()
}

fn default_bucket() -> String {
    "rookery-analytics".into()
}

fn default_replicas() -> u8 {
    1
}

impl Default for Config {
    fn default() -> Self {
        Self::Sqlite { path: "analytics.sqlite".into() }
    }
}

/// What went wrong, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be stored or read now; the same call may succeed later.
    #[error("analytics is unavailable: {0}")]
    Unavailable(String),
    /// The range does not begin where the last one ended: another worker has gone on from here, or this one
    /// has skipped something. Nothing was recorded.
    #[error("facts of shard {shard} were recorded up to {recorded_seq}, not up to {after_seq}")]
    OutOfStep {
        /// The shard.
        shard: u16,
        /// Where the caller's range begins.
        after_seq: u64,
        /// Where the last recorded range ends.
        recorded_seq: u64,
    },
    /// The call can never succeed as it is: a range of too many facts.
    #[error("analytics refused: {0}")]
    Refused(String),
    /// What is stored cannot be understood, or has another schema. An operator must look.
    #[error("analytics is damaged: {0}")]
    Damaged(String),
}

/// The most facts that one range may have.
pub const MAX_FACTS: usize = 100_000;

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// One message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Its place in its shard.
    pub seq: u64,
    /// When it was said: when the log stored it, or long before, for one that was imported.
    pub at: Timestamp,
    /// The home of its sender.
    pub region: Region,
    /// Where it was sent.
    pub conversation: ConversationId,
    /// Who sent it.
    pub sender: UserId,
}

/// A stretch of a shard, wholly read: the facts in it are all there are.
#[derive(Clone, Debug)]
pub struct Range<'a> {
    /// The shard.
    pub shard: u16,
    /// The `seq` before the first of the range: where the range before it ended.
    pub after_seq: u64,
    /// The last `seq` of the range, a fact or not.
    pub through_seq: u64,
    /// The facts, in order of `seq`; at most [`MAX_FACTS`].
    pub facts: &'a [Fact],
}

/// Which messages to count. All bounds hold together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// From this moment on.
    pub start: Option<Timestamp>,
    /// Before this moment.
    pub end: Option<Timestamp>,
    /// By senders of this region only.
    pub region: Option<Region>,
    /// In direct conversations too, and not in groups only.
    pub include_direct: bool,
}

/// A stretch of a ranking: most messages first, equal counts in order of the id's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranked<T> {
    /// Whose count it is.
    pub key: T,
    /// How many messages.
    pub messages: u64,
}

/// The length of a step of [`Analytics::activity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bucket {
    /// From a full hour UTC.
    Hour,
    /// From midnight UTC.
    Day,
}

/// Exact counts over messages. Cheap to share; every method may be called from many tasks at once.
#[async_trait]
pub trait Analytics: Send + Sync + 'static {
    /// Records a range, durably on return, if it begins where the last range of its shard ended and does not
    /// end before it begins; else [`Error::OutOfStep`], and nothing is recorded. A range is recorded whole or
    /// not at all, also when the call fails or is given up: which of the two, [`Analytics::recorded_seq`] and the
    /// next call for the shard know at the latest. Of several calls for a range at the same time at most one
    /// succeeds. No answer sees a part of a range.
    async fn record(&self, range: Range<'_>) -> Result<()>;

    /// How long a shard rests after everything that there was is recorded. A busy one then records many events at
    /// once; it is also how far its counts are behind.
    fn pace(&self) -> Duration;

    /// Where the last recorded range of a shard ended, 0 when there is none.
    async fn recorded_seq(&self, shard: u16) -> Result<u64>;

    /// The users who sent the most messages, after the first `offset`, at most `limit`.
    async fn top_users(&self, filter: &Filter, offset: u64, limit: usize) -> Result<Vec<Ranked<UserId>>>;

    /// The conversations with the most messages, after the first `offset`, at most `limit`.
    async fn top_conversations(
        &self,
        filter: &Filter,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<Ranked<ConversationId>>>;

    /// Messages per hour or day, oldest first, keyed by each step's beginning; steps without messages are left
    /// out. At most `limit` steps. The steps at both ends of the filter's range count only what lies in it, so
    /// all steps sum up to [`Analytics::total`]; the first one may begin before the range does.
    async fn activity(&self, filter: &Filter, bucket: Bucket, limit: usize) -> Result<Vec<Ranked<Timestamp>>>;

    /// How many messages there are in all.
    async fn total(&self, filter: &Filter) -> Result<u64>;
}

/// Opens the analytics store that `config` names. Relative paths are below `data_dir`. SQLite is made when
/// missing and brought to the present schema; ClickHouse is only looked at: see [`migrate`].
///
/// # Errors
/// When the disk refuses or a server does not answer, and when the schema is newer than this program (SQLite) or
/// older (ClickHouse).
pub async fn open(config: &Config, data_dir: &Path) -> Result<Arc<dyn Analytics>> {
    match config {
        Config::Sqlite { path } => sqlite::open(&data_dir.join(path)).await,
        Config::Clickhouse { .. } => clickhouse::open(config).await,
    }
}

/// Makes the analytics store that `config` names when it is missing, and brings it to the present schema. May be
/// called again, and from two places at once.
///
/// # Errors
/// When the disk refuses or a server does not answer, and when the schema is newer than this program.
pub async fn migrate(config: &Config, data_dir: &Path) -> Result<()> {
    match config {
        Config::Sqlite { path } => sqlite::open(&data_dir.join(path)).await.map(drop),
        Config::Clickhouse { .. } => clickhouse::migrate(config).await,
    }
}
