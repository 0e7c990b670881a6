//! What an append costs: `cargo run --release -p log@0.1.0 --example append [seconds] [conversations]`.
//!
//! Keeps 1, 60, 120 and 1,000 events of 200 bytes in flight against a log in a temporary folder, with one feed and one
//! consumer reading along, and prints for each: appends per second, CPU microseconds of the whole process per
//! append, and the time from hand-over to receipt.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use log::{Append, Config, Consumer, Log, Topic};
use types::{ConversationId, EventId, GroupId, Region};

const PAYLOAD_BYTES: usize = 200;
const INGEST: Consumer = Consumer { group: "ingest", shard: 0 };
/// Clock ticks per second in `/proc`.
const TICKS: f64 = 100.0;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1).map_while(|argument| argument.parse::<u64>().ok());
    let seconds = arguments.next().unwrap_or(5);
    let count = arguments.next().unwrap_or(10_000);
    let conversations: Arc<[ConversationId]> =
        (0..count).map(|_| GroupId::generate(Region::default()).into()).collect();
    println!("{PAYLOAD_BYTES}-byte payloads, {count} conversations, {seconds} s each");
    for in_flight in [1, 60, 120, 1_000] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let began = Instant::now();
        let log = log::open(&Config::default(), folder.path(), Region::default()).await.expect("the log opens");
        let opened = began.elapsed();
        let readers =
            [tokio::spawn(follow(Arc::clone(&log), conversations[0])), tokio::spawn(consume(Arc::clone(&log)))];
        measure(&log, in_flight, Duration::from_secs(seconds), &conversations).await;
        println!("    opened in {opened:?}, {} MB resident", resident_mb());
        log.close().await;
        for reader in readers {
            reader.await.expect("a reader ends with the log");
        }
        drop(log);
        let began = Instant::now();
        let log = log::open(&Config::default(), folder.path(), Region::default()).await.expect("the log opens");
        println!("    opened again in {:?}", began.elapsed());
        log.close().await;
    }
}

async fn measure(log: &Arc<dyn Log>, in_flight: u64, duration: Duration, conversations: &Arc<[ConversationId]>) {
    let (number, began, cpu) = (Arc::new(AtomicU64::new(0)), Instant::now(), cpu_seconds());
    let writers = (0..in_flight).map(|_| {
        let (log, number, conversations) = (Arc::clone(log), Arc::clone(&number), Arc::clone(conversations));
        tokio::spawn(async move {
            let mut micros = Vec::new();
            while began.elapsed() < duration {
                let handed_over = Instant::now();
                let number = number.fetch_add(1, Ordering::Relaxed);
                // A step that is prime to most counts visits the conversations in no particular order.
                let index = usize::try_from(number.wrapping_mul(7_919)).unwrap_or(0) % conversations.len();
                let id = EventId::generate(Region::default());
                let payload = vec![b'x'; PAYLOAD_BYTES].into();
                let append = Append { conversation: conversations[index], id, payload, trace: None };
                log.append(append).await.expect("it is taken").await.expect("it is stored");
                micros.push(handed_over.elapsed().as_micros());
            }
            micros
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut micros = Vec::new();
    for writer in writers {
        micros.extend(writer.await.expect("a writer ends"));
    }
    let (elapsed, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    micros.sort_unstable();
    let appends = micros.len() as f64;
    let percentile = |of: usize| micros[(micros.len() - 1) * of / 1_000] as f64 / 1_000.0;
    println!(
        "{in_flight:>5} in flight: {:>7.0} appends/s, {:>5.2} µs CPU each, p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms",
        appends / elapsed,
        cpu * 1e6 / appends,
        percentile(500),
        percentile(990),
        percentile(999),
    );
}

/// Listens to one conversation, as an edge does.
async fn follow(log: Arc<dyn Log>, conversation: ConversationId) {
    let mut feed = log.feed().await.expect("a feed");
    if let ConversationId::Group(group) = conversation {
        feed.topics().subscribe(Topic::Group(group)).await.expect("a subscription");
    }
    drop(log);
    let mut batch = Vec::new();
    while feed.next_batch(&mut batch, 1_000).await.is_ok() {
        batch.clear();
    }
}

/// Takes everything, as ingest does.
async fn consume(log: Arc<dyn Log>) {
    while let Ok(entries) = log.fetch(INGEST, 1_000).await {
        let Some(last) = entries.last() else { continue };
        if log.ack(INGEST, last.position.seq).await.is_err() {
            return;
        }
    }
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS
}

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) / 1_024
}
