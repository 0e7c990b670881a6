//! What the kernel knows of processes: CPU time, memory, cores.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use servers::proc::tree;
use servers::shell;

/// The core of the servers.
pub(super) const SERVER_CORE: &str = "0";
/// The core of the load client.
pub(super) const CLIENT_CORE: &str = "1";
/// `/proc` counts CPU time in hundredths of a second, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
/// A part of a system is quiet when it uses less than this part of a core. Java and ClickHouse are never quite still.
const QUIET: f64 = 0.08;
/// Over how long that is measured.
const QUIET_FOR: Duration = Duration::from_millis(400);
/// How long is waited for quiet.
const PATIENCE: Duration = Duration::from_secs(30);

/// A command that runs on one core alone.
pub(super) fn on_core(core: &str, program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(program.as_ref());
    command
}

/// Moves running processes with all their threads and children to a core. What they start later stays there.
pub(super) fn pin(core: &str, pid: u32) -> Result<()> {
    for pid in tree(&[pid])?.keys() {
        shell::output(Command::new("taskset").args(["-a", "-c", "-p", core]).arg(pid.to_string()))?;
    }
    Ok(())
}

/// When a process has its turn, on its core and on the disk.
#[derive(Clone, Copy)]
pub(super) enum Turn {
    /// Like any other.
    Usual,
    /// When nobody else wants one.
    Idle,
}

/// Gives running processes with all their threads and children their turn so.
pub(super) fn take_turns(turn: Turn, pid: u32) -> Result<()> {
    let (core, disk) = match turn {
        Turn::Usual => ("--other", "none"),
        Turn::Idle => ("--idle", "idle"),
    };
    for pid in tree(&[pid])?.keys() {
        shell::output(Command::new("chrt").args([core, "--all-tasks", "--pid", "0"]).arg(pid.to_string()))?;
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            shell::output(Command::new("ionice").args(["--class", disk, "--pid"]).arg(task?.file_name()))?;
        }
    }
    Ok(())
}

/// The CPU time that these processes and all their children have used, in seconds.
pub(super) fn cpu_seconds(roots: &[u32]) -> Result<f64> {
    Ok(tree(roots)?.values().map(|stat| stat.ticks as f64).sum::<f64>() / TICKS_PER_SECOND)
}

/// The memory that a process holds, in bytes.
pub(super) fn resident_bytes(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib * 1024.0)
}

/// Waits until none of these processes has anything left to do, or for as long as patience lasts.
pub(super) fn settle(roots: &[u32]) -> Result<()> {
    let started = Instant::now();
    let each = || roots.iter().map(|root| cpu_seconds(&[*root])).collect::<Result<Vec<f64>>>();
    let mut before = each()?;
    while started.elapsed() < PATIENCE {
        std::thread::sleep(QUIET_FOR);
        let after = each()?;
        let is_quiet = |(before, after): (&f64, &f64)| (after - before) / QUIET_FOR.as_secs_f64() < QUIET;
        if before.iter().zip(&after).all(is_quiet) {
            return Ok(());
        }
        before = after;
    }
    eprintln!("not quiet after {} s", PATIENCE.as_secs());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_holds_memory() {
        assert!(resident_bytes(std::process::id()).unwrap() > 100_000.0);
    }
}
