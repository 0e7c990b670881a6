//! Counts.

use std::time::Duration;

use analytics::{Analytics, Bucket, Error, Filter, Range, Ranked, Result};
use async_trait::async_trait;
use types::{ConversationId, Timestamp, UserId};

use super::Late;

/// Before it is open there is nothing to wait for: nothing is recorded.
const NO_PACE: Duration = Duration::ZERO;

#[async_trait]
impl Analytics for Late<dyn Analytics> {
    async fn record(&self, range: Range<'_>) -> Result<()> {
        self.there(Error::Unavailable)?.record(range).await
    }

    fn pace(&self) -> Duration {
        self.there(|_| ()).map_or(NO_PACE, Analytics::pace)
    }

    async fn recorded_seq(&self, shard: u16) -> Result<u64> {
        self.there(Error::Unavailable)?.recorded_seq(shard).await
    }

    async fn top_users(&self, filter: &Filter, offset: u64, limit: usize) -> Result<Vec<Ranked<UserId>>> {
        self.there(Error::Unavailable)?.top_users(filter, offset, limit).await
    }

    async fn top_conversations(
        &self,
        filter: &Filter,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<Ranked<ConversationId>>> {
        self.there(Error::Unavailable)?.top_conversations(filter, offset, limit).await
    }

    async fn activity(&self, filter: &Filter, bucket: Bucket, limit: usize) -> Result<Vec<Ranked<Timestamp>>> {
        self.there(Error::Unavailable)?.activity(filter, bucket, limit).await
    }

    async fn total(&self, filter: &Filter) -> Result<u64> {
        self.there(Error::Unavailable)?.total(filter).await
    }
}
