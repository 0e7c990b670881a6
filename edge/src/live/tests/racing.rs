//! A log in which something happens while it is read.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use log::{Append, Consumer, Feed, Head, Lag, Layout, Log, Receipt, Requests, Result, Topic};
use parking_lot::Mutex;
use types::{ConversationId, Entry};

/// Passes everything on, and once something happens while heads are asked for.
pub(super) struct Racing {
    log: Arc<dyn Log>,
    race: Mutex<Option<Race>>,
}

/// What happens while heads are asked for.
pub(super) struct Race {
    /// The conversation whose head is told as it was before, if there is one; of all others it is told as it is after.
    pub(super) seen_before: Option<ConversationId>,
    pub(super) happens: BoxFuture<'static, ()>,
}

impl Racing {
    pub(super) fn over(log: Arc<dyn Log>) -> Self {
        Self { log, race: Mutex::default() }
    }

    /// Has this happen when heads are next asked for.
    pub(super) fn set(&self, race: Race) {
        *self.race.lock() = Some(race);
    }
}

#[async_trait]
impl Log for Racing {
    fn layout(&self) -> &Layout {
        self.log.layout()
    }

    fn duplicate_window(&self) -> Duration {
        self.log.duplicate_window()
    }

    fn retention(&self) -> Duration {
        self.log.retention()
    }

    async fn heads(&self, conversations: &[ConversationId]) -> Result<Vec<Option<Head>>> {
        let before = self.log.heads(conversations).await?;
        let race = self.race.lock().take();
        let Some(Race { seen_before, happens }) = race else { return Ok(before) };
        happens.await;
        let after = self.log.heads(conversations).await?;
        let heads = conversations.iter().zip(before.into_iter().zip(after));
        Ok(heads.map(|(of, (before, after))| if seen_before == Some(*of) { before } else { after }).collect())
    }

    async fn ends(&self) -> Result<Vec<u64>> {
        self.log.ends().await
    }

    async fn read(&self, conversation: ConversationId, after_seq: u64, limit: usize) -> Result<Vec<Entry>> {
        self.log.read(conversation, after_seq, limit).await
    }

    async fn append(&self, append: Append) -> Result<Receipt> {
        self.log.append(append).await
    }

    async fn feed(&self) -> Result<Feed> {
        self.log.feed().await
    }

    async fn notify(&self, topic: Topic, notice: Bytes) -> Result<()> {
        self.log.notify(topic, notice).await
    }

    async fn request(&self, service: &'static str, payload: Bytes, timeout: Duration) -> Result<Bytes> {
        self.log.request(service, payload, timeout).await
    }

    async fn serve(&self, service: &'static str) -> Result<Requests> {
        self.log.serve(service).await
    }

    async fn fetch(&self, consumer: Consumer, limit: usize) -> Result<Vec<Entry>> {
        self.log.fetch(consumer, limit).await
    }

    async fn ack(&self, consumer: Consumer, seq: u64) -> Result<()> {
        self.log.ack(consumer, seq).await
    }

    async fn resume(&self, consumer: Consumer) -> Result<()> {
        self.log.resume(consumer).await
    }

    async fn lag(&self, consumer: Consumer) -> Result<Lag> {
        self.log.lag(consumer).await
    }

    async fn close(&self) {
        self.log.close().await;
    }
}
