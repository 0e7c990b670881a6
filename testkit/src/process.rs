//! The real program as a process of its own, to be killed.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rookery::config::Config;
use rookery::roles::Role;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::Client;

/// A running `rookery`. Dropped, it is killed.
pub struct Process {
    child: Child,
    address: Option<SocketAddr>,
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
        Self::run(program, data, &config, log_beside(data)).await
    }

    async fn run(program: &str, data: &Path, config: &Config, log: Stdio) -> Self {
        let file = data.with_extension("toml");
        std::fs::write(&file, with_secrets(config)).expect("the configuration can be written");
        let process = Self::spawn(program, None, &file, log).await;
        let client = process.client();
        crate::eventually("the program is ready", || async { client.get("/readyz").await.is(200).then_some(()) }).await;
        process
    }

    /// Starts one role with this configuration; what it logs goes to a file beside it. An edge listens when this
    /// returns, but need not be ready.
    pub async fn start_role(program: &str, role: Role, config: &Path) -> Self {
        Self::spawn(program, Some(role), config, log_beside(config)).await
    }

    async fn spawn(program: &str, role: Option<Role>, config: &Path, log: Stdio) -> Self {
        let mut command = Command::new(program);
        command.arg("--config").arg(config).args(role.as_ref().map(Role::name));
        command.stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().expect("the program starts");
        let mut output = BufReader::new(child.stdout.take().expect("its output is piped"));
        let address = match role {
            None | Some(Role::Edge) => {
                Some(crate::in_time("the address that it listens on", announced(&mut output)).await)
            }
            Some(_) => None,
        };
        Self { child, address, log: config.with_extension("log"), _output: output }
    }

    /// Where clients connect, if it is an edge.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// A client of it.
    ///
    /// # Panics
    /// When it is no edge.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.address.expect("it is an edge"))
    }

    /// What it has logged so far; nothing when it was started with [`Process::start`].
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The most memory that it has held so far, in bytes.
    ///
    /// # Panics
    /// Where the system does not tell.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        let id = self.child.id().expect("it still runs");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("the system tells");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak is told");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("it is a number") * 1024
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
        crate::in_time("its end", self.child.wait()).await.expect("it has a status")
    }
}

/// The configuration as TOML, with what proves who we are to the blob store and the collector.
fn with_secrets(config: &Config) -> String {
    let mut table: toml::Table = config.to_toml().parse().expect("it is TOML");
    if let blobs::Config::S3 { secret_access_key, .. } = &config.blobs
        && let Some(blobs) = table.get_mut("blobs").and_then(toml::Value::as_table_mut)
    {
        blobs.insert("secret_access_key".into(), secret_access_key.expose().into());
    }
    if let Some(otlp) = &config.telemetry.otlp {
        let headers = otlp.headers.iter().map(|(name, value)| (name.clone(), value.expose().into()));
        table["telemetry"]["otlp"]["headers"] = toml::Table::from_iter(headers).into();
    }
    table.to_string()
}

/// Where a program's log goes: a file beside its configuration, added to at every start.
fn log_beside(path: &Path) -> Stdio {
    let log = File::options().create(true).append(true).open(path.with_extension("log"));
    log.expect("a file for its log").into()
}

/// The address that the program says it listens on.
async fn announced(output: &mut BufReader<ChildStdout>) -> SocketAddr {
    loop {
        let mut line = String::new();
        let read = output.read_line(&mut line).await.expect("its output can be read");
        assert!(read > 0, "the program ended before it listened");
        if let Some((_, address)) = line.trim().split_once("listens on http://") {
            return address.parse().expect("it prints an address");
        }
    }
}
