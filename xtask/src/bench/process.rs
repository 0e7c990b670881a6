//! What the kernel knows of processes: CPU time, memory, cores.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::shell;

/// The core of the servers.
pub(super) const SERVER_CORE: &str = "0";
/// The core of the load client.
pub(super) const CLIENT_CORE: &str = "1";
/// `/proc` counts CPU time in hundredths of a second, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
/// A system is quiet when it uses less than this part of a core.
const QUIET: f64 = 0.05;
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

/// Waits until these processes have nothing left to do, or for as long as patience lasts.
pub(super) fn settle(roots: &[u32]) -> Result<()> {
    let started = Instant::now();
    let mut before = cpu_seconds(roots)?;
    while started.elapsed() < PATIENCE {
        std::thread::sleep(QUIET_FOR);
        let after = cpu_seconds(roots)?;
        if (after - before) / QUIET_FOR.as_secs_f64() < QUIET {
            return Ok(());
        }
        before = after;
    }
    eprintln!("not quiet after {} s", PATIENCE.as_secs());
    Ok(())
}

/// What `/proc/<pid>/stat` says.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// Of the process itself and of its children that have ended, in user and kernel mode.
    ticks: u64,
}

impl Stat {
    /// The second field is the program's name in brackets and may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let parent = fields.get(1)?.parse().ok()?;
        let ticks = fields.get(11..15)?.iter().filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Some(Self { parent, ticks })
    }
}

/// These processes and all below them.
fn tree(roots: &[u32]) -> Result<BTreeMap<u32, Stat>> {
    let mut all: BTreeMap<u32, Stat> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
        // It may have ended since.
        let stat = std::fs::read_to_string(path.join("stat")).ok().and_then(|text| Stat::parse(&text));
        all.extend(stat.map(|stat| (pid, stat)));
    }
    let mut chosen = BTreeMap::new();
    let mut open: Vec<u32> = roots.to_vec();
    while let Some(pid) = open.pop() {
        open.extend(all.iter().filter(|(_, stat)| stat.parent == pid).map(|(pid, _)| *pid));
        chosen.extend(all.remove(&pid).map(|stat| (pid, stat)));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_confuse() {
        let line = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 2 3 4 100 20 3 4 20 0 1 0 5 6 7";
        assert_eq!(Stat::parse(line), Some(Stat { parent: 7, ticks: 127 }));
    }

    #[test]
    fn our_own_children_are_in_our_tree() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let tree = tree(&[std::process::id()]).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(tree.contains_key(&child.id()));
        assert!(resident_bytes(std::process::id()).unwrap() > 100_000.0);
    }
}
