//! Acknowledged sends per second, beside bare appends to the same store.

use anyhow::{Context, Result};

use super::Bench;
use super::loader::Loader;
use super::process::{self, CLIENT_CORE, SERVER_CORE, settle};
use super::systems::{Cluster, Kind, System};
use super::table::{Row, Table, Target};
use crate::load::Phase;
use crate::stores::SHARDS;
use servers::shell;

/// Senders; each sends its next message when its last one is acknowledged.
const SENDERS: usize = 100;
/// What part of what the store takes by itself is to be reached through the whole path.
const PART_OF_BARE: f64 = 0.5;
/// The members of a room, all of whom send.
const ROOM_SIZE: usize = 2;

pub(super) fn measure(bench: &mut Bench, table: &mut Table) -> Result<()> {
    let mut loaders = bench.loaders(SENDERS / ROOM_SIZE, ROOM_SIZE)?;
    let clusters = || bench.systems.iter().filter_map(System::cluster);
    let target = Target::AtLeast(PART_OF_BARE);
    if clusters().next().is_none() {
        measure_rates(bench, table, &mut loaders, "", target)?;
    } else {
        measure_rates(bench, table, &mut loaders, ", all on one core", Target::None)?;
        // Bare publishes have the log's core to themselves, and their own process another. This gives the edge the same.
        clusters().try_for_each(Cluster::put_apart)?;
        measure_rates(bench, table, &mut loaders, ", the log's core left to it", target)?;
        clusters().try_for_each(Cluster::put_together)?;
    }
    loaders.iter().for_each(|loader| table.count(loader.deliveries));
    Ok(())
}

fn measure_rates(bench: &Bench, table: &mut Table, loaders: &mut [Loader], how: &str, target: Target) -> Result<()> {
    let mut acks = Row::new(format!("acknowledged sends/s, {SENDERS} senders{how}"), Target::None);
    let mut bare = Row::new(format!("the same straight into the log's store, {SENDERS} in flight"), Target::None);
    let mut part = Row::new("acknowledged sends as a part of that", target);
    let phase = Phase::Acks { seconds: bench.seconds };
    for loader in loaders.iter_mut() {
        loader.run(phase)?;
    }
    bench.alternate(loaders, |system, loader| {
        let report = loader.run(phase)?;
        let rate = report.acks as f64 / report.seconds;
        acks.push(system.kind(), rate);
        settle(&system.processes())?;
        let store = match system {
            System::Rookery(_) => bare_appends(bench)?,
            System::Cluster(cluster) => bare_publishes(bench, &cluster.log_urls())?,
            System::Peer(_) => return Ok(()),
        };
        bare.push(Kind::Rookery, store);
        part.push(Kind::Rookery, rate / store);
        Ok(())
    })?;
    table.add([acks, bare, part]);
    Ok(())
}

/// Appends to a log of its own, opened as the server opens its.
fn bare_appends(bench: &Bench) -> Result<f64> {
    let mut append = process::on_core(SERVER_CORE, bench.root.join("target/release/examples/bare_appends"));
    append.arg(bench.root.join("target/bench/append")).arg(SENDERS.to_string()).arg(bench.seconds.to_string());
    shell::output(&mut append)?.trim().parse().context("appends/s")
}

/// Publishes to a log of its own on the same servers with the client library alone. Its process runs where the edge's
/// clients do.
fn bare_publishes(bench: &Bench, urls: &[String]) -> Result<f64> {
    let mut publish = process::on_core(CLIENT_CORE, bench.root.join("target/release/examples/jetstream_appends"));
    let url = urls.first().context("the log has a server")?;
    publish.arg(url).arg(SENDERS.to_string()).arg(bench.seconds.to_string());
    publish.arg(SHARDS.to_string()).arg(urls.len().to_string());
    let output = shell::output(&mut publish)?;
    let bare = output.lines().find_map(|line| line.trim().strip_prefix("bare publishes:"));
    let rate = bare.and_then(|line| line.split_whitespace().next()?.parse().ok());
    rate.with_context(|| format!("no rate of bare publishes:\n{output}"))
}
