//! From when a message was due to each delivery, while messages come by the clock.

use anyhow::Result;

use super::Bench;
use super::table::{Row, Table, Target};
use crate::load::Phase;

/// The members of a room.
const ROOM_SIZE: usize = 100;
/// How many rooms.
const ROOMS: usize = 10;
/// Deliveries per second.
const RATES: [usize; 2] = [10_000, 100_000];
/// What part of the peer's p99 ours may be.
const TARGET: f64 = 0.5;

pub(super) fn measure(bench: &mut Bench, table: &mut Table) -> Result<()> {
    let mut loaders = bench.loaders(ROOMS, ROOM_SIZE)?;
    for rate in RATES {
        let phase = Phase::Open { rate: rate as f64 / ROOM_SIZE as f64, seconds: bench.seconds };
        let row = |percentile, target| Row::new(format!("{percentile} latency at {rate} deliveries/s, ms"), target);
        let [mut p50, mut p99, mut p999] =
            [row("p50", Target::None), row("p99", Target::AtMostTimes(TARGET)), row("p99.9", Target::None)];
        let mut held = Row::new(format!("deliveries/s while {rate}/s were due"), Target::None);
        for loader in &mut loaders {
            loader.run(phase)?;
        }
        bench.alternate(&mut loaders, |system, loader| {
            let report = loader.run(phase)?;
            held.push(system.kind(), report.deliveries as f64 / report.seconds);
            if let Some(latency) = report.latency {
                p50.push(system.kind(), latency.p50 as f64 / 1_000.0);
                p99.push(system.kind(), latency.p99 as f64 / 1_000.0);
                p999.push(system.kind(), latency.p999 as f64 / 1_000.0);
            }
            Ok(())
        })?;
        table.add([p50, p99, p999, held]);
    }
    loaders.iter().for_each(|loader| table.count(loader.deliveries));
    Ok(())
}
