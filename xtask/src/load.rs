//! The load client: a process of its own that holds many connections to one server and counts what comes.
//!
//! It is told what to do in JSON, a line each: first a [`Plan`], to which it answers with a [`Joined`] once every
//! connection is; then any number of [`Phase`]s, each answered with a [`Report`]; and ends at the end of its input.
//!
//! It must be far lighter than the server it loads: one thread and one `epoll`, large reads, a walk over frame
//! headers instead of a WebSocket library, and no JSON. It still checks everything: each message carries its number
//! at a known place of its text, and the [`ledger`] knows from the numbers alone that each member of a room saw each
//! message once and all saw them in one order.
//!
//! | module | what it holds |
//! |---|---|
//! | [`frame`] | WebSocket frames: finding them in bytes, making them |
//! | [`protocol`] | what Rookery and Socket.IO say inside frames |
//! | [`connection`] | a socket, with what is half read and half written |
//! | [`ledger`] | which message was seen by whom |
//! | [`client`] | all connections, and the loop that drives them |
//! | [`pace`] | when the next message is due, and from whom |

mod client;
mod connection;
mod frame;
mod ledger;
mod pace;
mod protocol;

use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use client::Client;
pub(crate) use protocol::Protocol;

/// The length of each message's text, in bytes.
pub(crate) const TEXT_BYTES: usize = 100;

/// Whom to connect to, and as whom.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The server.
    pub(crate) address: SocketAddr,
    /// What it speaks.
    pub(crate) protocol: Protocol,
    /// The rooms, all of one size.
    pub(crate) rooms: Vec<Room>,
}

/// A room, with a connection per member.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Room {
    /// The conversation's id, or the room's name.
    pub(crate) id: String,
    /// Each member's access token, or its name.
    pub(crate) members: Vec<String>,
}

/// All connections stand and will see what is sent from now on.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Joined {
    /// How many.
    pub(crate) connections: usize,
    /// How long it took.
    pub(crate) seconds: f64,
}

/// Something to do with the connections. Every phase ends when all that was sent has reached all.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// A closed loop: so many messages are always in flight, until so long has passed. A message is in flight until
    /// every member of its room has it and its sender has the acknowledgement.
    Closed {
        /// Messages in flight, over all rooms.
        in_flight: usize,
        /// For how long new ones are sent.
        seconds: f64,
    },
    /// A closed loop of so many messages.
    Burst {
        /// Messages in flight, over all rooms.
        in_flight: usize,
        /// How many in all.
        messages: usize,
    },
    /// A closed loop of acknowledgements: every connection sends its next message when one of its last is acknowledged.
    Acks {
        /// Messages of each connection that are not acknowledged.
        in_flight_each: usize,
        /// For how long new ones are sent.
        seconds: f64,
    },
    /// An open loop: messages are sent by the clock, whatever the server does, and their latency counts from when
    /// they were due.
    Open {
        /// Messages per second, over all rooms.
        rate: f64,
        /// For how long.
        seconds: f64,
    },
}

/// What a phase did.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Messages sent.
    pub(crate) messages: u64,
    /// Messages received, over all connections.
    pub(crate) deliveries: u64,
    /// Acknowledgements received.
    pub(crate) acks: u64,
    /// From the first send to the last delivery.
    pub(crate) seconds: f64,
    /// From when a message was due to each delivery, in microseconds. Open loops only.
    pub(crate) latency: Option<Latency>,
    /// Everything that was not as it must be: a message lost, twice, or out of order; an error from the server.
    pub(crate) errors: Vec<String>,
}

/// Percentiles, in microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// Half were faster.
    pub(crate) p50: u64,
    /// One in a hundred was slower.
    pub(crate) p99: u64,
    /// One in a thousand was slower.
    pub(crate) p999: u64,
    /// The slowest.
    pub(crate) max: u64,
}

/// Serves the phases that come over standard input.
pub(crate) fn run() -> Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    let plan = lines.next().context("no plan")??;
    drop(lines);
    let plan: Plan = serde_json::from_str(&plan).context("the plan")?;

    let mut client = Client::new(&plan)?;
    let started = Instant::now();
    client.connect(&plan)?;
    let connections = client.connections();
    answer(&Joined { connections, seconds: started.elapsed().as_secs_f64() })?;

    let phases = phases(&client)?;
    loop {
        match phases.try_recv() {
            Ok(phase) => answer(&client.run(phase)?)?,
            Err(mpsc::TryRecvError::Empty) => client.wait()?,
            Err(mpsc::TryRecvError::Disconnected) => return Ok(()),
        }
    }
}

/// The phases that come over standard input. The client is woken for each, and at the end.
fn phases(client: &Client) -> Result<mpsc::Receiver<Phase>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let waker = client.waker()?;
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(phase) = serde_json::from_str(&line) else { break };
            if sender.send(phase).is_err() || waker.wake().is_err() {
                break;
            }
        }
        drop(sender);
        drop(waker.wake());
    });
    Ok(receiver)
}

fn answer(answer: &impl Serialize) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    serde_json::to_writer(&mut stdout, answer)?;
    stdout.write_all(b"\n")?;
    Ok(stdout.flush()?)
}
