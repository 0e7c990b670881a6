//! The program around the roles: arguments, configuration, telemetry, and what starts and stops what.
//!
//! | file | what |
//! |---|---|
//! | [`args`] | the command line |
//! | [`config`] | defaults < `rookery.toml` < environment < command line |
//! | [`telemetry`] | logs, metrics and traces |
//! | [`stores`] | opens what stands behind the five seams |
//! | [`roles`] | runs any set of roles until told to stop |
//! | [`operations`] | health and metrics of a process without an edge |
//! | [`commands`] | `config`, `migrate`, `grant`, `reconcile` |
//! | [`reconcile`] | compares counts with history |

pub mod args;
pub mod commands;
pub mod config;
pub mod operations;
pub mod reconcile;
pub mod roles;
pub mod stores;
pub mod telemetry;

use std::collections::BTreeSet;

use args::{Args, Command};
use roles::Role;

/// Carries out a command line.
///
/// # Errors
/// What stopped it, for people.
pub fn main(args: Args) -> anyhow::Result<()> {
    let config = config::load(&args)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let roles = match &args.command {
        Some(Command::Config) => {
            commands::print_config(&config);
            return Ok(());
        }
        Some(Command::Migrate) => return runtime.block_on(commands::migrate(&config)),
        Some(Command::Grant { login, roles }) => return runtime.block_on(commands::grant(&config, login, roles)),
        Some(Command::Reconcile { start, end }) => {
            return runtime.block_on(commands::reconcile(&config, *start, *end));
        }
        Some(Command::Edge) => BTreeSet::from([Role::Edge]),
        Some(Command::Ingest) => BTreeSet::from([Role::Ingest]),
        Some(Command::Analytics) => BTreeSet::from([Role::Analytics]),
        None => Role::ALL.into(),
    };
    let telemetry = telemetry::init(&config.telemetry, &roles)?;
    let ended = runtime.block_on(roles::serve(config, roles));
    telemetry.end(ended.deadline.saturating_duration_since(tokio::time::Instant::now()));
    ended.outcome
}
