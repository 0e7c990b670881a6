//! The real program as a process of its own, to be killed.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::Client;

/// A running `rookery`. Dropped, it is killed.
pub struct Process {
    child: Child,
    address: SocketAddr,
    /// Kept open: a program whose output nobody reads would fail to print.
    _output: BufReader<ChildStdout>,
}

impl Process {
    /// Starts every role on this folder with a test's configuration, at a free port, and waits until it is
    /// ready. `program` is the path of the binary.
    pub async fn start(program: &str, data: &Path) -> Self {
        let file = data.with_extension("toml");
        let config = crate::config(data);
        std::fs::write(&file, config.to_toml()).expect("the configuration can be written");
        let mut child = Command::new(program)
            .arg("--config")
            .arg(&file)
            .stdout(Stdio::piped())
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
        let process = Self { child, address, _output: output };
        let client = process.client();
        crate::eventually("the program is ready", || async { client.get("/readyz").await.is(200).then_some(()) }).await;
        process
    }

    /// A client of it.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.address)
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
