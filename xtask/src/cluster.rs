//! `cargo xtask cluster`: a whole cluster on this machine, to look at. Two edges, two ingests and two analytics workers
//! on real servers: three of NATS, Postgres with a replica, Cassandra, ClickHouse, an S3 store.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use servers::{Home, Role, Rookery, Server};

use crate::stores::{LogServers, Stores};

/// What runs beside the servers.
const PROCESSES: [(&str, Role); 6] = [
    ("ingest-1", Role::Ingest),
    ("ingest-2", Role::Ingest),
    ("analytics-1", Role::Analytics),
    ("analytics-2", Role::Analytics),
    ("edge-1", Role::Edge),
    ("edge-2", Role::Edge),
];
/// How often is looked whether all of them still run.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many processes may end before we give up: one that cannot run would be started for ever.
const MAX_RESTARTS: usize = 100;

/// How to start it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run what was built before.
    #[arg(long)]
    no_build: bool,
}

/// Starts everything, says where it is, and runs until Ctrl-C. Everything ends with us, and its data with it.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    if !options.no_build {
        let built = Command::new("cargo").args(["build", "--package", "rookery"]).current_dir(root).status()?;
        ensure!(built.success(), "rookery does not build");
    }
    let program = root.join("target/debug/rookery");
    let home = Home::open()?;
    let folder = home.scratch("cluster")?;
    eprintln!("starting the servers");
    let mut stores = Stores::start(&home, folder.path(), LogServers::Three)?;
    let config = stores.config(&folder.path().join("signing-key.pem"));
    stores.migrate(&program, folder.path(), &config)?;
    let start =
        |(name, role): &(&str, Role)| Rookery::start(&home, &program, &folder.path().join(name), *role, &config);
    let mut processes = PROCESSES.iter().map(start).collect::<Result<Vec<Rookery>>>()?;
    show(&mut stores, &processes);
    let mut restarts = 0;
    while restarts < MAX_RESTARTS {
        thread::sleep(LOOK_EVERY);
        let processes = processes.iter_mut().map(|process| &mut **process);
        for server in stores.servers().into_iter().chain(processes).filter_map(ended) {
            println!("{} {} ended; it is started again", server.name(), server.address());
            server.restart()?;
            restarts += 1;
        }
    }
    bail!("too many processes ended; the last of them wrote to {}", folder.path().display())
}

/// The server, if it has ended.
fn ended(server: &mut Server) -> Option<&mut Server> {
    server.has_ended().then_some(server)
}

fn show(stores: &mut Stores, processes: &[Rookery]) {
    for server in stores.servers() {
        println!("{:<12} {:<44} process {}", server.name(), server.address(), server.pid().unwrap_or_default());
    }
    for (process, (name, role)) in processes.iter().zip(PROCESSES) {
        let address = if role == Role::Edge { process.address() } else { "" };
        println!("{name:<12} {address:<44} process {}", process.pid().unwrap_or_default());
    }
    println!("\nOpen both edges in a browser, register somebody at each, and let them write to each other.");
    println!("Kill any process: it is started again. Ctrl-C ends everything.");
}
