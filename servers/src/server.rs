//! What a server of any kind can do.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::process::{GLANCE, Process};

/// How many of the log's last lines an error quotes.
const QUOTED_LINES: usize = 30;

/// How a server is started and asked how it is.
pub(crate) struct Plan {
    /// Its name and version.
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// How clients reach it.
    pub(crate) address: String,
    /// Its own folder: its data, its settings, its log, and what we must remember of it.
    pub(crate) folder: PathBuf,
    /// Makes the command, at every start.
    pub(crate) command: Box<dyn Fn() -> Command + Send + Sync>,
    /// Asks the server itself whether it serves.
    pub(crate) ask: Box<dyn Fn() -> Result<()> + Send + Sync>,
    /// What asks it to end.
    pub(crate) stop_signal: Signal,
    /// How long a start may take, and an end.
    pub(crate) patience: Duration,
    /// Whether it runs on when we end.
    pub(crate) outlives_us: bool,
}

/// A server on this machine, on a folder of its own, with ports that it keeps. Killed when dropped, unless its
/// [`Home`](crate::Home) says that servers run on.
pub struct Server {
    plan: Plan,
    /// Unless it is down.
    process: Option<Process>,
}

impl Server {
    /// As an earlier run left it: running or down.
    pub(crate) fn find(plan: Plan) -> Self {
        let process = Process::of_earlier_run(&plan.folder);
        Self { plan, process }
    }

    /// Starts it unless it runs, and waits until it serves.
    pub(crate) fn bring_up(&mut self) -> Result<()> {
        self.launch_if_down()?;
        self.wait_until_ready()
    }

    /// Starts it unless it runs, and does not wait.
    pub(crate) fn launch_if_down(&mut self) -> Result<()> {
        if self.process.is_none() { self.launch() } else { Ok(()) }
    }

    fn launch(&mut self) -> Result<()> {
        self.process = Some(Process::start((self.plan.command)(), &self.plan.folder, &self.log())?);
        Ok(())
    }

    /// Its name: `nats`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.plan.name
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> &'static str {
        self.plan.version
    }

    /// How clients reach it. The same after every restart.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.plan.address
    }

    /// The first of its processes, unless it is down. All others are below it.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// The folder that it was started on.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.plan.folder
    }

    /// The file to which it writes what it does.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.plan.folder.join("server.log")
    }

    /// Whether it serves now, by its own word.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.process.is_some() && (self.plan.ask)().is_ok()
    }

    /// Whether it ended by itself, or by another's hand, since it was started.
    pub fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| !matches!(process.end(), Ok(None)))
    }

    /// Waits until it serves.
    ///
    /// # Errors
    /// With the end of its log: it ended, or it took too long.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.plan.patience;
        let name = self.plan.name;
        loop {
            let process = self.process.as_mut().with_context(|| format!("{name} is down"))?;
            if let Some(end) = process.end()? {
                self.process = None;
                bail!("{name} ended at once ({end})\n{}", self.end_of_log());
            }
            let Err(error) = (self.plan.ask)() else { return Ok(()) };
            if Instant::now() > deadline {
                let patience = self.plan.patience.as_secs();
                bail!("{name} does not serve after {patience} s: {error:#}\n{}", self.end_of_log());
            }
            thread::sleep(GLANCE);
        }
    }

    fn end_of_log(&self) -> String {
        let log = std::fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n")
    }

    /// Ends all its processes at once with SIGKILL, and returns when they are gone. What was not durable is lost.
    pub fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    /// Asks it to end and waits until it has.
    ///
    /// # Errors
    /// It took too long, and was killed.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        if !process.stop(self.plan.stop_signal, self.plan.patience)? {
            process.kill()?;
            bail!("{} did not end in {} s and was killed", self.plan.name, self.plan.patience.as_secs());
        }
        Ok(())
    }

    /// Starts it again on the same data and ports, and waits until it serves. If it is running it is stopped first.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.launch()?;
        self.wait_until_ready()
    }

    /// Stops the clock of all its processes: connections stay open, and nothing is answered.
    pub fn pause(&self) -> Result<()> {
        self.process.as_ref().map_or(Ok(()), |process| process.signal_all(Signal::STOP))
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn resume(&self) -> Result<()> {
        self.process.as_ref().map_or(Ok(()), |process| process.signal_all(Signal::CONT))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.plan.outlives_us {
            return;
        }
        if let Err(error) = self.kill() {
            eprintln!("{}: {error:#}", self.plan.name);
        }
    }
}
