//! Rookery itself, as a process that runs one role or all of them.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::home::{Home, User};
use crate::http;
use crate::ports;
use crate::server::{Plan, Server};

/// Which roles a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// All of them.
    All,
    /// REST and WebSocket.
    Edge,
    /// Log to history, and the directory service.
    Ingest,
    /// Log to counts.
    Analytics,
}

impl Role {
    /// Its command; none runs every role.
    fn command(self) -> Option<&'static str> {
        match self {
            Self::All => None,
            Self::Edge => Some("edge"),
            Self::Ingest => Some("ingest"),
            Self::Analytics => Some("analytics"),
        }
    }

    /// Whether clients reach it.
    fn listens(self) -> bool {
        matches!(self, Self::All | Self::Edge)
    }
}

/// A process of Rookery.
pub struct Rookery {
    server: Server,
}

impl Rookery {
    /// Starts the program on its folder, which is made when missing, with a configuration that does not say where its
    /// data are nor where it listens. An edge is ready when it says so; another role as soon as it runs.
    pub fn start(home: &Home, program: &Path, folder: &Path, role: Role, config: &str) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let [port] = ports::of(folder)?;
        let file = folder.join("rookery.toml");
        std::fs::write(&file, config)?;
        let mut server = Server::find(plan(home, program.to_path_buf(), file, folder, (role, port)));
        server.bring_up()?;
        Ok(Self { server })
    }
}

impl Deref for Rookery {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Rookery {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

fn plan(home: &Home, program: PathBuf, config: PathBuf, folder: &Path, (role, port): (Role, u16)) -> Plan {
    let (home, data) = (home.clone(), folder.join("data"));
    let outlives_us = home.outlive_us();
    Plan {
        name: role.command().unwrap_or("rookery"),
        version: env!("CARGO_PKG_VERSION"),
        address: if role.listens() { format!("http://127.0.0.1:{port}") } else { String::new() },
        folder: folder.to_path_buf(),
        command: Box::new(move || {
            let mut command = home.server(&program, User::Ours);
            command.args(role.command()).arg("--config").arg(&config).arg("--data").arg(&data);
            command.args(["--listen", &format!("127.0.0.1:{port}")]);
            command
        }),
        ask: Box::new(move || if role.listens() { ask(port) } else { Ok(()) }),
        stop_signal: Signal::TERM,
        patience: Duration::from_secs(60),
        outlives_us,
    }
}

fn ask(port: u16) -> Result<()> {
    let answer = http::get(port, "/readyz")?;
    ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
    Ok(())
}
