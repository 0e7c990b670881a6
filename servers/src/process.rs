//! A server's process: started in a group of its own, known again by its record, ended with all its children.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::proc::{self, Stat};

/// How often is looked whether something has happened.
pub(crate) const GLANCE: Duration = Duration::from_millis(20);
/// How long the kernel may take to end a process that was killed.
const KILLED_WITHIN: Duration = Duration::from_secs(30);

/// A process that we started, now or in an earlier run.
pub(crate) struct Process {
    record: Record,
    /// Unless an earlier run started it.
    child: Option<Child>,
}

/// What is written beside a server's data when it starts: enough to never take a stranger for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    pid: u32,
    started: u64,
    /// Which start of the machine that time counts from.
    boot: String,
}

impl Record {
    /// Of a process that has just been started.
    fn of(pid: u32) -> Result<Self> {
        let started = Stat::of(pid).with_context(|| format!("process {pid} is gone"))?.started;
        Ok(Self { pid, started, boot: boot()? })
    }

    fn path(folder: &Path) -> PathBuf {
        folder.join("process.json")
    }

    fn is_alive(&self) -> bool {
        Stat::of(self.pid).is_some_and(|stat| stat.started == self.started && !stat.has_ended)
    }
}

/// Names this start of the machine.
fn boot() -> Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

impl Process {
    /// Starts it in a process group of its own, so that a Ctrl-C at our terminal does not reach it. What it writes goes
    /// to the end of the log file.
    pub(crate) fn start(mut command: Command, folder: &Path, log: &Path) -> Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let name = format!("{}", command.get_program().display());
        let child = spawn(command).with_context(|| format!("cannot start {name}"))?;
        let record = Record::of(child.id())?;
        std::fs::write(Record::path(folder), serde_json::to_string(&record)?)?;
        Ok(Self { record, child: Some(child) })
    }

    /// The process of an earlier run on this folder, if it is still alive.
    pub(crate) fn of_earlier_run(folder: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(Record::path(folder)).ok()?;
        let record: Record = serde_json::from_str(&text).ok()?;
        let is_ours = boot().is_ok_and(|boot| boot == record.boot) && record.is_alive();
        is_ours.then_some(Self { record, child: None })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.record.pid
    }

    /// How it ended, if it has.
    pub(crate) fn end(&mut self) -> Result<Option<String>> {
        if let Some(child) = &mut self.child {
            return Ok(child.try_wait()?.map(|status| status.to_string()));
        }
        Ok((!self.record.is_alive()).then(|| "an end that nobody saw".to_owned()))
    }

    /// Ends it and all its children at once, as a loss of power would.
    pub(crate) fn kill(&mut self) -> Result<()> {
        // Stopped first, so that it starts no child between our look and the blow.
        self.signal_all(Signal::STOP)?;
        let doomed = self.tree()?;
        for pid in doomed.keys() {
            send(*pid, Signal::KILL)?;
        }
        let deadline = Instant::now() + KILLED_WITHIN;
        let is_there = |(pid, was): (&u32, &Stat)| {
            Stat::of(*pid).is_some_and(|stat| stat.started == was.started && !stat.has_ended)
        };
        while self.end()?.is_none() || doomed.iter().any(is_there) {
            if Instant::now() > deadline {
                bail!("process {} does not end", self.pid());
            }
            thread::sleep(GLANCE);
        }
        Ok(())
    }

    /// Asks it to end and waits; whether it did in time.
    pub(crate) fn stop(&mut self, signal: Signal, patience: Duration) -> Result<bool> {
        let deadline = Instant::now() + patience;
        if self.end()?.is_none() {
            send(self.pid(), signal)?;
            // If its clock was stopped.
            self.signal_all(Signal::CONT)?;
        }
        while self.end()?.is_none() {
            if Instant::now() > deadline {
                return Ok(false);
            }
            thread::sleep(GLANCE);
        }
        Ok(true)
    }

    /// Sends a signal to it and to all its children.
    pub(crate) fn signal_all(&self, signal: Signal) -> Result<()> {
        self.tree()?.keys().try_for_each(|pid| send(*pid, signal))
    }

    /// The process and its children; nothing when it has ended.
    fn tree(&self) -> Result<BTreeMap<u32, Stat>> {
        if self.record.is_alive() { proc::tree(&[self.pid()]) } else { Ok(BTreeMap::new()) }
    }
}

/// Sends a signal; that the process has just ended is no error.
fn send(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process id")?;
    match kill_process(pid, signal) {
        Err(error) if error != rustix::io::Errno::SRCH => bail!("cannot signal process {pid:?}: {error}"),
        _ => Ok(()),
    }
}

type Order = (Command, Sender<std::io::Result<Child>>);

/// Starts a process from a thread that lives as long as we do: a child that is to end with its parent ends with the
/// thread that started it, and a test's thread is short-lived.
fn spawn(command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, received) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in received {
                // Whoever asked waits for the answer.
                drop(answer.send(command.spawn()));
            }
        });
        orders
    });
    let (answer, started) = mpsc::channel();
    spawner.send((command, answer)).context("the thread that starts processes is gone")?;
    Ok(started.recv()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "setsid sleep 100 & sleep 100"]);
        command
    }

    /// Waits until the shell has started both.
    fn with_children(process: &Process) -> BTreeMap<u32, Stat> {
        let deadline = Instant::now() + KILLED_WITHIN;
        loop {
            let tree = process.tree().unwrap();
            if tree.len() == 3 {
                return tree;
            }
            assert!(Instant::now() < deadline, "{tree:?}");
            thread::sleep(GLANCE);
        }
    }

    #[test]
    fn children_that_left_the_group_are_killed_too() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::start(sleeper(), folder.path(), &folder.path().join("log")).unwrap();
        let tree = with_children(&process);
        process.kill().unwrap();
        let is_alive = |pid: &u32| Stat::of(*pid).is_some_and(|stat| !stat.has_ended);
        assert!(!tree.keys().any(is_alive));
        assert!(Process::of_earlier_run(folder.path()).is_none());
    }

    #[test]
    fn a_process_is_found_again_and_a_stranger_is_not_taken_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut ours = Process::start(sleeper(), folder.path(), &folder.path().join("log")).unwrap();
        with_children(&ours);
        let mut found = Process::of_earlier_run(folder.path()).unwrap();
        assert_eq!(found.pid(), ours.pid());
        // The same pid, but another life.
        for record in [
            Record { started: ours.record.started - 1, ..ours.record.clone() },
            Record { boot: "another".into(), ..ours.record.clone() },
        ] {
            std::fs::write(Record::path(folder.path()), serde_json::to_string(&record).unwrap()).unwrap();
            assert!(Process::of_earlier_run(folder.path()).is_none());
        }
        thread::spawn(move || found.kill().unwrap());
        assert!(ours.stop(Signal::CONT, KILLED_WITHIN).unwrap());
    }
}
