//! Many connections that do little: what a connection costs to make, to hold, and to hold after a burst.

use anyhow::Result;

use super::Bench;
use super::loader::Loader;
use super::process::{cpu_seconds, resident_bytes, settle};
use super::systems::System;
use super::table::{Row, Table, Target};
use crate::load::{Phase, Room};

/// The members of a room.
const ROOM_SIZE: usize = 100;
/// Messages of the burst, per room.
const BURST: usize = 20;
/// Rounds at most: each starts the servers anew.
const MAX_ROUNDS: usize = 3;

/// The rows of this measurement.
struct Rows {
    connect: Row,
    idle: Row,
    after_burst: Row,
}

pub(super) fn measure(bench: &mut Bench, table: &mut Table) -> Result<()> {
    let count = bench.connections;
    let mut rows = Rows {
        connect: Row::new(format!("CPU per connect with token and join, of {count}, µs"), Target::AtMost(150.0)),
        idle: Row::new(format!("memory per idle connection, of {count}, kB"), Target::AtMost(4.0)),
        after_burst: Row::new("the same after a burst, kB", Target::None),
    };
    let rooms = bench.systems.iter_mut().map(|system| system.rooms(count / ROOM_SIZE, ROOM_SIZE));
    let rooms = rooms.collect::<Result<Vec<Vec<Room>>>>()?;
    for _ in 0..bench.rounds.min(MAX_ROUNDS) {
        for (system, rooms) in bench.systems.iter_mut().zip(&rooms) {
            system.restart()?;
            settle(&system.processes())?;
            let loader = |system: &System| Loader::start(&bench.root, system, rooms.clone());
            table.count(round(system, loader, &mut rows)?);
        }
    }
    table.add([rows.connect, rows.idle, rows.after_burst]);
    Ok(())
}

/// One round on a server that has just started. Answers how many deliveries it took.
fn round(system: &System, loader: impl Fn(&System) -> Result<Loader>, rows: &mut Rows) -> Result<u64> {
    let (kind, processes, server) = (system.kind(), system.processes(), system.server_process());
    let (cpu, memory) = (cpu_seconds(&processes)?, resident_bytes(server)?);
    let mut loader = loader(system)?;
    settle(&processes)?;
    let count = loader.joined.connections as f64;
    rows.connect.push(kind, (cpu_seconds(&processes)? - cpu) / count * 1e6);
    rows.idle.push(kind, (resident_bytes(server)? - memory) / count / 1e3);
    let messages = loader.joined.connections / ROOM_SIZE * BURST;
    loader.run(Phase::Burst { in_flight: messages / BURST, messages })?;
    settle(&processes)?;
    rows.after_burst.push(kind, (resident_bytes(server)? - memory) / count / 1e3);
    Ok(loader.deliveries)
}
