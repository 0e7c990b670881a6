//! The worker between the embedded log and the embedded history.

mod cut;
mod faulty;
mod gone;

use bytes::Bytes;
use history::{Order, Page};
use log::Append;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use types::{Body, Content, ConversationId, Event, EventId, GroupId, Region, UserId};

use self::faulty::{Fault, FaultyHistory};
use super::*;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);
const CONVERSATIONS: usize = 100;

/// The stores of one process.
struct Stores {
    log: Arc<dyn Log>,
    history: Arc<FaultyHistory>,
    folder: TempDir,
}

/// A worker at work.
struct Running {
    task: JoinHandle<Result<()>>,
    shutdown: CancellationToken,
}

impl Stores {
    async fn new(faults: &[Fault]) -> Self {
        Self::open(tempfile::tempdir().unwrap(), faults).await
    }

    async fn open(folder: TempDir, faults: &[Fault]) -> Self {
        let log = log::open(&log::Config::default(), folder.path(), Region::default()).await.unwrap();
        let history = history::open(&history::Config::default(), folder.path()).await.unwrap();
        Self { log, history: FaultyHistory::over(history, faults), folder }
    }

    /// The stores as the next process finds them.
    async fn reopened(self) -> Self {
        self.log.close().await;
        let Self { log, history, folder } = self;
        drop((log, history));
        Self::open(folder, &[]).await
    }

    fn start(&self) -> Running {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(self.log.clone(), self.history.clone(), shutdown.clone()));
        Running { task, shutdown }
    }

    /// Appends so many messages, by turns in all conversations. Gives the last one's `seq`.
    async fn append(&self, conversations: &[ConversationId], messages: usize) -> u64 {
        let mut last = None;
        for (number, conversation) in conversations.iter().cycle().take(messages).enumerate() {
            let append = message(*conversation, &format!("message {number}"));
            last = Some(self.log.append(append).await.unwrap());
        }
        // Receipts of one shard come in the order of the appends.
        last.unwrap().await.unwrap().position.seq
    }

    /// Waits until the worker was told that everything up to `seq` is stored.
    async fn stored(&self, seq: u64) {
        let mut stored = self.history.stored.subscribe();
        within(stored.wait_for(|stored| *stored >= seq)).await.unwrap();
    }

    /// That history holds exactly what the log holds, in the log's order.
    async fn assert_equal(&self, conversations: &[ConversationId]) -> usize {
        let mut events = 0;
        for conversation in conversations {
            let logged = self.log.read(*conversation, 0, usize::MAX).await.unwrap();
            assert_eq!(self.history.events(*conversation, 0, logged.len() + 1).await.unwrap(), logged);
            let messages = self.history.messages(*conversation, &everything()).await.unwrap();
            let seqs = messages.iter().map(|message| message.seq);
            assert!(seqs.eq(logged.iter().map(|entry| entry.position.seq)), "{conversation}");
            events += logged.len();
        }
        events
    }
}

impl Running {
    async fn stop(self) -> Result<()> {
        self.shutdown.cancel();
        self.ended().await
    }

    async fn ended(self) -> Result<()> {
        within(self.task).await.unwrap()
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

fn conversations() -> Vec<ConversationId> {
    (0..CONVERSATIONS).map(|_| ConversationId::Group(GroupId::generate(Region::default()))).collect()
}

fn message(conversation: ConversationId, text: &str) -> Append {
    let body = Body::Message(Content { text: text.into(), ..Content::default() });
    let (id, sender) = (EventId::generate(Region::default()), UserId::generate(Region::default()));
    Append { conversation, id, payload: Event { id, sender, body }.encode(), trace: None }
}

fn everything() -> Page {
    Page { before_seq: None, after_seq: None, since: None, sender: None, order: Order::Asc, limit: 10_000 }
}

#[tokio::test]
async fn everything_in_the_log_comes_into_history_in_its_order() {
    let (stores, conversations) = (Stores::new(&[]).await, conversations());
    let worker = stores.start();
    let last = stores.append(&conversations, 10_000).await;
    stores.stored(last).await;
    assert_eq!(stores.assert_equal(&conversations).await, 10_000);
    worker.stop().await.unwrap();
    let consumer = Consumer { group: GROUP, shard: 0 };
    assert_eq!(stores.log.lag(consumer).await.unwrap().events, 0);
}

#[tokio::test]
async fn a_worker_that_was_stopped_midway_goes_on_in_the_next_process() {
    let (stores, conversations) = (Stores::new(&[]).await, conversations());
    stores.append(&conversations, 3_000).await;
    let worker = stores.start();
    stores.stored(1).await;
    worker.stop().await.unwrap();
    stores.append(&conversations, 1_000).await;

    let stores = stores.reopened().await;
    let worker = stores.start();
    let last = stores.append(&conversations, 1_000).await;
    stores.stored(last).await;
    assert_eq!(stores.assert_equal(&conversations).await, 5_000);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_history_that_fails_for_a_while_loses_and_repeats_nothing() {
    let faults = [Fault::Before, Fault::Midway, Fault::After];
    let (stores, conversations) = (Stores::new(&faults).await, conversations());
    let worker = stores.start();
    let last = stores.append(&conversations, 2_000).await;
    stores.stored(last).await;
    assert_eq!(*stores.history.failed.borrow(), faults.len());
    assert_eq!(stores.assert_equal(&conversations).await, 2_000);
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_waits_for_a_history_that_fails_can_be_stopped() {
    let stores = Stores::new(&[Fault::Before; 1_000]).await;
    let worker = stores.start();
    stores.append(&conversations(), 1).await;
    within(stores.history.failed.subscribe().wait_for(|failed| *failed > 0)).await.unwrap();
    worker.stop().await.unwrap();
}

#[tokio::test]
async fn a_damaged_history_ends_the_worker() {
    let stores = Stores::new(&[Fault::Damaged]).await;
    let worker = stores.start();
    stores.append(&conversations(), 1).await;
    let ended = worker.ended().await;
    assert!(matches!(ended, Err(Error::History(history::Error::Damaged(_)))), "{ended:?}");
}

#[tokio::test]
async fn an_event_that_cannot_be_read_stops_nothing() {
    let (stores, conversation) = (Stores::new(&[]).await, conversations()[0]);
    let worker = stores.start();
    stores.append(&[conversation], 1).await;
    let garbage = Append {
        conversation,
        id: EventId::generate(Region::default()),
        payload: Bytes::from_static(b"{no JSON"),
        trace: None,
    };
    stores.log.append(garbage).await.unwrap().await.unwrap();
    let last = stores.append(&[conversation], 1).await;
    stores.stored(last).await;
    assert_eq!(stores.history.messages(conversation, &everything()).await.unwrap().len(), 2);
    assert_eq!(stores.history.events(conversation, 0, 10).await.unwrap()[1].payload, "{no JSON");
    worker.stop().await.unwrap();
}

#[test]
fn pauses_grow_up_to_the_longest() {
    let mut failures = Failures::default();
    let pauses: Vec<_> = (0..40).map(|_| failures.next_pause()).collect();
    assert_eq!(pauses[..3], [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4]);
    assert_eq!(pauses[6..], [LONGEST_PAUSE; 34]);
}
