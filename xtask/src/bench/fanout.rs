//! Deliveries per second and per CPU-second, with messages always in flight.

use anyhow::Result;

use super::Bench;
use super::loader::Loader;
use super::process::{cpu_seconds, settle};
use super::table::{Row, Table, Target};
use crate::load::Phase;

/// Connections over all rooms.
const CONNECTIONS: usize = 1_000;
/// Messages that no longer wait for anybody are replaced at once by new ones.
const IN_FLIGHT: usize = 60;
/// How long a cluster works before it is measured, in seconds: a Cassandra that shares its core takes more than a minute
/// to compile what is hot.
const WARM_UP_SECONDS: f64 = 100.0;
/// The size of a room, and how many times the peer's deliveries per CPU-second are to be reached.
const ROOMS: [(usize, Targets); 3] = [
    (10, Targets { whole: 1.3, cluster: 0.5, edge: 1.5 }),
    (100, Targets { whole: 4.0, cluster: 2.0, edge: 4.0 }),
    (1_000, Targets { whole: 8.0, cluster: 6.0, edge: 8.0 }),
];

/// How many times the peer's deliveries per CPU-second are to be reached.
#[derive(Clone, Copy)]
struct Targets {
    /// By one process with every role on embedded stores.
    whole: f64,
    /// By all processes of a cluster together: they keep an ordered log, a history and exact counts, where the peer
    /// keeps one copy in one database.
    cluster: f64,
    /// By a cluster's edge alone.
    edge: f64,
}

pub(super) fn measure(bench: &mut Bench, table: &mut Table) -> Result<()> {
    ROOMS.into_iter().try_for_each(|(size, targets)| measure_rooms(bench, table, size, targets))
}

/// Has clusters work until they are warm.
pub(super) fn warm_up(bench: &mut Bench) -> Result<()> {
    for system in bench.systems.iter_mut().filter(|system| !system.parts().is_empty()) {
        eprintln!("warming up for {WARM_UP_SECONDS} s");
        let (size, _) = ROOMS[0];
        let rooms = system.rooms(CONNECTIONS / size, size)?;
        let phase = Phase::Closed { in_flight: IN_FLIGHT, seconds: WARM_UP_SECONDS };
        Loader::start(&bench.root, system, rooms)?.run(phase)?;
    }
    Ok(())
}

fn measure_rooms(bench: &mut Bench, table: &mut Table, size: usize, targets: Targets) -> Result<()> {
    let parts = bench.systems.iter().flat_map(super::System::parts).map(|(name, _)| name);
    let mut names: Vec<&str> = parts.collect();
    names.dedup();
    let mut costs: Vec<(&str, Row)> = names
        .into_iter()
        .map(|name| (name, Row::new(format!("CPU of {name} per message, rooms of {size}, µs"), Target::None)))
        .collect();
    let is_cluster = !costs.is_empty();
    let target = Target::AtLeastTimes(if is_cluster { targets.cluster } else { targets.whole });
    let mut loaders = bench.loaders(CONNECTIONS / size, size)?;
    let mut per_cpu_second = Row::new(format!("deliveries per server CPU-second, rooms of {size}"), target);
    let edge = format!("deliveries per CPU-second of the edge alone, rooms of {size}");
    let mut per_edge_second = Row::new(edge, Target::AtLeastTimes(targets.edge));
    let mut per_second = Row::new(format!("deliveries/s, rooms of {size}"), Target::None);
    let phase = Phase::Closed { in_flight: IN_FLIGHT, seconds: bench.seconds };
    // Once without looking: programs that compile themselves as they run, caches, files.
    for loader in &mut loaders {
        loader.run(phase)?;
    }
    bench.alternate(&mut loaders, |system, loader| {
        let (kind, processes) = (system.kind(), system.processes());
        let before = each_used(&processes)?;
        let report = loader.run(phase)?;
        settle(&processes)?;
        let used: Vec<f64> = each_used(&processes)?.iter().zip(&before).map(|(after, before)| after - before).collect();
        let deliveries = report.deliveries as f64;
        per_cpu_second.push(kind, deliveries / used.iter().sum::<f64>());
        per_second.push(kind, deliveries / report.seconds);
        // The peer has no edge apart: its whole is what the edge is set beside.
        let has_parts = !system.parts().is_empty();
        per_edge_second.push(kind, deliveries / if has_parts { used[0] } else { used.iter().sum() });
        let parts = system.parts();
        for (name, row) in costs.iter_mut().filter(|_| has_parts) {
            let of_part = parts.iter().zip(&used).filter(|((part, _), _)| part == name);
            row.push(kind, of_part.map(|(_, used)| used).sum::<f64>() / report.messages as f64 * 1e6);
        }
        Ok(())
    })?;
    table.add([per_cpu_second]);
    table.add(is_cluster.then_some(per_edge_second));
    table.add([per_second]);
    table.add(costs.into_iter().map(|(_, row)| row));
    loaders.iter().for_each(|loader| table.count(loader.deliveries));
    Ok(())
}

/// The CPU time that each of these processes has used with its children, in seconds.
fn each_used(processes: &[u32]) -> Result<Vec<f64>> {
    processes.iter().map(|process| cpu_seconds(&[*process])).collect()
}

impl Bench {
    /// A load client per system, in rooms of its own.
    pub(super) fn loaders(&mut self, rooms: usize, size: usize) -> Result<Vec<Loader>> {
        let root = &self.root;
        let start = |system: &mut super::System| {
            let rooms = system.rooms(rooms, size)?;
            Loader::start(root, system, rooms)
        };
        self.systems.iter_mut().map(start).collect()
    }

    /// Measures each system in turn, round after round, each round beginning when all are quiet.
    pub(super) fn alternate(
        &self,
        loaders: &mut [Loader],
        mut measure: impl FnMut(&super::System, &mut Loader) -> Result<()>,
    ) -> Result<()> {
        let all: Vec<u32> = self.systems.iter().flat_map(super::System::processes).collect();
        for round in 0..self.rounds {
            let mut order: Vec<usize> = (0..self.systems.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for index in order {
                settle(&all)?;
                measure(&self.systems[index], &mut loaders[index])?;
            }
        }
        Ok(())
    }
}
