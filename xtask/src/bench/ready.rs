//! How long Rookery takes from its start until it says that it is ready.

use anyhow::Result;

use super::Bench;
use super::systems::{Kind, Rookery, System};
use super::table::{Row, Table, Target};

/// Starts of each kind.
const STARTS: usize = 10;
/// What a start may take, in milliseconds.
const TARGET_MS: f64 = 250.0;

pub(super) fn measure(bench: &mut Bench, table: &mut Table) -> Result<()> {
    let mut fresh = Row::new("start until ready, new data folder, ms", Target::AtMost(TARGET_MS));
    let mut existing = Row::new("start until ready, with the data of this run, ms", Target::AtMost(TARGET_MS));
    let push = |row: &mut Row, took: std::time::Duration| row.push(Kind::Rookery, took.as_secs_f64() * 1e3);
    for system in &mut bench.systems {
        let System::Rookery(rookery) = system else { continue };
        for _ in 0..STARTS {
            push(&mut existing, rookery.start_timed()?);
        }
        for number in 0..STARTS {
            let data = bench.root.join(format!("target/bench/fresh-{number}"));
            let (_rookery, took) = Rookery::start(&bench.root, &data)?;
            push(&mut fresh, took);
        }
    }
    table.add([fresh, existing]);
    Ok(())
}
