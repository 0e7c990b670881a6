//! Acknowledged sends per second, beside bare appends to the same store.
//!
//! As many messages are in flight on both sides, over as many connections: with one message on each connection most of
//! the cost is a system call for each, on either side, and with many on one they share it.

use anyhow::{Context, Result};

use super::Bench;
use super::loader::Loader;
use super::process::{self, CLIENT_CORE, SERVER_CORE, settle};
use super::systems::{Cluster, Kind, System};
use super::table::{Row, Table, Target};
use crate::load::Phase;
use crate::stores::SHARDS;
use servers::shell;

/// Messages that are not acknowledged at any moment, on both sides of every comparison.
const IN_FLIGHT: usize = 100;
/// Over how many connections they come: a user behind each, or a service that writes for many.
const SENDERS: [usize; 2] = [100, 2];
/// What part of what the store takes by itself is to be reached through the whole path.
const PART_OF_BARE: f64 = 0.5;
/// The members of a room, all of whom send.
const ROOM_SIZE: usize = 2;

pub(super) fn measure(bench: &mut Bench, table: &mut Table) -> Result<()> {
    for senders in SENDERS {
        let mut loaders = bench.loaders(senders / ROOM_SIZE, ROOM_SIZE)?;
        measure_senders(bench, table, &mut loaders, senders)?;
        loaders.iter().for_each(|loader| table.count(loader.deliveries));
    }
    Ok(())
}

fn measure_senders(bench: &Bench, table: &mut Table, loaders: &mut [Loader], senders: usize) -> Result<()> {
    let clusters = || bench.systems.iter().filter_map(System::cluster);
    if clusters().next().is_none() {
        return measure_rates(bench, table, loaders, (senders, ""), Target::None);
    }
    measure_rates(bench, table, loaders, (senders, ", all on one core"), Target::None)?;
    // Bare publishes have the log's core to themselves, and their own process another. This gives the edge the same.
    clusters().try_for_each(Cluster::put_apart)?;
    let target = Target::AtLeast(PART_OF_BARE);
    measure_rates(bench, table, loaders, (senders, ", the log's core left to it"), target)?;
    clusters().try_for_each(Cluster::put_together)
}

fn measure_rates(
    bench: &Bench,
    table: &mut Table,
    loaders: &mut [Loader],
    (senders, how): (usize, &str),
    target: Target,
) -> Result<()> {
    let what = format!("acknowledged sends/s, {IN_FLIGHT} in flight over {senders} connections{how}");
    let mut acks = Row::new(what, Target::None);
    let mut bare = Row::new("as many straight into the log's store", Target::None);
    let mut part = Row::new("acknowledged sends as a part of that", target);
    let mut at_best = Row::new("straight into the log's store, all over one connection", Target::None);
    let phase = Phase::Acks { in_flight_each: IN_FLIGHT / senders, seconds: bench.seconds };
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
            System::Cluster(cluster) => {
                at_best.push(Kind::Rookery, bare_publishes(bench, &cluster.log_urls(), 1)?);
                bare_publishes(bench, &cluster.log_urls(), senders)?
            }
            System::Peer(_) => return Ok(()),
        };
        bare.push(Kind::Rookery, store);
        part.push(Kind::Rookery, rate / store);
        Ok(())
    })?;
    let has_cluster = bench.systems.iter().any(|system| system.cluster().is_some());
    table.add([acks, bare, part].into_iter().chain(has_cluster.then_some(at_best)));
    Ok(())
}

/// Appends to a log of its own, opened as the server opens its.
fn bare_appends(bench: &Bench) -> Result<f64> {
    let mut append = process::on_core(SERVER_CORE, bench.root.join("target/release/examples/bare_appends"));
    append.arg(bench.root.join("target/bench/append")).arg(IN_FLIGHT.to_string()).arg(bench.seconds.to_string());
    shell::output(&mut append)?.trim().parse().context("appends/s")
}

/// Publishes to a log of its own on the same servers with the client library alone, over as many connections. Its
/// process runs where the edge's clients do.
fn bare_publishes(bench: &Bench, urls: &[String], connections: usize) -> Result<f64> {
    let mut publish = process::on_core(CLIENT_CORE, bench.root.join("target/release/examples/jetstream_appends"));
    let url = urls.first().context("the log has a server")?;
    publish.arg(url).arg(IN_FLIGHT.to_string()).arg(bench.seconds.to_string());
    publish.arg(SHARDS.to_string()).arg(urls.len().to_string()).arg(connections.to_string());
    let output = shell::output(&mut publish)?;
    let bare = output.lines().find_map(|line| line.trim().strip_prefix("bare publishes:"));
    let rate = bare.and_then(|line| line.split_whitespace().next()?.parse().ok());
    rate.with_context(|| format!("no rate of bare publishes:\n{output}"))
}
