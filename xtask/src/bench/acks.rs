//! Acknowledged sends per second, beside bare appends to the same store.

use anyhow::{Context, Result};

use super::Bench;
use super::process::{self, SERVER_CORE};
use super::systems::Kind;
use super::table::{Row, Table, Target};
use crate::load::Phase;
use servers::shell;

/// Senders; each sends its next message when its last one is acknowledged.
const SENDERS: usize = 100;
/// The members of a room, all of whom send.
const ROOM_SIZE: usize = 2;

pub(super) fn measure(bench: &mut Bench, table: &mut Table) -> Result<()> {
    let mut loaders = bench.loaders(SENDERS / ROOM_SIZE, ROOM_SIZE)?;
    let mut acks = Row::new(format!("acknowledged sends/s, {SENDERS} senders"), Target::None);
    let mut appends = Row::new(format!("bare appends/s to the same store, {SENDERS} in flight"), Target::None);
    let phase = Phase::Acks { seconds: bench.seconds };
    for loader in &mut loaders {
        loader.run(phase)?;
    }
    bench.alternate(&mut loaders, |system, loader| {
        let report = loader.run(phase)?;
        acks.push(system.kind(), report.acks as f64 / report.seconds);
        if system.kind() == Kind::Rookery {
            process::settle(&system.processes())?;
            appends.push(Kind::Rookery, bare_appends(bench)?);
        }
        Ok(())
    })?;
    table.add([acks, appends]);
    loaders.iter().for_each(|loader| table.count(loader.deliveries));
    Ok(())
}

/// Appends to a log of its own, opened as the server opens its.
fn bare_appends(bench: &Bench) -> Result<f64> {
    let data = bench.root.join("target/bench/append");
    let mut append = process::on_core(SERVER_CORE, bench.root.join("target/release/examples/bare_appends"));
    append.arg(data).arg(SENDERS.to_string()).arg(bench.seconds.to_string());
    shell::output(&mut append)?.trim().parse().context("appends/s")
}
