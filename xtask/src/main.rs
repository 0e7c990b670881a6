//! What a developer runs: `cargo xtask test | tidy | bench | services | cluster | example | postman`.
#![expect(clippy::print_stdout, reason = "a tool for people at a terminal")]

mod bench;
mod cluster;
mod example;
mod faults;
mod http;
mod load;
mod postman;
mod services;
mod stores;
mod test;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

/// What a developer runs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Run every test from a clean checkout: install what they need, check that the tree is tidy, run them.
    Test,
    /// Compare Rookery with Socket.IO on Postgres, in one run on one machine, and print a table in Markdown.
    Bench(bench::Options),
    /// Run rounds of every fault (kills and stops) under load on a whole cluster, with a checker that knows every message.
    Faults(faults::Options),
    /// Start, stop or show real servers on this machine, for tests and for trying things out.
    #[command(subcommand)]
    Services(services::Action),
    /// Run a whole cluster on this machine, to try: two edges, two ingests, two analytics workers, all servers.
    Cluster(cluster::Options),
    /// Fill a running server with users, a chatroom and messages to look at.
    Example(example::Options),
    /// Regenerate the Postman collection from the description of the API.
    Postman,
    /// Run the load client that the benchmark starts as a separate process.
    #[command(hide = true)]
    Load,
    /// Check that the tree keeps its own rules: file lengths, dependencies between crates, links, requirement rows.
    Tidy,
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Test => test::run(root()),
        Task::Bench(options) => bench::run(root(), &options),
        Task::Faults(options) => faults::run(root(), &options),
        Task::Services(action) => services::run(&action),
        Task::Cluster(options) => cluster::run(root(), &options),
        Task::Example(options) => example::run(&options),
        Task::Postman => postman::run(root()),
        Task::Load => load::run(),
        Task::Tidy => tidy::run(root()),
    };
    if let Err(error) = done {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The top of the checkout.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}
