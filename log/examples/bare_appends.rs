//! How many appends per second the embedded log takes with nothing above it: `bare_appends <folder> <in flight> <seconds>`
//! prints the rate. `cargo xtask bench` sets it beside what clients get through the whole path.
#![expect(clippy::print_stdout, reason = "a tool for people at a terminal")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use log::{Append, Config, Log};
use tokio::task::JoinSet;
use types::{Body, Content, ConversationId, Event, EventId, GroupId, Region, UserId};

/// Writers that share a conversation, as two members of a room do.
const WRITERS_PER_CONVERSATION: usize = 2;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, in_flight, seconds] = arguments.as_slice() else {
        return Err("bare_appends <folder> <in flight> <seconds>".into());
    };
    let log = log::open(&Config::default(), &PathBuf::from(folder), Region::default()).await?;
    let duration = Duration::from_secs_f64(seconds.parse()?);
    let started = Instant::now();
    let mut writers = JoinSet::new();
    let mut conversation = ConversationId::Group(GroupId::generate(Region::default()));
    for writer in 0..in_flight.parse()? {
        if writer % WRITERS_PER_CONVERSATION == 0 {
            conversation = ConversationId::Group(GroupId::generate(Region::default()));
        }
        writers.spawn(write(Arc::clone(&log), conversation, started + duration));
    }
    let mut appends = 0;
    while let Some(writer) = writers.join_next().await {
        appends += writer??;
    }
    println!("{}", f64::from(appends) / started.elapsed().as_secs_f64());
    log.close().await;
    Ok(())
}

/// Appends one message after the other, each once the one before is stored. Answers how many.
async fn write(log: Arc<dyn Log>, conversation: ConversationId, until: Instant) -> log::Result<u32> {
    let sender = UserId::generate(Region::default());
    let mut appends = 0;
    while Instant::now() < until {
        let id = EventId::generate(Region::default());
        let content = Content { text: "x".repeat(100), ..Content::default() };
        let payload: Bytes = Event { id, sender, body: Body::Message(content) }.encode();
        log.append(Append { conversation, id, payload, trace: None }).await?.await?;
        appends += 1;
    }
    Ok(appends)
}
