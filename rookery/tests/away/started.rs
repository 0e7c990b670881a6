//! A process of one role that may not be ready.

use std::path::Path;
use std::process::{ExitStatus, Output, Stdio};

use testkit::Client;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

/// A running process. Dropped, it is killed.
pub(crate) struct Started {
    child: Child,
    client: Client,
    /// Kept open: a program whose output nobody reads would fail to print.
    _output: BufReader<ChildStdout>,
}

impl Started {
    /// Starts a role, and waits until it answers operators.
    pub(crate) async fn start(role: &str, config: &Path) -> Self {
        let log = std::fs::File::create(config.with_extension("log")).unwrap();
        let mut command = command(&[role], config);
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        assert!(output.read_line(&mut line).await.unwrap() > 0, "{role} ended before it listened");
        let address =
            line.split_once("http://").unwrap().1.split([':', ' ', '\n']).take(2).collect::<Vec<_>>().join(":");
        Self { child, client: Client::new(address.parse().unwrap()), _output: output }
    }

    /// Runs a command to its end.
    pub(crate) async fn output(args: &[&str], config: &Path) -> Output {
        tokio::time::timeout(testkit::PATIENCE, command(args, config).output()).await.unwrap().unwrap()
    }

    /// A client of the address at which it answers.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// SIGTERM, and what it exits with.
    pub(crate) async fn terminate(mut self) -> ExitStatus {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
        tokio::time::timeout(testkit::PATIENCE, self.child.wait()).await.unwrap().unwrap()
    }
}

fn command(args: &[&str], config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rookery"));
    command.args(args).arg("--config").arg(config).kill_on_drop(true);
    command
}
