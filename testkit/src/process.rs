//! The real program as a process of its own, to be killed.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rookery::config::Config;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::Client;

/// A running `rookery`. Dropped, it is killed.
pub struct Process {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
    /// Kept open: a program whose output nobody reads would fail to print.
    _output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts every role on this folder with a test's configuration, at a free port, and waits until it is
    /// ready. `program` is the path of the binary.
    pub async fn start(program: &str, data: &Path) -> Self {
        Self::run(program, data, &crate::config(data), Stdio::inherit()).await
    }

    /// The same with a configuration that differs from a test's usual one. What it logs goes to a file: see
    /// [`Process::log`].
    pub async fn start_with(program: &str, data: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = crate::config(data);
        change(&mut config);
        let log = File::create(data.with_extension("log")).expect("a file for its log");
        Self::run(program, data, &config, log.into()).await
    }

    async fn run(program: &str, data: &Path, config: &Config, log: Stdio) -> Self {
        let file = data.with_extension("toml");
        std::fs::write(&file, config.to_toml()).expect("the configuration can be written");
        let mut child = Command::new(program)
            .arg("--config")
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let mut output = BufReader::new(child.stdout.take().expect("its output is piped"));
        let address = loop {
            let mut line = String::new();
            let read = output.read_line(&mut line).await.expect("its output can be read");
            assert!(read > 0, "the program ended before it listened");
            if let Some((_, address)) = line.trim().split_once("listens on http://") {
                break address.parse().expect("it prints an address");
            }
        };
        let process = Self { child, address, log: data.with_extension("log"), _output: output };
        let client = process.client();
        crate::eventually("the program is ready", || async { client.get("/readyz").await.is(200).then_some(()) }).await;
        process
    }

    /// A client of it.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// What it has logged so far; nothing unless it was started with [`Process::start_with`].
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGKILL: nothing is flushed, nobody is told.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    /// SIGTERM, and what it exits with.
    pub async fn terminate(mut self) -> std::process::ExitStatus {
        let id = self.child.id().expect("it still runs").to_string();
        let told = Command::new("kill").args(["-TERM", &id]).status().await.expect("kill runs");
        assert!(told.success());
        tokio::time::timeout(crate::PATIENCE, self.child.wait())
            .await
            .expect("it ends in time")
            .expect("it has a status")
    }
}
