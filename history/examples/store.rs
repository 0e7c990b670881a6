//! What a message costs: CPU and time of storing in batches, and of reading pages.
//!
//! ```text
//! cargo run --release -p history --example store [messages] [conversations] [host:port of a CQL server]
//! ```
//!
//! Messages have a text of 100 bytes and are spread evenly over the conversations, 20 senders each. CPU is that
//! of the whole process, with the threads that write and merge files; making the messages is not counted. As
//! machines differ, the same payloads are also written bare: one row each, in order, with nothing to find them by.
//! With a server, everything goes there, into a keyspace of its own that is removed at the end; its CPU is not counted.

#![expect(clippy::print_stdout, reason = "a measurement is printed for whoever runs it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fjall::KeyspaceCreateOptions;
use futures_util::stream::{self, StreamExt};
use history::{Config, CqlServer, History, Order, Page};
use scylla::client::session_builder::SessionBuilder;
use types::{
    Body, Content, ConversationId, Entry, Epoch, Event, EventId, GroupId, Position, Region, Timestamp, UserId,
};

/// The one of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const START_MILLIS: i64 = 1_760_000_000_000;
const PAGE_MESSAGES: usize = 50;
const PAGES: u64 = 20_000;
/// Of a server, which is asked by [`READERS`] at once.
const PAGES_OF_SERVER: u64 = 5_000;
const READERS: usize = 16;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let messages = arguments.next().map_or(Ok(400_000), |number| number.parse())?;
    let conversations = arguments.next().map_or(Ok(1_000), |number| number.parse())?;
    println!("{messages} messages in {conversations} conversations");
    if let Some(node) = arguments.next() {
        return on_server(&node, messages, conversations).await;
    }
    for batch in [100, 1_000] {
        let folder = tempfile::tempdir()?;
        let history = history::open(&Config::default(), folder.path()).await?;
        let load = Load::new(conversations);
        let entries = load.entries(messages);
        bare(&folder.path().join("bare"), &entries, batch)?;
        store(&*history, &entries, batch).await?;
        if batch == 1_000 {
            pages(&history, &load, messages, (PAGES, 1)).await?;
        }
        println!(
            "  memory {} MiB with {} MiB of messages made beforehand",
            status("VmRSS:")? >> 10,
            mebibytes(&entries)
        );
    }
    Ok(())
}

/// Measures a CQL server.
async fn on_server(node: &str, messages: u64, conversations: usize) -> Result<(), Box<dyn std::error::Error>> {
    let keyspace = format!("rookery_example_{}", Timestamp::now().as_millis());
    let server = CqlServer {
        nodes: vec![node.to_owned()],
        keyspace: keyspace.clone(),
        local_datacenter: None,
        username: None,
        password: None,
        replication: BTreeMap::from([("replication_factor".into(), 1)]),
        request_timeout_ms: 10_000,
    };
    let config = Config::Scylla(server);
    history::migrate(&config, Path::new("")).await?;
    let history = history::open(&config, Path::new("")).await?;
    for batch in [100, 1_000] {
        let load = Load::new(conversations);
        store(&*history, &load.entries(messages), batch).await?;
        if batch == 1_000 {
            pages(&history, &load, messages, (PAGES_OF_SERVER, READERS)).await?;
        }
    }
    let session = SessionBuilder::new().known_node(node).build().await?;
    session.query_unpaged(format!("DROP KEYSPACE {keyspace}"), ()).await?;
    Ok(())
}

/// Writes every payload as one row of a single table, and prints what it took.
fn bare(path: &Path, entries: &[Entry], batch: usize) -> Result<(), Box<dyn std::error::Error>> {
    let database = fjall::Database::builder(path).worker_threads(1).open()?;
    let table = database.keyspace("events", || KeyspaceCreateOptions::default().max_memtable_size(8 << 20))?;
    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    let mut took = Vec::with_capacity(entries.len() / batch + 1);
    for batch in entries.chunks(batch) {
        let began = Instant::now();
        let mut write = database.batch().durability(Some(fjall::PersistMode::SyncData));
        for entry in batch {
            write.insert(&table, entry.position.seq.to_be_bytes(), &*entry.payload);
        }
        write.commit()?;
        took.push(began.elapsed());
    }
    print_writes(
        &format!("bare rows in batches of {batch}"),
        entries.len(),
        took,
        (began.elapsed(), cpu_seconds()? - cpu),
    );
    Ok(())
}

/// Stores everything, and prints what it took.
async fn store(history: &dyn History, entries: &[Entry], batch: usize) -> Result<(), Box<dyn std::error::Error>> {
    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    let mut took = Vec::with_capacity(entries.len() / batch + 1);
    for batch in entries.chunks(batch) {
        let began = Instant::now();
        history.store(batch).await?;
        took.push(began.elapsed());
    }
    print_writes(
        &format!("history in batches of {batch}"),
        entries.len(),
        took,
        (began.elapsed(), cpu_seconds()? - cpu),
    );
    Ok(())
}

fn print_writes(name: &str, messages: usize, mut took: Vec<Duration>, (elapsed, cpu): (Duration, f64)) {
    took.sort_unstable();
    println!(
        "{name}: {:.2} µs CPU a message, {:.0} messages/s, batch p50 {:?} p99 {:?}",
        cpu * 1e6 / messages as f64,
        messages as f64 / elapsed.as_secs_f64(),
        took[took.len() / 2],
        took[took.len() * 99 / 100],
    );
}

/// Reads so many pages, so many at once, and prints how many a second.
async fn pages(
    history: &Arc<dyn History>,
    load: &Load,
    messages: u64,
    (pages, readers): (u64, usize),
) -> Result<(), Box<dyn std::error::Error>> {
    let middle = Timestamp::from_millis(START_MILLIS + i64::try_from(messages / 2)?);
    let newest =
        Page { before_seq: None, after_seq: None, since: None, sender: None, order: Order::Desc, limit: PAGE_MESSAGES };
    let kinds = [
        ("newest", newest.clone()),
        ("before the middle", Page { before_seq: Some(messages / 2), ..newest.clone() }),
        ("oldest since the middle", Page { since: Some(middle), order: Order::Asc, ..newest.clone() }),
        ("newest of one sender", Page { sender: Some(load.senders[7]), ..newest }),
    ];
    for (name, page) in kinds {
        let (began, cpu) = (Instant::now(), cpu_seconds()?);
        let reads = (0..pages).map(|number| {
            let random = usize::try_from(scatter(number)).unwrap_or_default();
            history.messages(load.conversations[random % load.conversations.len()], &page)
        });
        let mut read = 0;
        let mut reads = stream::iter(reads).buffer_unordered(readers);
        while let Some(messages) = reads.next().await {
            read += messages?.len();
        }
        println!(
            "page of {PAGE_MESSAGES}, {name}: {:.0} pages/s, {:.1} µs CPU each, {:.1} messages each",
            pages as f64 / began.elapsed().as_secs_f64(),
            (cpu_seconds()? - cpu) * 1e6 / pages as f64,
            read as f64 / pages as f64,
        );
    }
    Ok(())
}

struct Load {
    conversations: Vec<ConversationId>,
    senders: Vec<UserId>,
}

impl Load {
    fn new(conversations: usize) -> Self {
        let group = |_| ConversationId::Group(GroupId::generate(Region::default()));
        let user = |_| UserId::generate(Region::default());
        Self { conversations: (0..conversations).map(group).collect(), senders: (0..20).map(user).collect() }
    }

    fn entries(&self, count: u64) -> Vec<Entry> {
        let mut prev = vec![0; self.conversations.len()];
        let mut entries = Vec::new();
        for seq in 1..=count {
            let random = usize::try_from(scatter(seq)).unwrap_or_default();
            let place = random % self.conversations.len();
            let content =
                Content { text: "a message of one hundred bytes, ".repeat(4)[..100].into(), ..Content::default() };
            let sender = self.senders[random / 7 % self.senders.len()];
            let event = Event { id: EventId::generate(Region::default()), sender, body: Body::Message(content) };
            entries.push(Entry {
                conversation: self.conversations[place],
                position: Position { epoch: Epoch::new(1), seq },
                prev: std::mem::replace(&mut prev[place], seq),
                at: Timestamp::from_millis(START_MILLIS + i64::try_from(seq).unwrap_or_default()),
                payload: event.encode(),
                trace: None,
            });
        }
        entries
    }
}

/// The same number for the same number, with no pattern to see.
fn scatter(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33
}

fn mebibytes(entries: &[Entry]) -> usize {
    entries.iter().map(|entry| size_of::<Entry>() + entry.payload.len()).sum::<usize>() >> 20
}

/// CPU of this process so far, of all its threads: user and system, in ticks of 10 ms.
fn cpu_seconds() -> Result<f64, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.map(str::parse::<u64>).sum::<Result<_, _>>()?;
    Ok(ticks as f64 / 100.0)
}

/// A line of kibibytes from this process's status.
fn status(name: &str) -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
