//! The worker between the real log and the real store, with faults between it and the store.

mod faulty;

use std::collections::HashMap;
use std::path::Path;

use log::Append;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use types::{Content, ConversationId, EventId, GroupId, Region, Timestamp, UserId};

use super::*;
use crate::Filter;
use faulty::{Fault, Faulty};

/// A log, a store, and what the store should hold once it is through with the log.
struct Scene {
    folder: TempDir,
    log: Arc<dyn Log>,
    store: Arc<Faulty>,
    users: Vec<UserId>,
    conversations: Vec<ConversationId>,
    by_user: HashMap<UserId, u64>,
    by_conversation: HashMap<ConversationId, u64>,
    messages: u64,
}

struct Running {
    shutdown: CancellationToken,
    worker: JoinHandle<Result<(), WorkerError>>,
}

impl Running {
    async fn stop(self) {
        self.shutdown.cancel();
        self.worker.await.unwrap().unwrap();
    }

    /// As a crash would: nothing more is done.
    async fn kill(self) {
        self.worker.abort();
        assert!(self.worker.await.unwrap_err().is_cancelled());
    }
}

/// A new one.
async fn log_on_a_server() -> Arc<dyn Log> {
    let config = log::Config::JetStream {
        servers: vec![servers::endpoints().nats.as_str().into()],
        name: format!("worker-{}", EventId::generate(Region::default())),
        credentials: None,
        shards: 1,
        replicas: 1,
        retention_hours: 1,
        duplicate_window_seconds: 120,
    };
    let nowhere = Path::new("/nowhere");
    log::migrate(&config, nowhere, Region::default()).await.unwrap();
    log::open(&config, nowhere, Region::default()).await.unwrap()
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = log::open(&log::Config::default(), folder.path(), Region::default()).await.unwrap();
        let store = Faulty::open(folder.path()).await;
        Self::of(folder, log, store)
    }

    /// The log is on a server.
    async fn on_a_server(pace: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = log_on_a_server().await;
        let store = Faulty { pace, ..Faulty::open(folder.path()).await };
        Self::of(folder, log, store)
    }

    fn of(folder: TempDir, log: Arc<dyn Log>, store: Faulty) -> Self {
        let users: Vec<_> = (0..7).map(|number| UserId::generate(Region::new(number % 2).unwrap())).collect();
        let groups = (0..4).map(|_| GroupId::generate(Region::default()).into());
        let directs = [(0, 1), (2, 2), (3, 4)].map(|(one, other)| ConversationId::direct(users[one], users[other]));
        Self {
            log,
            store: Arc::new(store),
            conversations: groups.chain(directs).collect(),
            by_user: HashMap::new(),
            by_conversation: HashMap::new(),
            messages: 0,
            users,
            folder,
        }
    }

    fn start(&self) -> Running {
        let shutdown = CancellationToken::new();
        let worker = tokio::spawn(run(self.log.clone(), self.store.clone(), shutdown.clone()));
        Running { shutdown, worker }
    }

    /// As after a restart of the whole program.
    async fn opened_again(self) -> Self {
        let Self { folder, log, store, .. } = self;
        log.close().await;
        // The tasks of a killed worker hold the log until they are dropped.
        for _ in 0..1000 {
            if Arc::strong_count(&log) > 1 {
                tokio::task::yield_now().await;
            }
        }
        drop((log, store));
        let log = log::open(&log::Config::default(), folder.path(), Region::default()).await.unwrap();
        let store = Arc::new(Faulty::open(folder.path()).await);
        Self { folder, log, store, ..self }
    }

    /// Appends messages, and before some of them what does not count.
    async fn send(&mut self, messages: u64) {
        let mut receipts = Vec::new();
        for _ in 0..messages {
            let number = usize::try_from(self.messages).unwrap();
            let sender = self.users[number * number % self.users.len()];
            let conversation = self.conversations[number * 3 % self.conversations.len()];
            let said = Body::Message(Content { text: format!("message {number}"), ..Content::default() });
            let message = EventId::generate(Region::default());
            let bodies = match number % 5 {
                0 => vec![Body::Edit { message, text: "better".into() }, Body::Delete { message }, said],
                _ => vec![said],
            };
            for body in bodies {
                let id = EventId::generate(Region::default());
                receipts.push(self.append(conversation, id, Event { id, sender, body }.encode()).await);
            }
            *self.by_user.entry(sender).or_default() += 1;
            *self.by_conversation.entry(conversation).or_default() += 1;
            self.messages += 1;
        }
        for receipt in receipts {
            receipt.await.unwrap();
        }
    }

    async fn append(&self, conversation: ConversationId, id: EventId, payload: bytes::Bytes) -> log::Receipt {
        self.log.append(Append { conversation, id, payload, trace: None }).await.unwrap()
    }

    async fn wait_until_counted(&self) {
        self.store.wait_until(|seen| seen.facts >= self.messages).await;
    }

    /// Every message is counted once, and the log has been told.
    async fn check(&self) {
        let filter = everything();
        assert_eq!(self.store.total(&filter).await.unwrap(), self.messages);
        let users = self.store.top_users(&filter, 0, 100).await.unwrap();
        assert_eq!(users.into_iter().map(|user| (user.key, user.messages)).collect::<HashMap<_, _>>(), self.by_user);
        let conversations = self.store.top_conversations(&filter, 0, 100).await.unwrap();
        let conversations: HashMap<_, _> = conversations.into_iter().map(|one| (one.key, one.messages)).collect();
        assert_eq!(conversations, self.by_conversation);
        for shard in 0..self.log.layout().shards {
            let lag = self.log.lag(Consumer { group: GROUP, shard }).await.unwrap();
            assert_eq!(lag.events, 0);
            assert_eq!(lag.acked_seq, self.store.recorded_seq(shard).await.unwrap());
        }
    }
}

#[test]
fn an_imported_message_counts_at_the_time_when_it_was_said() {
    let said_at = Timestamp::from_millis(1_500_000_000_000);
    let (id, sender) = (EventId::generate(Region::default()), UserId::generate(Region::default()));
    let stored_at = Timestamp::now();
    let entry = |sent_at| Entry {
        conversation: GroupId::generate(Region::default()).into(),
        position: types::Position { epoch: types::Epoch::new(1), seq: 1 },
        prev: 0,
        at: stored_at,
        payload: Event { id, sender, body: Body::Message(Content { sent_at, ..Content::default() }) }.encode(),
        trace: None,
    };
    assert_eq!(fact(&entry(Some(said_at))).unwrap().at, said_at);
    assert_eq!(fact(&entry(None)).unwrap().at, stored_at);
}

#[test]
fn a_place_where_events_are_missing_is_told() {
    let (sender, conversation) = (UserId::generate(Region::default()), GroupId::generate(Region::default()).into());
    let entry = |seq| Entry {
        conversation,
        position: types::Position { epoch: types::Epoch::new(1), seq },
        prev: 0,
        at: Timestamp::now(),
        payload: Event { id: EventId::generate(Region::default()), sender, body: Body::Message(Content::default()) }
            .encode(),
        trace: None,
    };
    let mut batch = Batch::after(3);
    assert_eq!(batch.push(&[2, 3, 4, 5].map(entry)), []);
    assert_eq!(batch.push(&[8, 9, 12].map(entry)), [(5, 8), (9, 12)]);
    assert_eq!((batch.through_seq, batch.facts.len()), (12, 5));
    // Nobody knows what was before the first.
    assert_eq!(Batch::after(0).push(&[7, 8].map(entry)), []);
}

fn everything() -> Filter {
    Filter { include_direct: true, ..Filter::default() }
}

#[tokio::test]
async fn every_message_is_counted_and_nothing_else() {
    let mut scene = Scene::new().await;
    scene.send(300).await;
    let running = scene.start();
    scene.wait_until_counted().await;
    scene.send(40).await;
    scene.wait_until_counted().await;
    running.stop().await;
    scene.check().await;
}

#[tokio::test]
async fn a_message_counts_at_its_time_and_for_its_senders_region() {
    let mut scene = Scene::new().await;
    let before = Timestamp::now();
    scene.send(30).await;
    let running = scene.start();
    scene.wait_until_counted().await;
    running.stop().await;
    let total = async |filter: Filter| scene.store.total(&filter).await.unwrap();
    assert_eq!(total(Filter { start: Some(before), ..everything() }).await, 30);
    assert_eq!(total(Filter { end: Some(before), ..everything() }).await, 0);
    let of_region = |number| scene.by_user.iter().filter(move |(user, _)| user.region().number() == number);
    for number in [0, 1] {
        let messages: u64 = of_region(number).map(|(_, messages)| messages).sum();
        assert_eq!(total(Filter { region: Region::new(number), ..everything() }).await, messages);
    }
}

#[tokio::test]
async fn a_large_backlog_is_recorded_in_few_ranges() {
    let mut scene = Scene::new().await;
    let backlog = BATCH_LIMIT + 500;
    scene.send(backlog).await;
    let running = scene.start();
    scene.wait_until_counted().await;
    running.stop().await;
    scene.check().await;
    let ranges = scene.store.seen.borrow().calls;
    assert!(ranges <= 2 * u64::from(scene.log.layout().shards), "{ranges} ranges");
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_loses_and_repeats_nothing() {
    let mut scene = Scene::new().await;
    let faults = [Fault::Refused, Fault::AnswerLost, Fault::Refused, Fault::Overtaken, Fault::AnswerLost];
    scene.store.will(faults);
    let running = scene.start();
    // Each time there is something new beside what failed.
    for calls in 1..=faults.len() as u64 {
        scene.send(50).await;
        scene.store.wait_until(|seen| seen.calls >= calls).await;
    }
    scene.send(50).await;
    scene.wait_until_counted().await;
    running.stop().await;
    scene.check().await;
}

#[tokio::test]
async fn a_worker_that_was_killed_goes_on_where_the_store_is() {
    let mut scene = Scene::new().await;
    for fault in [Fault::Stuck, Fault::StuckAfterwards, Fault::Stuck, Fault::StuckAfterwards] {
        scene.send(60).await;
        scene.store.will([fault]);
        let running = scene.start();
        scene.store.wait_until(|seen| seen.stuck > 0).await;
        running.kill().await;
        scene = scene.opened_again().await;
    }
    scene.send(60).await;
    let running = scene.start();
    scene.wait_until_counted().await;
    running.stop().await;
    scene.check().await;
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_passed_over() {
    let mut scene = Scene::new().await;
    scene.send(10).await;
    for payload in ["not JSON", "{}", r#"{"kind":"message"}"#, ""] {
        let id = EventId::generate(Region::default());
        scene.append(scene.conversations[0], id, payload.into()).await.await.unwrap();
    }
    scene.send(10).await;
    let running = scene.start();
    scene.wait_until_counted().await;
    running.stop().await;
    scene.check().await;
}

#[tokio::test]
async fn a_worker_that_is_told_to_end_does_so_while_its_store_fails() {
    let mut scene = Scene::new().await;
    scene.send(10).await;
    scene.store.will([Fault::Refused; 1000]);
    let running = scene.start();
    scene.store.wait_until(|seen| seen.calls > 2).await;
    running.stop().await;
    assert_eq!(scene.store.total(&everything()).await.unwrap(), 0);

    scene.store.faults.lock().unwrap().clear();
    let running = scene.start();
    scene.wait_until_counted().await;
    running.stop().await;
    scene.check().await;
}

#[tokio::test]
async fn a_store_that_lacks_what_the_log_was_told_of_ends_the_worker() {
    let mut scene = Scene::new().await;
    scene.send(10).await;
    let running = scene.start();
    scene.wait_until_counted().await;
    running.stop().await;

    let empty = tempfile::tempdir().unwrap();
    let store = Faulty::open(empty.path()).await;
    let error = run(scene.log.clone(), Arc::new(store), CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, WorkerError::Missing { recorded_seq: 0, acked_seq: 14.., .. }), "{error}");
}

#[tokio::test]
async fn a_log_that_lacks_what_the_store_has_ends_the_worker() {
    let mut scene = Scene::new().await;
    scene.send(10).await;
    let end_seq = scene.log.ends().await.unwrap()[0];
    let range = Range { shard: 0, after_seq: 0, through_seq: end_seq + 1, facts: &[] };
    scene.store.record(range).await.unwrap();
    let error = run(scene.log.clone(), scene.store.clone(), CancellationToken::new()).await.unwrap_err();
    let WorkerError::Ahead { shard: 0, recorded_seq, end_seq: end } = error else { panic!("{error}") };
    assert_eq!((recorded_seq, end), (end_seq + 1, end_seq));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_made_anew_is_counted_on() {
    let mut scene = Scene::on_a_server(Duration::from_millis(1)).await;
    for _ in 0..2 {
        scene.send(30).await;
        let running = scene.start();
        scene.wait_until_counted().await;
        running.stop().await;
        scene.check().await;
        // Made later, as after the loss of the first: what counts is that, and not the name.
        scene.log.close().await;
        scene.log = log_on_a_server().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_gives_in_pieces_is_counted_without_a_rest_between() {
    // Whoever rests does so for good.
    let mut scene = Scene::on_a_server(Duration::MAX).await;
    scene.send(8_000).await;
    let running = scene.start();
    scene.wait_until_counted().await;
    running.stop().await;
    scene.check().await;
    scene.log.close().await;
}
