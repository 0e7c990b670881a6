//! `cargo xtask services up | down | status`: real servers for whoever develops.

use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};
use servers::{Endpoints, Home, Kind, Started};

/// What to do with the servers.
#[derive(clap::Subcommand)]
pub(crate) enum Action {
    /// Start them in parallel, leave them running, and write down where they are.
    Up {
        /// Only these: nats, nats-cluster, postgres, cassandra, clickhouse, s3.
        #[arg(long, value_delimiter = ',')]
        only: Vec<Kind>,
        /// Three NATS servers in place of one.
        #[arg(long)]
        cluster: bool,
    },
    /// Stop them and keep their data.
    Down,
    /// Show where each server is and whether it is ready.
    Status,
}

/// Starts, stops or shows the servers that a developer works with.
pub(crate) fn run(action: &Action) -> Result<()> {
    let home = Home::open()?.for_servers_that_outlive_us();
    // One change at a time: two would start the same servers twice.
    let _lock = if matches!(action, Action::Status) { None } else { Some(home.lock("services")?) };
    match action {
        Action::Up { only, cluster } => up(&home, only, *cluster),
        Action::Down => down(&home),
        Action::Status => status(&home),
    }
}

/// Whether one of each runs that `up` started.
pub(crate) fn are_up(home: &Home) -> Result<bool> {
    let mut started = servers::find(home, &data(home), &Kind::ALL)?;
    started.retain_mut(Started::is_ready);
    let seams = |kind| if kind == Kind::NatsCluster { Kind::Nats } else { kind };
    let is_up = |kind: &Kind| started.iter().any(|one| seams(one.kind()) == *kind);
    Ok(Kind::ONE_OF_EACH.iter().all(is_up) && servers::shared_endpoints_file().exists())
}

fn data(home: &Home) -> PathBuf {
    home.path().join("data")
}

fn up(home: &Home, only: &[Kind], cluster: bool) -> Result<()> {
    let begun = Instant::now();
    let mut wanted = if only.is_empty() { Kind::ONE_OF_EACH.to_vec() } else { only.to_vec() };
    let replaced = if cluster { (Kind::Nats, Kind::NatsCluster) } else { (Kind::NatsCluster, Kind::Nats) };
    if only.is_empty() {
        wanted.iter_mut().filter(|kind| **kind == replaced.0).for_each(|kind| *kind = replaced.1);
        stop(servers::find(home, &data(home), &[replaced.0])?)?;
    }
    servers::start_all(home, &data(home), &wanted)?;
    let mut endpoints = Endpoints::default();
    let mut started = servers::find(home, &data(home), &Kind::ALL)?;
    started.retain_mut(Started::is_ready);
    started.iter().for_each(|one| one.enter(&mut endpoints));
    endpoints.write(&servers::shared_endpoints_file())?;
    show(&mut started);
    println!("up in {:.1} s; {}", begun.elapsed().as_secs_f64(), servers::shared_endpoints_file().display());
    Ok(())
}

fn down(home: &Home) -> Result<()> {
    let file = servers::shared_endpoints_file();
    if file.exists() {
        std::fs::remove_file(file)?;
    }
    stop(servers::find(home, &data(home), &Kind::ALL)?)
}

/// Stops them side by side.
fn stop(mut started: Vec<Started>) -> Result<()> {
    let outcomes: Vec<Result<()>> = thread::scope(|scope| {
        let stopping: Vec<_> = started.iter_mut().map(|one| scope.spawn(|| one.stop())).collect();
        stopping.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a stop panicked"))).collect()
    });
    outcomes.into_iter().collect()
}

fn status(home: &Home) -> Result<()> {
    let mut started = servers::find(home, &data(home), &Kind::ALL)?;
    show(&mut started);
    Ok(())
}

/// A line for each server.
fn show(started: &mut [Started]) {
    if started.is_empty() {
        println!("none was ever started: `cargo xtask services up`");
    }
    for server in started.iter_mut().flat_map(Started::servers) {
        let state = match server.pid() {
            None => "down".to_owned(),
            Some(pid) if server.is_ready() => format!("ready, process {pid}"),
            Some(pid) => format!("not ready, process {pid}"),
        };
        println!("{:<10} {:<8} {:<40} {state}", server.name(), server.version(), server.address());
    }
}
