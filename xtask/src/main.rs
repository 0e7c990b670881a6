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
    /// Every test, from a clean checkout: gets what they need, runs them, checks that the tree is tidy.
    Test,
    /// Rookery against Socket.IO with Postgres, in one run on one machine: a table in Markdown.
    Bench(bench::Options),
    /// Rounds of every fault under load on a whole cluster: kills and stops, with a checker that knows every message.
    Faults(faults::Options),
    /// Real servers on this machine: starts them and leaves them running, stops them, says how they are.
    #[command(subcommand)]
    Services(services::Action),
    /// A whole cluster on this machine, to look at: two edges, two ingests, two analytics workers, all servers.
    Cluster(cluster::Options),
    /// Fills a running server with users, a chatroom and messages to look at.
    Example(example::Options),
    /// Writes the Postman collection anew from the description of the API.
    Postman,
    /// The load client that the benchmark starts as a process of its own.
    #[command(hide = true)]
    Load,
    /// Whether the tree keeps its own rules: file lengths, who depends on whom, links, requirement rows.
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
