//! A log that fails when it is told to, over a real one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use log::{Append, Consumer, Error, Feed, Head, Lag, Layout, Log, Receipt, Requests, Result, Topic};
use tokio::sync::Notify;
use types::{ConversationId, Entry};

/// The shards that it says it has.
const SHARDS: u16 = 4;

/// A log that fails when it is told to.
pub(super) struct FaultyLog {
    log: Arc<dyn Log>,
    layout: Layout,
    /// The shard that is away; [`SHARDS`] when there is none.
    away: AtomicU16,
    /// Appends that are yet to be refused.
    to_refuse: AtomicUsize,
    /// Appends that are yet to be stored without saying so.
    to_lose: AtomicUsize,
    refused: Notify,
}

impl FaultyLog {
    pub(super) fn over(log: Arc<dyn Log>) -> Self {
        let layout = Layout { shards: SHARDS, ..log.layout().clone() };
        Self {
            log,
            layout,
            away: AtomicU16::new(SHARDS),
            to_refuse: AtomicUsize::new(0),
            to_lose: AtomicUsize::new(0),
            refused: Notify::new(),
        }
    }

    /// From now on one shard answers nothing.
    pub(super) fn lose_shard(&self, shard: u16) {
        self.away.store(shard, Ordering::SeqCst);
    }

    /// All shards answer.
    pub(super) fn find_shard(&self) {
        self.away.store(SHARDS, Ordering::SeqCst);
    }

    fn check(&self, conversations: &[ConversationId]) -> Result<()> {
        let away = self.away.load(Ordering::SeqCst);
        if conversations.iter().any(|conversation| conversation.shard(SHARDS) == away) {
            return Err(unavailable());
        }
        Ok(())
    }

    /// The next so many appends are unavailable.
    pub(super) fn refuse_appends(&self, count: usize) {
        self.to_refuse.store(count, Ordering::SeqCst);
    }

    /// The next so many appends are stored, and their receipts say that they are not.
    pub(super) fn lose_receipts(&self, count: usize) {
        self.to_lose.store(count, Ordering::SeqCst);
    }

    /// Waits until an append was refused.
    pub(super) async fn refused(&self) {
        self.refused.notified().await;
    }
}

/// Counts one down, and tells whether there was one.
fn take(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1)).is_ok()
}

fn unavailable() -> Error {
    Error::Unavailable("a test says so".into())
}

#[async_trait]
impl Log for FaultyLog {
    async fn append(&self, append: Append) -> Result<Receipt> {
        self.check(&[append.conversation])?;
        if take(&self.to_refuse) {
            self.refused.notify_one();
            return Err(unavailable());
        }
        let receipt = self.log.append(append).await?;
        if !take(&self.to_lose) {
            return Ok(receipt);
        }
        Ok(receipt.map(|stored| stored.and_then(|_| Err(unavailable()))).boxed())
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn duplicate_window(&self) -> Duration {
        self.log.duplicate_window()
    }

    fn retention(&self) -> Duration {
        self.log.retention()
    }

    async fn heads(&self, conversations: &[ConversationId]) -> Result<Vec<Option<Head>>> {
        self.check(conversations)?;
        self.log.heads(conversations).await
    }

    async fn ends(&self) -> Result<Vec<u64>> {
        self.log.ends().await
    }

    async fn read(&self, conversation: ConversationId, after_seq: u64, limit: usize) -> Result<Vec<Entry>> {
        self.check(&[conversation])?;
        self.log.read(conversation, after_seq, limit).await
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
