//! `cargo xtask faults`: rounds of every fault under load, and the table that they end in.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use servers::shell;

/// How much of it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rounds of each fault.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long a store stays stopped, in seconds.
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Only faults whose name has one of these parts, such as `KillEdge,Stop`.
    #[arg(long, default_value = "")]
    only: String,
}

/// Runs the fault tests with so many rounds. They start and stop servers of their own.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let mut test = Command::new(shell::find("cargo").unwrap_or_else(|| "cargo".into()));
    // Of the workspace, not of one package: with other features everything would be built anew.
    test.args(["test", "--workspace", "--test", "faults", "--", "--nocapture"]).current_dir(root);
    test.env("ROOKERY_FAULT_ROUNDS", options.rounds.to_string());
    test.env("ROOKERY_FAULT_SECONDS", options.seconds.to_string());
    test.env("ROOKERY_FAULTS", &options.only);
    ensure!(test.status()?.success(), "a fault did harm");
    Ok(())
}
