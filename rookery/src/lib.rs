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
use std::time::Duration;

use args::{Args, Command};
use roles::Role;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// Carries out a command line.
///
/// # Errors
/// What stopped it, for people.
pub fn main(args: Args) -> anyhow::Result<()> {
    let config = config::load(&args)?;
    let runtime = Runtime::new()?;
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
    telemetry.end(left_until(ended.deadline));
    end(runtime, ended.deadline);
    ended.outcome
}

/// Ends what still runs, at the deadline if it does not end by itself: what blocks a thread, such as the question for an
/// address, cannot be cancelled, and dropping the runtime would wait for it.
fn end(runtime: Runtime, deadline: Instant) {
    runtime.shutdown_timeout(left_until(deadline));
}

fn left_until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_blocks_a_thread_does_not_keep_the_process_beyond_its_deadline() {
        let (blocked, (began, has_begun)) = (mpsc::channel::<()>(), mpsc::channel());
        let runtime = Runtime::new().unwrap();
        runtime.spawn_blocking(move || {
            began.send(()).unwrap();
            blocked.1.recv().unwrap_err();
        });
        has_begun.recv().unwrap();
        let (ended, has_ended) = mpsc::channel();
        std::thread::spawn(move || {
            end(runtime, Instant::now() + Duration::from_millis(10));
            ended.send(()).unwrap();
        });
        has_ended.recv_timeout(Duration::from_secs(60)).expect("it ends");
        drop(blocked.0);
    }
}
