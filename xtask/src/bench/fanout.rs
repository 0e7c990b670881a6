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
/// The size of a room, and how many times the peer's deliveries per CPU-second are to be reached.
const ROOMS: [(usize, f64); 3] = [(10, 1.3), (100, 4.0), (1_000, 8.0)];

pub(super) fn measure(bench: &mut Bench, table: &mut Table) -> Result<()> {
    ROOMS.into_iter().try_for_each(|(size, target)| measure_rooms(bench, table, size, target))
}

fn measure_rooms(bench: &mut Bench, table: &mut Table, size: usize, target: f64) -> Result<()> {
    let mut loaders = bench.loaders(CONNECTIONS / size, size)?;
    let mut per_cpu_second =
        Row::new(format!("deliveries per server CPU-second, rooms of {size}"), Target::AtLeastTimes(target));
    let mut per_second = Row::new(format!("deliveries/s, rooms of {size}"), Target::None);
    let phase = Phase::Closed { in_flight: IN_FLIGHT, seconds: bench.seconds };
    // Once without looking: programs that compile themselves as they run, caches, files.
    for loader in &mut loaders {
        loader.run(phase)?;
    }
    bench.alternate(&mut loaders, |system, loader| {
        let processes = system.processes();
        let before = cpu_seconds(&processes)?;
        let report = loader.run(phase)?;
        settle(&processes)?;
        let used = cpu_seconds(&processes)? - before;
        per_cpu_second.push(system.kind(), report.deliveries as f64 / used);
        per_second.push(system.kind(), report.deliveries as f64 / report.seconds);
        Ok(())
    })?;
    table.add([per_cpu_second, per_second]);
    loaders.iter().for_each(|loader| table.count(loader.deliveries));
    Ok(())
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
