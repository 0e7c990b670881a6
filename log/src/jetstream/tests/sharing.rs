//! Processes of one role share its shards.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use types::ConversationId;

use super::Made;
use crate::contract::{append, event, group};
use crate::jetstream::{Options, open};
use crate::{Consumer, Error, Log};

const GROUP: &str = "ingest";
const SHARDS: u16 = 4;
/// A shard is moved within this time.
const MOVED: Duration = Duration::from_secs(10);

/// What one process has handled, by shard and `seq`.
type Handled = Arc<Mutex<HashSet<(u16, u64)>>>;

/// A process of the role, in a runtime of its own that can be ended as suddenly as a process.
struct Process {
    runtime: Runtime,
    log: Arc<dyn Log>,
    handled: Handled,
}

impl Process {
    fn start(options: &Options) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let handled = Handled::default();
        let log = runtime.block_on(open(options.clone())).unwrap();
        for shard in 0..SHARDS {
            drop(runtime.spawn(work(Arc::clone(&log), shard, Arc::clone(&handled))));
        }
        Self { runtime, log, handled }
    }

    fn shards(&self) -> HashSet<u16> {
        self.handled.lock().iter().map(|(shard, _)| *shard).collect()
    }

    /// Ends without a word.
    fn kill(self) -> Handled {
        self.runtime.shutdown_background();
        self.handled
    }

    /// Ends in order.
    fn end(self) -> Handled {
        self.runtime.block_on(self.log.close());
        self.runtime.shutdown_background();
        self.handled
    }
}

/// Handles the events of a shard, as a worker does.
async fn work(log: Arc<dyn Log>, shard: u16, handled: Handled) {
    let consumer = Consumer { group: GROUP, shard };
    loop {
        log.resume(consumer).await.unwrap();
        let outcome: Result<(), Error> = async {
            loop {
                let entries = log.fetch(consumer, 10).await?;
                handled.lock().extend(entries.iter().map(|entry| (shard, entry.position.seq)));
                log.ack(consumer, entries.last().unwrap().position.seq).await?;
            }
        }
        .await;
        assert!(matches!(outcome, Err(Error::Unavailable(_))), "{outcome:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A conversation of each shard.
fn conversations() -> Vec<ConversationId> {
    let of_shard =
        |shard| std::iter::repeat_with(|| group().into()).find(|one: &ConversationId| one.shard(SHARDS) == shard);
    (0..SHARDS).filter_map(of_shard).collect()
}

/// Appends an event to each shard, again and again, until `is_so`; fails when that takes too long. Gives all that it
/// appended.
async fn append_until(log: &Arc<dyn Log>, what: &str, is_so: impl Fn() -> bool) -> HashSet<(u16, u64)> {
    let (conversations, began) = (conversations(), Instant::now());
    let mut appended = HashSet::new();
    while !is_so() {
        assert!(began.elapsed() < MOVED, "{what}");
        for (shard, stored) in (0..).zip(join_all(conversations.iter().map(|one| append(&**log, event(*one)))).await) {
            appended.insert((shard, stored.position.seq));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    appended
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < MOVED, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn share_and_take_over(end: impl FnOnce(Process) -> Handled, patience: Duration) {
    let made = Made::shared(SHARDS);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let log = runtime.block_on(made.open());
    let one = Process::start(&made.options);
    let mut appended = runtime.block_on(append_until(&log, "one process reads all", || one.shards().len() == 4));
    let other = Process::start(&made.options);
    appended.extend(runtime.block_on(append_until(&log, "each process has half", || other.shards().len() == 2)));
    // Both go on, and neither reads what the other does.
    let before = one.handled.lock().clone();
    appended.extend(
        runtime.block_on(append_until(&log, "the first goes on", || one.handled.lock().len() > before.len() + 20)),
    );
    let new: HashSet<u16> = one.handled.lock().difference(&before).map(|(shard, _)| *shard).collect();
    assert!(new.len() <= 2 && new.is_disjoint(&other.shards()), "{new:?} and {:?}", other.shards());

    let began = Instant::now();
    let mut handled = end(one).lock().clone();
    appended.extend(runtime.block_on(append_until(&log, "the second takes over", || other.shards().len() == 4)));
    assert!(began.elapsed() < patience, "it took {:?}", began.elapsed());
    runtime.block_on(until("everything is handled", || {
        let others = other.handled.lock();
        appended.iter().all(|one| handled.contains(one) || others.contains(one))
    }));
    handled.extend(other.end().lock().iter());
    assert_eq!(handled, appended);
    runtime.block_on(log.close());
}

#[test]
fn a_killed_process_leaves_its_shards_to_the_other() {
    share_and_take_over(Process::kill, MOVED);
}

#[test]
fn a_process_that_ends_hands_its_shards_over_at_once() {
    share_and_take_over(Process::end, Duration::from_secs(2));
}
