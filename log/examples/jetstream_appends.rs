//! What the log adds to bare JetStream publishes: `jetstream_appends <server> <in flight> <seconds> [shards [replicas [connections]]]`.
//!
//! Publishes events of 200 bytes to a stream of the same settings, each acknowledged, with so many in flight; then
//! appends as many at a time through the log, once where nobody listens and once where a feed of the process listens
//! to every conversation, as on an edge whose senders are connected. Prints acknowledged events per second and the
//! CPU microseconds of this process for each. With a number of connections, measures only bare publishes, over so many.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use futures_util::future::BoxFuture;
use log::{Append, Config, Log, Topic};
use tokio::task::JoinSet;
use types::{EventId, GroupId, Region};

const PAYLOAD_BYTES: usize = 200;
/// Writers that share a conversation, as two members of a room do.
const WRITERS_PER_CONVERSATION: usize = 2;
/// Clock ticks per second in `/proc`.
const TICKS: f64 = 100.0;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;
/// Sends an event of the writer with this number into a group, and waits until it is acknowledged.
type Send1 = Arc<dyn Fn(usize, GroupId) -> BoxFuture<'static, Outcome<()>> + Send + Sync>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, in_flight, seconds, rest @ ..] = arguments.as_slice() else {
        return Err("jetstream_appends <server> <in flight> <seconds> [shards [replicas [connections]]]".into());
    };
    let (in_flight, duration) = (in_flight.parse()?, Duration::from_secs_f64(seconds.parse()?));
    let name = format!("bench-{}", EventId::generate(Region::default()));
    let config = Config::JetStream {
        servers: vec![server.as_str().into()],
        name: name.clone(),
        credentials: None,
        shards: rest.first().map_or(Ok(1), |shards| shards.parse())?,
        replicas: rest.get(1).map_or(Ok(1), |replicas| replicas.parse())?,
        retention_hours: 1,
        duplicate_window_seconds: 120,
    };
    log::migrate(&config, Path::new("."), Region::default()).await?;
    let log = log::open(&config, Path::new("."), Region::default()).await?;
    let context = jetstream::new(async_nats::connect(server).await?);
    let connections = rest.get(2).map(|connections| connections.parse::<usize>()).transpose()?;
    let mut contexts = vec![context.clone()];
    while contexts.len() < connections.unwrap_or(1) {
        contexts.push(jetstream::new(async_nats::connect(server).await?));
    }
    let groups: Vec<GroupId> =
        (0..in_flight).step_by(WRITERS_PER_CONVERSATION).map(|_| GroupId::generate(Region::default())).collect();

    let bare = measure("bare publishes", &groups, duration, bare(contexts, &name, log.layout().shards)).await?;
    if connections.is_none() {
        measure_log(&log, &groups, duration, bare).await?;
    }
    let shards = log.layout().shards;
    log.close().await;
    for shard in 0..shards {
        context.delete_stream(format!("{name}-0-{shard}")).await?;
    }
    context.delete_stream(format!("KV_{name}-readers-0")).await?;
    Ok(())
}

/// Publishes to the log's own streams, with an id each, by the client library alone. Writer after writer takes the next
/// connection.
fn bare(contexts: Vec<jetstream::Context>, name: &str, shards: u16) -> Send1 {
    let name = name.to_owned();
    Arc::new(move |writer, group| {
        let context = contexts[writer % contexts.len()].clone();
        let shard = types::ConversationId::Group(group).shard(shards);
        let subject = format!("{name}.log.0.{shard}.g.{group}");
        Box::pin(async move {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Nats-Msg-Id", EventId::generate(Region::default()).to_string());
            let payload = vec![b'x'; PAYLOAD_BYTES].into();
            context.publish_with_headers(subject, headers, payload).await?.await?;
            Ok(())
        })
    })
}

/// Appends through the log, first where nobody listens, then where a feed does.
async fn measure_log(log: &Arc<dyn Log>, groups: &[GroupId], duration: Duration, bare: f64) -> Outcome<()> {
    let through: Send1 = through(log);
    let unheard = measure("through the log, nobody listens", groups, duration, Arc::clone(&through)).await?;
    let mut feed = log.feed().await?;
    for group in groups {
        feed.topics().subscribe(Topic::Group(*group)).await?;
    }
    let reader = tokio::spawn(async move {
        let mut batch = Vec::new();
        while feed.next_batch(&mut batch, 1_000).await.is_ok() {
            batch.clear();
        }
    });
    let heard = measure("through the log, with a feed", groups, duration, through).await?;
    println!("of bare publishes: {:.0} % unheard, {:.0} % heard", 100.0 * unheard / bare, 100.0 * heard / bare);
    reader.abort();
    Ok(())
}

fn through(log: &Arc<dyn Log>) -> Send1 {
    let log = Arc::clone(log);
    Arc::new(move |_, group| {
        let log = Arc::clone(&log);
        Box::pin(async move {
            let id = EventId::generate(Region::default());
            let payload = vec![b'x'; PAYLOAD_BYTES].into();
            log.append(Append { conversation: group.into(), id, payload, trace: None }).await?.await?;
            Ok(())
        })
    })
}

/// Keeps every writer busy for so long, and gives the events per second.
async fn measure(what: &str, groups: &[GroupId], duration: Duration, send: Send1) -> Outcome<f64> {
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let mut writers = JoinSet::new();
    let writers_of = groups.iter().flat_map(|group| std::iter::repeat_n(*group, WRITERS_PER_CONVERSATION));
    for (writer, group) in writers_of.enumerate() {
        let send = Arc::clone(&send);
        writers.spawn(async move {
            let mut count = 0_u32;
            while began.elapsed() < duration {
                send(writer, group).await?;
                count += 1;
            }
            Outcome::Ok(count)
        });
    }
    let mut count = 0;
    while let Some(writer) = writers.join_next().await {
        count += writer??;
    }
    let rate = f64::from(count) / began.elapsed().as_secs_f64();
    let micros = (cpu_seconds() - cpu) * 1e6 / f64::from(count);
    println!("{what:>32}: {rate:>7.0} acknowledged/s, {micros:>5.1} µs CPU of this process each");
    Ok(rate)
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS
}
