//! A log that has let go of events before they were fetched, over a real one. As on JetStream, `prev` is 0 then.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use log::{Append, Feed, Head, Lag, Layout, Receipt, Requests, Result, Topic};
use types::{ConversationId, Entry};

use super::{Arc, Consumer, Duration, Log};

pub(super) struct CutLog {
    pub(super) log: Arc<dyn Log>,
    /// The places of the events that it no longer has.
    pub(super) missing: RangeInclusive<u64>,
    /// What it says first of what is acknowledged.
    pub(super) old_news: Mutex<VecDeque<u64>>,
}

#[async_trait]
impl Log for CutLog {
    async fn append(&self, append: Append) -> Result<Receipt> {
        self.log.append(append).await
    }

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
        self.log.heads(conversations).await
    }

    async fn ends(&self) -> Result<Vec<u64>> {
        self.log.ends().await
    }

    async fn read(&self, conversation: ConversationId, after_seq: u64, limit: usize) -> Result<Vec<Entry>> {
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
        loop {
            let mut entries = self.log.fetch(consumer, limit).await?;
            entries.retain(|entry| !self.missing.contains(&entry.position.seq));
            for entry in &mut entries {
                if entry.prev <= *self.missing.end() && entry.position.seq > *self.missing.end() {
                    entry.prev = 0;
                }
            }
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
    }

    async fn ack(&self, consumer: Consumer, seq: u64) -> Result<()> {
        self.log.ack(consumer, seq).await
    }

    async fn resume(&self, consumer: Consumer) -> Result<()> {
        self.log.resume(consumer).await
    }

    async fn lag(&self, consumer: Consumer) -> Result<Lag> {
        let lag = self.log.lag(consumer).await?;
        let old = self.old_news.lock().unwrap().pop_front();
        Ok(Lag { acked_seq: old.unwrap_or(lag.acked_seq), ..lag })
    }

    async fn close(&self) {
        self.log.close().await;
    }
}
