//! Analytics: exact counts over messages, and the worker that keeps them.
//!
//! A fact is one message that was sent. The worker reads the log and records facts by ranges of `seq`, so that
//! each message is counted once whatever crashes or is redelivered. Facts hold ids only; names are looked up
//! by whoever shows them.
//!
//! Embedded: on SQLite. Every implementation passes the suite in `contract.rs`.

#[cfg(test)]
mod contract;
mod sqlite;
pub mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use types::{ConversationId, Region, Timestamp, UserId};

/// Which analytics store, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Config {
    /// One SQLite file on the local disk.
    Sqlite {
        /// The file; made when missing. Relative to the data folder.
        path: PathBuf,
    },
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
    /// What is stored cannot be understood. An operator must look.
    #[error("analytics is damaged: {0}")]
    Damaged(String),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;

/// One message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Its place in its shard.
    pub seq: u64,
    /// When the log stored it.
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
    /// The facts, in order of `seq`.
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
    /// not at all, also when the call is given up. No answer sees a part of one.
    async fn record(&self, range: Range<'_>) -> Result<()>;

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

/// Opens the analytics store that `config` names and brings its schema up to date. Relative paths are below
/// `data_dir`.
///
/// # Errors
/// When the disk refuses, or the schema is newer than this program.
pub async fn open(config: &Config, data_dir: &Path) -> Result<Arc<dyn Analytics>> {
    match config {
        Config::Sqlite { path } => sqlite::open(&data_dir.join(path)).await,
    }
}
