//! Measures what counting costs.
//!
//! `cargo run --release -p analytics --example record [FACTS]` records that many facts (a million unless told)
//! of ninety days: 10,000 users, some far more talkative than others, in 2,000 conversations. It prints the CPU
//! time per fact of the whole process, as Linux counts it, and how long the questions take.
//!
//! Each batch size fills a store of its own, in order of time as a log would. `spread` is the worst case: a
//! million users who are all alike, on one day.
//!
//! `… --example record FACTS CLICKHOUSE NATS [PID]` does the same on a ClickHouse server, `http://127.0.0.1:8123`, with
//! notes in a NATS server, `nats://127.0.0.1:4222`, in a database and a bucket of its own that it removes again. With
//! the number of ClickHouse's process it prints that one's CPU time too.

#![expect(clippy::print_stdout, reason = "it is a program that prints")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use analytics::{Analytics, Bucket, Config, Fact, Filter, Range, Ranges};
use clickhouse::Client;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use types::{ConversationId, GroupId, Region, Timestamp, UserId};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const FIRST_DAY_MS: i64 = 20_000 * DAY_MS;
const DAYS: i64 = 90;
/// Linux counts CPU time in hundredths of a second.
const TICK_MICROS: f64 = 10_000.0;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Where facts are recorded, as the command line says.
struct Place {
    /// ClickHouse and NATS; without them SQLite.
    servers: Option<(String, String)>,
    /// The process of ClickHouse.
    pid: Option<String>,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let facts = args.next().map_or(Ok(1_000_000), |count| count.parse::<usize>())?;
    let place = Place { servers: args.next().zip(args.next()), pid: args.next() };
    let skewed = draw(facts, 10_000, 2_000, DAYS)?;
    for batch in [100, 1_000, 10_000] {
        fill(&place, &skewed, batch, "skewed").await?;
    }
    let spread = draw(facts, 1_000_000, 300_000, 1)?;
    fill(&place, &spread, 1_000, "spread").await?;
    Ok(())
}

/// Records the facts in batches into a new store, and asks it questions.
async fn fill(place: &Place, facts: &[Fact], batch: usize, name: &str) -> Outcome<()> {
    // Here, and not where temporary files lie: that may be memory, which syncs for nothing.
    let folder = tempfile::tempdir_in(".")?;
    let config = place.config(name, batch);
    let began = Instant::now();
    analytics::migrate(&config, folder.path()).await?;
    let store = analytics::open(&config, folder.path()).await?;
    println!("{name}, batches of {batch}: made in {:.1} ms", began.elapsed().as_secs_f64() * 1e3);

    let (began, cpu_before, server_before) = (Instant::now(), cpu_ticks("self")?, place.cpu_ticks()?);
    for range in facts.chunks(batch) {
        let (after_seq, through_seq) = (range[0].seq - 1, range[range.len() - 1].seq);
        store.record(Range { shard: 0, after_seq, through_seq, facts: range }).await?;
    }
    let count = facts.len() as f64;
    let per_fact = |ticks: f64| ticks * TICK_MICROS / count;
    let (wall, ours) = (began.elapsed().as_secs_f64(), per_fact(cpu_ticks("self")? - cpu_before));
    let servers = per_fact(place.cpu_ticks()? - server_before);
    println!("  {ours:.2} µs CPU per fact here, {servers:.2} at the server, {:.0} facts/s", count / wall);
    ask(&store).await?;

    drop(store);
    let began = Instant::now();
    let store = analytics::open(&config, folder.path()).await?;
    let opened = began.elapsed().as_secs_f64() * 1e3;
    let bytes = place.bytes(&config, folder.path()).await?;
    println!("  opened again in {opened:.1} ms; {:.0} bytes per fact, {}", bytes / count, store.recorded_seq(0).await?);
    place.remove(&config).await
}

impl Place {
    fn config(&self, name: &str, batch: usize) -> Config {
        let Some((url, nats)) = &self.servers else { return Config::default() };
        let name = format!("example_{name}_{batch}");
        let ranges = Ranges { servers: vec![nats.as_str().into()], name: name.clone(), credentials: None, replicas: 1 };
        let (url, user) = (url.clone(), "default".into());
        Config::Clickhouse { url, database: name, user, password: None, replicated: false, ranges }
    }

    fn cpu_ticks(&self) -> Outcome<f64> {
        self.pid.as_deref().map_or(Ok(0.0), cpu_ticks)
    }

    /// What the facts take on the disk.
    async fn bytes(&self, config: &Config, folder: &Path) -> Outcome<f64> {
        const BYTES: &str = "SELECT sum(bytes_on_disk) FROM system.parts WHERE database = ? AND active";
        let Config::Clickhouse { url, database, .. } = config else {
            return Ok(std::fs::metadata(folder.join("analytics.sqlite"))?.len() as f64);
        };
        let bytes = Client::default().with_url(url).query(BYTES).bind(database);
        Ok(bytes.fetch_one::<u64>().await? as f64)
    }

    async fn remove(&self, config: &Config) -> Outcome<()> {
        let Config::Clickhouse { url, database, ranges, .. } = config else { return Ok(()) };
        let drop = format!("DROP DATABASE {database} SYNC");
        Client::default().with_url(url).query(&drop).execute().await?;
        let nats = async_nats::connect(ranges.servers[0].expose()).await?;
        async_nats::jetstream::new(nats).delete_key_value(&ranges.name).await?;
        Ok(())
    }
}

async fn ask(store: &Arc<dyn Analytics>) -> Outcome<()> {
    let minutes = |count: i64| count * 60_000;
    let ranges = [
        ("no range", None, None),
        ("30 days unaligned", Some(20 * DAY_MS + minutes(557)), Some(50 * DAY_MS + minutes(1003))),
        ("90 minutes", Some(minutes(600)), Some(minutes(690))),
        ("the last hour", Some(DAYS * DAY_MS - minutes(60)), None),
    ];
    for (name, start, end) in ranges {
        let at = |at: Option<i64>| at.map(|at| Timestamp::from_millis(FIRST_DAY_MS + at));
        let filter = Filter { start: at(start), end: at(end), include_direct: true, ..Filter::default() };
        let mut took = Vec::new();
        for _ in 0..3 {
            let began = Instant::now();
            store.top_users(&filter, 0, 5).await?;
            let users = began.elapsed();
            store.top_conversations(&filter, 0, 5).await?;
            let conversations = began.elapsed() - users;
            store.activity(&filter, Bucket::Hour, 100).await?;
            let all = began.elapsed();
            took.push([users, conversations, all - users - conversations].map(|took| took.as_secs_f64() * 1e3));
        }
        let best = |which: usize| took.iter().map(|took| took[which]).fold(f64::MAX, f64::min);
        let total = store.total(&filter).await?;
        let (users, conversations, activity) = (best(0), best(1), best(2));
        println!("  {name} ({total}): users {users:.1} ms, conversations {conversations:.1}, activity {activity:.1}");
    }
    Ok(())
}

/// Facts in order of time; the larger an index, the rarer.
fn draw(count: usize, users: usize, conversations: usize, days: i64) -> Outcome<Vec<Fact>> {
    let mut lot = StdRng::seed_from_u64(1);
    let region = |number: usize| Region::new(u16::try_from(number % 3).unwrap_or_default()).unwrap_or_default();
    let users: Vec<_> = (0..users).map(|number| UserId::generate(region(number))).collect();
    let conversations: Vec<ConversationId> = (0..conversations)
        .map(|number| match number % 4 {
            0 => ConversationId::direct(users[number], users[number / 2]),
            _ => GroupId::generate(region(number)).into(),
        })
        .collect();
    let is_skewed = days > 1;
    let mut pick = |length: usize| {
        let index = lot.random_range(0..length);
        if is_skewed {
            index * lot.random_range(0..length) / length * lot.random_range(0..length) / length
        } else {
            index
        }
    };
    let gap_ms = days * DAY_MS / i64::try_from(count)?.max(1);
    let fact = |(seq, at): (u64, i64)| {
        let sender = users[pick(users.len())];
        let conversation = conversations[pick(conversations.len())];
        Fact {
            seq,
            at: Timestamp::from_millis(FIRST_DAY_MS + at * gap_ms),
            region: sender.region(),
            conversation,
            sender,
        }
    };
    Ok((1..).zip(0..).take(count).map(fact).collect())
}

/// CPU time of all threads of a process so far.
fn cpu_ticks(process: &str) -> Outcome<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The fields after the program's name, which may hold spaces: user and system time are the 12th and 13th.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    Ok(fields.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum())
}
