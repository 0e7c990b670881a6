//! Rookery, with its roles over embedded stores in one process.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::free_address;
use super::users::{LIMITS, Users};
use crate::bench::process::{self, SERVER_CORE};
use crate::http::Http;
use crate::load::Room;

/// How long a start or a stop may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often readiness is asked for.
const ASK_EVERY: Duration = Duration::from_micros(500);

/// The running server.
pub(crate) struct Rookery {
    program: PathBuf,
    data: PathBuf,
    pub(crate) address: SocketAddr,
    process: Option<Child>,
    users: Users,
}

impl Rookery {
    /// Starts the server on the data folder, which is made when missing. Answers how long it took to be ready.
    pub(crate) fn start(root: &Path, data: &Path) -> Result<(Self, Duration)> {
        std::fs::create_dir_all(data)?;
        let program = root.join("target/release/rookery");
        let mut rookery = Self {
            program,
            data: data.to_path_buf(),
            address: free_address()?,
            process: None,
            users: Users::default(),
        };
        let took = rookery.start_timed()?;
        Ok((rookery, took))
    }

    /// Starts the server, ending the one that runs. Answers how long it took until it was ready.
    pub(crate) fn start_timed(&mut self) -> Result<Duration> {
        self.stop();
        self.address = free_address()?;
        let config = self.data.with_extension("toml");
        std::fs::write(&config, format!("{LIMITS}[edge]\nlisten = \"{}\"\n", self.address))?;
        let output = File::create(self.data.with_extension("log"))?;
        let mut command = process::on_core(SERVER_CORE, &self.program);
        command.arg("--data").arg(&self.data).arg("--config").arg(&config);
        command.stdout(output.try_clone()?).stderr(output);
        let started = Instant::now();
        self.process = Some(command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?);
        while !self.is_ready() {
            let has_ended =
                self.process.as_mut().is_none_or(|process| process.try_wait().is_ok_and(|end| end.is_some()));
            if has_ended || started.elapsed() > PATIENCE {
                let output = std::fs::read_to_string(self.data.with_extension("log"))?;
                bail!("the server does not get ready:\n{output}");
            }
            std::thread::sleep(ASK_EVERY);
        }
        Ok(started.elapsed())
    }

    pub(super) fn restart(&mut self) -> Result<()> {
        self.start_timed().map(drop)
    }

    fn is_ready(&self) -> bool {
        Http::connect(self.address).and_then(|mut http| http.status_of("/readyz")).is_ok_and(|status| status == 200)
    }

    /// Ends it as an operator would; by force when that takes too long.
    fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        drop(Command::new("kill").arg(process.id().to_string()).status());
        let started = Instant::now();
        while started.elapsed() < PATIENCE && process.try_wait().is_ok_and(|end| end.is_none()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(process.kill());
        drop(process.wait());
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Child::id)
    }

    /// Registers users and makes groups of them, as any client would.
    pub(super) fn rooms(&mut self, count: usize, size: usize) -> Result<Vec<Room>> {
        self.users.rooms(self.address, count, size)
    }
}

impl Drop for Rookery {
    fn drop(&mut self) {
        self.stop();
    }
}
