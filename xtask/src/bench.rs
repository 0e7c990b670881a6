//! `cargo xtask bench`: Rookery against what most would write first, Socket.IO with one insert into Postgres per
//! message (`xtask/peer/`), in one run on one machine.
//!
//! With `--stores real` Rookery is a process for each role on real servers, and what each part costs is told too.
//!
//! The servers (and Postgres) run on the first core, the load client on the second; where both systems are measured,
//! their rounds alternate; where the log's store is measured by itself, a cluster leaves its core to it as well ([`acks`]).
//! Only ratios within a run count: machines differ, and so do their days. CPU time is that
//! of all processes of a system, from `/proc`, until they are quiet after a round: work that is put off is counted.
//!
//! | module | what it holds |
//! |---|---|
//! | [`systems`] | the two systems: starting them, making rooms |
//! | [`loader`] | the load client's process |
//! | [`process`] | CPU time, memory, cores |
//! | [`fanout`], [`latency`], [`acks`], [`idle`], [`ready`] | what is measured |
//! | [`table`] | what is printed |

mod acks;
mod fanout;
mod idle;
mod latency;
mod loader;
mod process;
mod ready;
mod systems;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::stores::LogServers;
use servers::shell;
use systems::{Kind, Stores, System};
use table::Table;

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A short run that shows that everything works: one round of a second, a tenth of the connections.
    #[arg(long)]
    quick: bool,
    /// Only this measurement.
    #[arg(long, value_enum)]
    only: Option<Measurement>,
    /// Only this system.
    #[arg(long, value_enum)]
    system: Option<Kind>,
    /// What stands behind Rookery.
    #[arg(long, value_enum, default_value_t)]
    stores: Stores,
    /// How many servers keep the log of real stores.
    #[arg(long, value_enum, default_value_t)]
    log_servers: LogServers,
    /// Measure what was built before.
    #[arg(long)]
    no_build: bool,
    /// Rounds of each measurement.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long a round sends, in seconds.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Measurement {
    /// Deliveries per second and per CPU-second, in rooms of three sizes.
    Fanout,
    /// From when a message was due to each delivery, at two rates.
    Latency,
    /// Acknowledged sends per second, beside bare appends to the same store.
    Acks,
    /// Memory and CPU of many connections that do little.
    Idle,
    /// How long a start takes.
    Ready,
}

/// What every measurement needs.
struct Bench {
    root: PathBuf,
    systems: Vec<System>,
    rounds: usize,
    seconds: f64,
    /// Connections of the idle measurement.
    connections: usize,
}

/// Builds, starts both systems, measures, prints the table.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    if !options.no_build {
        build(root)?;
    }
    let data = root.join("target/bench");
    if data.exists() {
        std::fs::remove_dir_all(&data)?;
    }
    std::fs::create_dir_all(&data)?;
    let kinds = [Kind::Rookery, Kind::Peer].into_iter().filter(|kind| options.system.is_none_or(|only| only == *kind));
    let start = |kind| System::start(kind, (options.stores, options.log_servers), root, &data);
    let systems = kinds.map(start).collect::<Result<Vec<System>>>()?;
    let mut bench = Bench {
        root: root.to_path_buf(),
        systems,
        rounds: if options.quick { 1 } else { options.rounds },
        seconds: if options.quick { 1.0 } else { options.seconds },
        connections: if options.quick { 1_000 } else { 10_000 },
    };
    if !options.quick {
        fanout::warm_up(&mut bench)?;
    }
    let mut table = Table::default();
    let wanted = |measurement| options.only.is_none_or(|only| only == measurement);
    if wanted(Measurement::Fanout) {
        fanout::measure(&mut bench, &mut table)?;
    }
    if wanted(Measurement::Latency) {
        latency::measure(&mut bench, &mut table)?;
    }
    if wanted(Measurement::Acks) {
        acks::measure(&mut bench, &mut table)?;
    }
    if wanted(Measurement::Idle) {
        idle::measure(&mut bench, &mut table)?;
    }
    if wanted(Measurement::Ready) && options.stores == Stores::Embedded {
        ready::measure(&mut bench, &mut table)?;
    }
    println!("{table}");
    Ok(())
}

/// Builds what is measured and what measures, as it is released.
fn build(root: &Path) -> Result<()> {
    eprintln!("building");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--workspace", "--bins"]).args(["--example", "bare_appends"]);
    cargo.args(["--example", "jetstream_appends"]).current_dir(root);
    shell::output(&mut cargo).map(drop)
}
