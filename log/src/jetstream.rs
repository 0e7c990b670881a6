//! The log on NATS JetStream.
//!
//! | part | what it does |
//! |---|---|
//! | [`names`], [`headers`] | what everything is called on the server |
//! | [`streams`] | the streams: made, brought up to date, looked at |
//! | [`connection`], [`mailbox`] | the way to the server |
//! | [`appends`], [`moments`] | appends, and when they were stored |
//! | [`reading`] | what is stored |
//! | [`live`] | feeds, each on a connection of its own |
//! | [`link`], [`wire`] | connections of our own |
//! | [`consumers`], [`leases`] | durable readers, shared by the processes of a role |
//! | [`progress`] | how far they are |
//! | [`bus`] | requests and answers |

mod appends;
mod bus;
mod connection;
mod consumers;
mod headers;
mod leases;
mod link;
mod live;
mod mailbox;
mod moments;
mod names;
mod progress;
mod reading;
mod streams;
#[cfg(test)]
mod tests;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use types::{ConversationId, Entry, Region};

use self::appends::Appends;
use self::connection::{Address, Connection, closed, unavailable};
use self::consumers::Consumers;
use self::live::Live;
pub(crate) use self::live::{Cursor, Listener};
use self::mailbox::Mailbox;
use self::moments::Moments;
use self::names::Names;
use self::progress::Progress;
use self::reading::Reading;
use self::streams::{Kept, Settings};
use crate::{Append, Consumer, Error, Feed, Head, Lag, Layout, Log, Receipt, Requests, Result, Topic};

/// How long closing waits for what is still to be written.
const CLOSING: Duration = Duration::from_secs(5);

/// Which log, and how it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) servers: Vec<String>,
    pub(crate) name: String,
    pub(crate) credentials: Option<PathBuf>,
    pub(crate) region: Region,
    pub(crate) shards: u16,
    pub(crate) replicas: u8,
    pub(crate) retention: Duration,
    pub(crate) duplicate_window: Duration,
}

/// The log of one region on JetStream.
pub(crate) struct JetStream {
    layout: Layout,
    duplicate_window: Duration,
    retention: Duration,
    names: Arc<Names>,
    connection: Connection,
    reading: Arc<Reading>,
    moments: Arc<Moments>,
    appends: Arc<Appends>,
    live: Live,
    consumers: Consumers,
    progress: Arc<Progress>,
    /// Ends all that takes from the log.
    stop: CancellationToken,
    /// Ends what resolves receipts, after all were.
    end: CancellationToken,
}

impl Options {
    fn address(&self) -> Result<Address> {
        if self.servers.is_empty() {
            return Err(Error::Refused("no NATS server is named".into()));
        }
        Ok(Address { servers: self.servers.clone(), credentials: self.credentials.clone() })
    }
}

/// Makes the streams and the bucket that `options` name, or brings them up to date.
pub(crate) async fn migrate(options: &Options) -> Result<()> {
    let names = Names::new(&options.name, options.region, options.shards)?;
    let connection = Connection::open(&options.address()?, "rookery migrate").await?;
    let settings = Settings {
        replicas: options.replicas,
        retention: options.retention,
        duplicate_window: options.duplicate_window,
    };
    let context = async_nats::jetstream::new(connection.client.clone());
    let began = tokio::time::Instant::now();
    loop {
        match streams::migrate(&context, &names, settings).await {
            Err(error @ Error::Unavailable(_)) if began.elapsed() < SETTLING => {
                tracing::warn!(%error, "the log's streams were not made yet; trying again");
            }
            ended => return ended,
        }
    }
}

/// How long servers may take until they make streams: several that have just started leave questions unanswered while
/// they find out who leads. Every step can be repeated.
const SETTLING: Duration = Duration::from_secs(60);

/// Opens the log that `options` name.
pub(crate) async fn open(options: Options) -> Result<Arc<dyn Log>> {
    Ok(Arc::new(JetStream::open(options).await?))
}

impl JetStream {
    pub(crate) async fn open(options: Options) -> Result<Self> {
        let names = Arc::new(Names::new(&options.name, options.region, options.shards)?);
        let address = options.address()?;
        let connection = Connection::open(&address, "rookery").await?;
        let context = async_nats::jetstream::new(connection.client.clone());
        let kept = streams::check(&context, &names).await?;
        let kept = kept.at_most(options.retention, options.duplicate_window);
        let Kept { epoch, retention, duplicate_window, .. } = kept;
        let (stop, end) = (CancellationToken::new(), CancellationToken::new());
        // What was begun ends, when a later step fails: who opens may try again and again.
        let unless_open = (stop.clone().drop_guard(), end.clone().drop_guard());
        let mailbox = Mailbox::open(&connection.client, end.clone()).await?;
        let reading =
            Arc::new(Reading::new(connection.client.clone(), Arc::clone(&names), kept, mailbox, options.replicas));
        let moments = Arc::new(Moments::new(names.shards));
        moments.start(&reading, &end);
        let appends = Appends::open(&address, &reading, &moments, &end).await?;
        let progress = Progress::open(&reading, &stop).await?;
        let consumers =
            Consumers::new(connection.clone(), Arc::clone(&reading), Arc::clone(&progress), stop.child_token());
        let live =
            Live { address, reading: Arc::clone(&reading), moments: Arc::clone(&moments), stop: stop.child_token() };
        let layout = Layout { region: options.region, shards: options.shards, epoch };
        tracing::info!(name = options.name, epoch = %epoch, shards = options.shards, "log is open");
        let (_, _) = (unless_open.0.disarm(), unless_open.1.disarm());
        Ok(Self {
            layout,
            duplicate_window,
            retention,
            names,
            connection,
            reading,
            moments,
            appends,
            live,
            consumers,
            progress,
            stop,
            end,
        })
    }

    fn check_shard(&self, shard: u16) -> Result<()> {
        if shard < self.layout.shards {
            return Ok(());
        }
        Err(Error::Refused(format!("there is no shard {shard}, there are {}", self.layout.shards)))
    }

    fn check_open(&self) -> Result<()> {
        if self.stop.is_cancelled() { Err(closed()) } else { Ok(()) }
    }
}

impl Drop for JetStream {
    fn drop(&mut self) {
        self.stop.cancel();
        self.end.cancel();
    }
}

#[async_trait]
impl Log for JetStream {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    async fn append(&self, append: Append) -> Result<Receipt> {
        self.check_open()?;
        self.appends.push(append).await
    }

    fn duplicate_window(&self) -> Duration {
        self.duplicate_window
    }

    fn retention(&self) -> Duration {
        self.retention
    }

    async fn heads(&self, conversations: &[ConversationId]) -> Result<Vec<Option<Head>>> {
        self.reading.heads(conversations).await
    }

    async fn ends(&self) -> Result<Vec<u64>> {
        self.reading.ends().await
    }

    async fn read(&self, conversation: ConversationId, after_seq: u64, limit: usize) -> Result<Vec<Entry>> {
        self.reading.read(conversation, after_seq, limit).await
    }

    async fn feed(&self) -> Result<Feed> {
        self.check_open()?;
        Ok(Feed::jetstream(self.live.open().await?))
    }

    async fn notify(&self, topic: Topic, notice: Bytes) -> Result<()> {
        self.check_open()?;
        self.connection.is_up().await?;
        self.connection.client.publish(self.names.notice(topic), notice).await.map_err(unavailable)
    }

    async fn request(&self, service: &'static str, payload: Bytes, timeout: Duration) -> Result<Bytes> {
        self.check_open()?;
        bus::request(&self.connection.client, &self.names.service(service), payload, timeout).await
    }

    async fn serve(&self, service: &'static str) -> Result<Requests> {
        self.check_open()?;
        let about = bus::Service {
            client: self.connection.client.clone(),
            address: self.live.address.clone(),
            names: Arc::clone(&self.names),
            service,
            stop: self.stop.child_token(),
        };
        bus::serve(about).await
    }

    async fn fetch(&self, consumer: Consumer, limit: usize) -> Result<Vec<Entry>> {
        self.check_shard(consumer.shard)?;
        self.consumers.fetch(consumer, limit).await
    }

    async fn ack(&self, consumer: Consumer, seq: u64) -> Result<()> {
        self.check_shard(consumer.shard)?;
        self.consumers.ack(consumer, seq).await
    }

    async fn resume(&self, consumer: Consumer) -> Result<()> {
        self.check_shard(consumer.shard)?;
        self.consumers.resume(consumer);
        Ok(())
    }

    async fn lag(&self, consumer: Consumer) -> Result<Lag> {
        self.check_shard(consumer.shard)?;
        self.progress.lag(consumer).await
    }

    async fn close(&self) {
        self.stop.cancel();
        self.appends.close().await;
        self.moments.settle(CLOSING).await;
        self.consumers.close().await;
        self.end.cancel();
        if !matches!(timeout(CLOSING, self.connection.client.flush()).await, Ok(Ok(()))) {
            tracing::warn!("the last words to NATS may be lost");
        }
    }
}
