//! The process is killed in the middle of writes, again and again, and what it acknowledged is looked for.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use types::{ConversationId, Entry, EventId, Region};

use super::super::tail::Limits;
use super::{Options, RETENTION, WINDOW};
use crate::contract::{group, user};
use crate::{Append, Appended, Consumer, Log};

const ROUNDS: usize = 12;
/// The variable that tells the child process where the log is.
const FOLDER: &str = "LOG_KILL_TEST_FOLDER";
const WRITERS: usize = 32;
const CONVERSATIONS: usize = 10;

/// What the child said of one event before it was killed.
#[derive(Debug)]
struct Acked {
    conversation: ConversationId,
    id: EventId,
    seq: u64,
}

/// Kills a child of this very test while it appends. The child runs this function too, and is told by a variable.
#[test]
fn nothing_acknowledged_is_lost_and_nothing_stored_twice_when_the_process_is_killed() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    #[expect(clippy::disallowed_methods, reason = "the child process has no other way to know that it is one")]
    if let Ok(folder) = std::env::var(FOLDER) {
        runtime.block_on(append_until_killed(Path::new(&folder)));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut acked: Vec<Acked> = Vec::new();
    for round in 0..ROUNDS {
        let before = acked.len();
        // From the very beginning to well past the first tables; a different place of a batch each time.
        let lines = 1 + round * round * 31;
        acked.extend(kill_after(folder.path(), lines));
        assert!(acked.len() >= before + lines, "the child ended by itself");
        runtime.block_on(check(folder.path(), &acked, &acked[before..]));
    }
}

/// Starts a child, kills it once it has acknowledged so many events, and gives all it acknowledged.
fn kill_after(folder: &Path, lines: usize) -> Vec<Acked> {
    let test = "nothing_acknowledged_is_lost_and_nothing_stored_twice_when_the_process_is_killed";
    let (_, module) = module_path!().split_once("::").unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("{module}::{test}"), "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut acked = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // The last line may have been cut off; what the test harness prints is not ours.
        acked.extend(parse(&line.unwrap()));
        if acked.len() == lines {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    acked
}

fn parse(line: &str) -> Option<Acked> {
    let (_, line) = line.split_once("acked ")?;
    let mut words = line.strip_suffix('.')?.split(' ');
    Some(Acked {
        conversation: words.next()?.parse().ok()?,
        id: words.next()?.parse().ok()?,
        seq: words.next()?.parse().ok()?,
    })
}

/// A log that keeps little in memory, so that it is killed while it writes the index, too.
async fn open(folder: &Path) -> Arc<dyn Log> {
    let tail = Limits { entries: 500, bytes: usize::MAX };
    let options = Options::new(folder.join("log"), Region::default(), RETENTION, WINDOW);
    crate::embedded::open(Options { tail, ..options }).await.unwrap()
}

/// The child: appends as fast as it can and tells of every receipt.
async fn append_until_killed(folder: &Path) {
    let log = open(folder).await;
    let region = Region::default();
    let conversation = |number| if number % 2 == 0 { group().into() } else { ConversationId::direct(user(), user()) };
    let conversations: Vec<ConversationId> = (0..CONVERSATIONS).map(conversation).collect();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let log = Arc::clone(&log);
        let conversation = conversations[writer % CONVERSATIONS];
        writers.spawn(async move {
            loop {
                let id = EventId::generate(region);
                let append = Append { conversation, id, payload: payload(id), trace: None };
                let Appended { position, .. } = log.append(append).await.unwrap().await.unwrap();
                let line = format!("acked {conversation} {id} {}.\n", position.seq);
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
            }
        });
    }
    // None of them ends by itself, but for an error.
    writers.join_next().await;
}

/// An event's JSON of some length, by which it is known again.
fn payload(id: EventId) -> bytes::Bytes {
    format!(r#"{{"id":"{id}","text":"{}"}}"#, "x".repeat(200)).into()
}

/// Everything that was ever acknowledged is there, once, in order, and what was lately is refused as a repetition.
async fn check(folder: &Path, acked: &[Acked], lately: &[Acked]) {
    let log = open(folder).await;
    let entries = everything(&*log).await;
    let mut ids = HashSet::new();
    let mut heads = HashMap::new();
    for (seq, entry) in (1..).zip(&entries) {
        assert_eq!(entry.position.seq, seq, "the events are numbered without a gap");
        assert!(ids.insert(&entry.payload), "an event is stored twice");
        let prev = heads.insert(entry.conversation, seq).unwrap_or(0);
        assert_eq!(entry.prev, prev);
    }
    assert!(entries.is_sorted_by_key(|entry| entry.at));
    for Acked { conversation, id, seq } in acked {
        let entry = &entries[usize::try_from(*seq).unwrap() - 1];
        assert_eq!((entry.conversation, &entry.payload), (*conversation, &payload(*id)));
    }
    for (conversation, seq) in &heads.iter().collect::<std::collections::BTreeMap<_, _>>() {
        let head = log.heads(&[**conversation]).await.unwrap()[0].unwrap();
        assert_eq!(head.position.seq, **seq);
        let read = log.read(**conversation, 0, usize::MAX).await.unwrap();
        assert!(read.iter().eq(entries.iter().filter(|entry| entry.conversation == **conversation)));
    }
    for Acked { conversation, id, seq } in lately.iter().rev().take(100) {
        let append = Append { conversation: *conversation, id: *id, payload: payload(*id), trace: None };
        let again = log.append(append).await.unwrap().await.unwrap();
        assert!(again.duplicate);
        assert_eq!(again.position.seq, *seq);
    }
    log.close().await;
}

/// The whole log, as a consumer of this check alone reads it.
async fn everything(log: &dyn Log) -> Vec<Entry> {
    let consumer = Consumer { group: "check", shard: 0 };
    let mut entries = Vec::new();
    let events = log.lag(consumer).await.unwrap().events;
    while (entries.len() as u64) < events {
        entries.extend(log.fetch(consumer, 10_000).await.unwrap());
    }
    entries
}
