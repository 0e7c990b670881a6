//! The log on fjall, in this process.
//!
//! | part | what it does |
//! |---|---|
//! | [`layout`] | what lies on disk: keys and records |
//! | [`store`] | the disk: opens, reads, stores batches |
//! | [`queue`], [`committer`] | appends wait, one thread orders and stores them |
//! | [`recent`] | the event ids of the duplicate window |
//! | [`heads`] | the last events of conversations |
//! | [`tail`] | the end of the log, in memory |
//! | [`shard`] | what these share, and how it is read |
//! | [`live`] | feeds |
//! | [`consumers`] | how far each consumer has read |
//! | [`services`] | requests and answers |
//! | [`indexer`] | the index by conversation, written late |
//! | [`keeper`] | what is done now and then |

mod committer;
mod consumers;
mod heads;
mod indexer;
mod keeper;
mod layout;
mod live;
mod queue;
mod recent;
mod services;
mod shard;
mod store;
mod tail;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use types::{ConversationId, Entry, Region};

use self::committer::Committer;
use self::consumers::Consumers;
use self::keeper::Keeper;
use self::live::Listeners;
pub(crate) use self::live::{Cursor, Listener};
use self::queue::{Queue, closed};
use self::services::Services;
use self::shard::Shard;
use self::store::Store;
use self::tail::Limits;
use crate::{Append, Consumer, Error, Feed, Head, Lag, Layout, Log, Receipt, Requests, Result, Topic};

/// How the embedded log behaves.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) path: PathBuf,
    pub(crate) region: Region,
    pub(crate) retention: Duration,
    pub(crate) duplicate_window: Duration,
    /// How long a consumer has to acknowledge what it was given.
    pub(crate) lease: Duration,
    pub(crate) tail: Limits,
}

/// See [`Options::lease`].
const LEASE: Duration = Duration::from_secs(30);
/// How long closing waits for reads that are under way.
const CLOSING: Duration = Duration::from_secs(10);

impl Options {
    pub(crate) fn new(path: PathBuf, region: Region, retention: Duration, duplicate_window: Duration) -> Self {
        Self { path, region, retention, duplicate_window, lease: LEASE, tail: Limits::default() }
    }
}

/// The log of one region in one shard, on the local disk.
pub(crate) struct Embedded {
    layout: Layout,
    duplicate_window: Duration,
    retention: Duration,
    listeners: Arc<Listeners>,
    consumers: Arc<Consumers>,
    running: Arc<Running>,
}

/// What is to be ended.
struct Running {
    shard: Arc<Shard>,
    queue: Arc<Queue>,
    services: Services,
    threads: Mutex<Threads>,
}

/// What is ended once.
struct Threads {
    committer: Option<JoinHandle<()>>,
    keeper: Option<JoinHandle<()>>,
    /// Dropped to stop the keeper.
    wake: Option<mpsc::SyncSender<()>>,
    /// Disconnected once the disk is let go.
    released: mpsc::Receiver<()>,
}

/// Opens the log that `options` name, or makes it.
pub(crate) async fn open(options: Options) -> Result<Arc<dyn Log>> {
    let opening = tokio::task::spawn_blocking(|| Embedded::open(options));
    let opened = opening.await.map_err(|error| Error::Unavailable(format!("opening was broken off: {error}")))?;
    Ok(Arc::new(opened?))
}

impl Embedded {
    pub(crate) fn open(options: Options) -> Result<Self> {
        let Options { path, region, retention, duplicate_window, lease, tail } = options;
        let (alive, released) = mpsc::channel();
        let store = Arc::new(Store::open(&path, region, alive)?);
        let layout = store.layout.clone();
        let (shard, last_at) = Shard::recover(Arc::clone(&store), duplicate_window, tail)?;
        let shard = Arc::new(shard);
        let consumers = Arc::new(Consumers::recover(&store, lease)?);
        let (queue, waiting) = Queue::new();
        let queue = Arc::new(queue);
        let (wake, woken) = mpsc::sync_channel(1);
        let ends = (Arc::clone(&queue), waiting);
        let committer = Committer::new(Arc::clone(&shard), Arc::clone(&store), ends, wake.clone(), last_at);
        let keeper = Keeper { shard: Arc::clone(&shard), store, consumers: Arc::clone(&consumers), retention };
        let threads = Threads {
            committer: Some(spawn("log-committer", move || committer.run())?),
            keeper: Some(spawn("log-keeper", move || keeper.run(&woken))?),
            wake: Some(wake),
            released,
        };
        tracing::info!(path = %path.display(), epoch = %layout.epoch, last_seq = shard.tail.last_seq(), "log is open");
        let running = Running { shard, queue, services: Services::default(), threads: Mutex::new(threads) };
        Ok(Self {
            layout,
            duplicate_window,
            retention,
            listeners: Arc::default(),
            consumers,
            running: Arc::new(running),
        })
    }

    fn check_shard(&self, shard: u16) -> Result<()> {
        if shard < self.layout.shards {
            return Ok(());
        }
        Err(Error::Refused(format!("there is no shard {shard}, there are {}", self.layout.shards)))
    }
}

impl Running {
    /// Stores what is in the queue, ends the threads and lets go of the disk.
    fn shut_down(&self) {
        self.queue.close();
        self.services.close();
        let mut threads = self.threads.lock();
        join(threads.committer.take());
        self.shard.tail.close();
        drop(threads.wake.take());
        join(threads.keeper.take());
        self.shard.close();
        // Reads that are under way hold the disk a little longer.
        if threads.released.recv_timeout(CLOSING) == Err(mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("the log is still being read although it is closed");
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map_err(|error| Error::Unavailable(format!("no thread for {name}: {error}")))
}

fn join(thread: Option<JoinHandle<()>>) {
    if thread.is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("a thread of the log has panicked");
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.running.shut_down();
    }
}

#[async_trait]
impl Log for Embedded {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    async fn append(&self, append: Append) -> Result<Receipt> {
        let receipt = self.running.queue.push(append).await?;
        Ok(Box::pin(async move { receipt.await.unwrap_or_else(|_| Err(closed())) }))
    }

    fn duplicate_window(&self) -> Duration {
        self.duplicate_window
    }

    fn retention(&self) -> Duration {
        self.retention
    }

    async fn heads(&self, conversations: &[ConversationId]) -> Result<Vec<Option<Head>>> {
        self.running.shard.heads(conversations).await
    }

    async fn ends(&self) -> Result<Vec<u64>> {
        Ok(vec![self.running.shard.tail.last_seq(); usize::from(self.layout.shards)])
    }

    async fn read(&self, conversation: ConversationId, after_seq: u64, limit: usize) -> Result<Vec<Entry>> {
        self.running.shard.read(conversation, after_seq, limit).await
    }

    async fn feed(&self) -> Result<Feed> {
        Ok(Feed::embedded(self.listeners.open(&self.running.shard)))
    }

    async fn notify(&self, topic: Topic, notice: Bytes) -> Result<()> {
        self.listeners.notify(topic, &notice);
        Ok(())
    }

    async fn request(&self, service: &'static str, payload: Bytes, timeout: Duration) -> Result<Bytes> {
        self.running.services.request(service, payload, timeout).await
    }

    async fn serve(&self, service: &'static str) -> Result<Requests> {
        self.running.services.serve(service)
    }

    async fn fetch(&self, consumer: Consumer, limit: usize) -> Result<Vec<Entry>> {
        self.check_shard(consumer.shard)?;
        self.consumers.fetch(&self.running.shard, consumer, limit).await
    }

    async fn ack(&self, consumer: Consumer, seq: u64) -> Result<()> {
        self.check_shard(consumer.shard)?;
        self.consumers.ack(&self.running.shard, consumer, seq)
    }

    async fn resume(&self, consumer: Consumer) -> Result<()> {
        self.check_shard(consumer.shard)?;
        self.consumers.resume(consumer);
        Ok(())
    }

    async fn lag(&self, consumer: Consumer) -> Result<Lag> {
        self.check_shard(consumer.shard)?;
        Ok(self.consumers.lag(&self.running.shard, consumer))
    }

    async fn close(&self) {
        let running = Arc::clone(&self.running);
        let closing = tokio::task::spawn_blocking(move || running.shut_down());
        if closing.await.is_err() {
            tracing::error!("closing the log was broken off");
        }
    }
}
