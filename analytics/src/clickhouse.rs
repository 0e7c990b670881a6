//! Analytics on ClickHouse.
//!
//! Facts are rows of one table; projections beside them hold the counts of whole days and hours, so that a question
//! reads single facts at the two ends of its range only. A part of the table carries its rows and its
//! projections together, so counts can never disagree with facts.
//!
//! ClickHouse has no transactions and forgets what it was told twice, so which ranges were recorded is noted in a
//! key-value bucket of NATS JetStream, a key per shard. A note changes by compare-and-set alone.
//!
//! # Why every fact is counted once
//!
//! A note says up to where its shard is recorded, and which range is *pending*: that was begun behind it. A range
//! is noted as pending, then inserted, then noted as recorded.
//!
//! 1. *An insert takes effect whole or not at all.* It is one block and so one part: see [`facts`].
//! 2. *An insert takes effect once.* It bears a token of its own, and the server drops a second insert with the
//!    token. It remembers 100,000 tokens, and refuses an insert that reaches it a minute after it was made:
//!    so it remembers a token as long as any request with it can come.
//! 3. *Rows behind the noted end are of the pending range alone*, for nothing is inserted that is not noted first,
//!    and nothing else is noted as pending until the last one is settled.
//! 4. *Who notes a range as recorded knows that its rows are there.* Either its own insert was answered well, and no
//!    one else has touched the note since it was written; or it has read the rows back.
//!
//! What a failed, stuck or killed recorder leaves behind is a pending range whose insert may have taken effect, may
//! still do so, or never will. The next recorder of the shard [settles](recording) it. When the rows are there the
//! range is recorded. When they are not, it claims the note and inserts *its own* facts up to the pending end
//! under the *pending* token: whichever insert comes first makes the other one void, and reading back tells which
//! one it was. Both begin at the same place and hold all facts up to their ends, so each is a whole range,
//! however differently the two were cut.
//!
//! One hole is left: a server that is killed between noting a token on its disk and putting the part in its place
//! answers a repetition well and yet has no rows. Nothing can take effect under such a token any more. So when an
//! insert was answered well, none under its token is under way, and yet the rows are not there, the note is taken
//! back and the range begins anew under another token.

mod counting;
mod facts;
mod migrating;
mod ranges;
mod recording;

use std::sync::Arc;
use std::time::Duration;

use ::clickhouse::Client;
use async_trait::async_trait;
use types::{ConversationId, Timestamp, UserId};

use crate::{Analytics, Bucket, Config, Error, Filter, Range, Ranked, Result};
use ranges::Notes;

pub(crate) use migrating::migrate;

/// The bounds on waiting for the server.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// For a piece of an insert to be taken.
    send: Duration,
    /// For the answer to an insert.
    insert: Duration,
    /// For the answer to a question.
    question: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { send: Duration::from_secs(10), insert: Duration::from_secs(30), question: Duration::from_secs(30) }
    }
}

/// An insert costs the server 20 to 45 ms of CPU, merges included, however few facts it holds: eight busy shards that
/// insert so often use a tenth to a fifth of a core.
const PACE: Duration = Duration::from_secs(2);

struct Store {
    client: Client,
    notes: Notes,
    patience: Patience,
    replicated: bool,
}

/// Connects to both servers. Makes nothing.
pub(crate) async fn open(config: &Config) -> Result<Arc<dyn Analytics>> {
    Ok(Arc::new(Store::open(config, Patience::default()).await?))
}

impl Store {
    async fn open(config: &Config, patience: Patience) -> Result<Self> {
        let Config::Clickhouse { database, replicated, ranges, .. } = config else {
            unreachable!("the caller has looked at the kind of store")
        };
        let client = client(config).with_database(database);
        migrating::check(&client, patience).await?;
        let notes = Notes::open(ranges).await?;
        Ok(Self { client, notes, patience, replicated: *replicated })
    }
}

/// A client without a database. It keeps connections and may be cloned.
fn client(config: &Config) -> Client {
    let Config::Clickhouse { url, user, password, .. } = config else {
        unreachable!("the caller has looked at the kind of store")
    };
    let client = Client::default().with_url(url).with_user(user);
    match password {
        Some(password) => client.with_password(password.expose()),
        None => client,
    }
}

#[async_trait]
impl Analytics for Store {
    async fn record(&self, range: Range<'_>) -> Result<()> {
        self.record_range(&range).await
    }

    fn pace(&self) -> Duration {
        PACE
    }

    async fn recorded_seq(&self, shard: u16) -> Result<u64> {
        self.end_of(shard).await
    }

    async fn top_users(&self, filter: &Filter, offset: u64, limit: usize) -> Result<Vec<Ranked<UserId>>> {
        self.rank_users(filter, offset, limit).await
    }

    async fn top_conversations(
        &self,
        filter: &Filter,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<Ranked<ConversationId>>> {
        self.rank_conversations(filter, offset, limit).await
    }

    async fn activity(&self, filter: &Filter, bucket: Bucket, limit: usize) -> Result<Vec<Ranked<Timestamp>>> {
        self.count_steps(filter, bucket, limit).await
    }

    async fn total(&self, filter: &Filter) -> Result<u64> {
        self.count_all(filter).await
    }
}

/// Waits for the server's answer, but not for ever.
async fn within<T>(patience: Duration, answer: impl Future<Output = ::clickhouse::error::Result<T>>) -> Result<T> {
    match tokio::time::timeout(patience, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::Unavailable(format!("ClickHouse has not answered for {} ms", patience.as_millis()))),
    }
}

impl From<::clickhouse::error::Error> for Error {
    fn from(error: ::clickhouse::error::Error) -> Self {
        use ::clickhouse::error::Error as Cause;
        /// What is asked for is not there: a column, a table, a database.
        const MISSING: [u32; 5] = [16, 36, 47, 60, 81];
        /// Of [`facts`]: an insert that was made too long ago.
        const THROWN: u32 = 395;
        match code(&error) {
            Some(code) if MISSING.contains(&code) => Self::Damaged(error.to_string()),
            Some(THROWN) => Self::Unavailable(format!("an insert came late, or clocks differ: {error}")),
            _ if matches!(error, Cause::SchemaMismatch(_) | Cause::NotEnoughData) => Self::Damaged(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

/// ClickHouse's number for an error that it answered with. It comes as text.
fn code(error: &::clickhouse::error::Error) -> Option<u32> {
    let ::clickhouse::error::Error::BadResponse(text) = error else { return None };
    let (_, number) = text.split_once("Code: ")?;
    number.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests;
