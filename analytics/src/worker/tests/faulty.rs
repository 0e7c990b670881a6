//! A store that fails as a test tells it to.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;
use tokio::sync::watch;
use types::{ConversationId, Timestamp, UserId};

use super::everything;
use crate::worker::*;
use crate::{Bucket, Error, Filter, Ranked};

/// What happens to one call of `record`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// It fails, and nothing was recorded.
    Refused,
    /// It was recorded and yet fails.
    AnswerLost,
    /// It does not come to an end, and nothing was recorded.
    Stuck,
    /// It was recorded and yet does not come to an end.
    StuckAfterwards,
    /// Another worker records the same range first.
    Overtaken,
}

/// A store that fails as it is told, and tells when it is used.
pub(super) struct Faulty {
    pub(super) store: Arc<dyn Analytics>,
    pub(super) faults: Mutex<VecDeque<Fault>>,
    pub(super) seen: watch::Sender<Seen>,
    pub(super) pace: Duration,
}

/// What a store has seen, since it was opened but for the facts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) calls: u64,
    pub(super) facts: u64,
    pub(super) stuck: u64,
}

impl Faulty {
    pub(super) async fn open(folder: &Path) -> Self {
        let store = crate::open(&crate::Config::default(), folder).await.unwrap();
        let facts = store.total(&everything()).await.unwrap();
        let (pace, seen) = (store.pace(), watch::Sender::new(Seen { facts, ..Seen::default() }));
        Self { store, faults: Mutex::default(), seen, pace }
    }

    pub(super) fn will(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    async fn record_and_tell(&self, range: Range<'_>) -> crate::Result<()> {
        let facts = range.facts.len() as u64;
        self.store.record(range).await?;
        self.seen.send_modify(|seen| seen.facts += facts);
        Ok(())
    }

    async fn stick(&self) -> crate::Result<()> {
        self.seen.send_modify(|seen| seen.stuck += 1);
        std::future::pending().await
    }

    pub(super) async fn wait_until(&self, is_so: impl FnMut(&Seen) -> bool) {
        let mut seen = self.seen.subscribe();
        let waited = timeout(Duration::from_secs(60), seen.wait_for(is_so)).await;
        waited.expect("the worker has come to a halt").unwrap();
    }
}

#[async_trait]
impl Analytics for Faulty {
    async fn record(&self, range: Range<'_>) -> crate::Result<()> {
        self.seen.send_modify(|seen| seen.calls += 1);
        let fault = self.faults.lock().unwrap().pop_front();
        match fault {
            None => self.record_and_tell(range).await,
            Some(Fault::Refused) => Err(Error::Unavailable("it was told to".into())),
            Some(Fault::AnswerLost) => {
                self.record_and_tell(range).await?;
                Err(Error::Unavailable("it was told to".into()))
            }
            Some(Fault::Stuck) => self.stick().await,
            Some(Fault::StuckAfterwards) => {
                self.record_and_tell(range).await?;
                self.stick().await
            }
            Some(Fault::Overtaken) => {
                self.record_and_tell(range.clone()).await?;
                self.record_and_tell(range).await
            }
        }
    }

    fn pace(&self) -> Duration {
        self.pace
    }

    async fn recorded_seq(&self, shard: u16) -> crate::Result<u64> {
        self.store.recorded_seq(shard).await
    }

    async fn top_users(&self, filter: &Filter, offset: u64, limit: usize) -> crate::Result<Vec<Ranked<UserId>>> {
        self.store.top_users(filter, offset, limit).await
    }

    async fn top_conversations(
        &self,
        filter: &Filter,
        offset: u64,
        limit: usize,
    ) -> crate::Result<Vec<Ranked<ConversationId>>> {
        self.store.top_conversations(filter, offset, limit).await
    }

    async fn activity(&self, filter: &Filter, bucket: Bucket, limit: usize) -> crate::Result<Vec<Ranked<Timestamp>>> {
        self.store.activity(filter, bucket, limit).await
    }

    async fn total(&self, filter: &Filter) -> crate::Result<u64> {
        self.store.total(filter).await
    }
}
