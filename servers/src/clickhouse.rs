//! ClickHouse, out of a Python wheel that carries its engine: `clickhouse/server.py` makes it serve.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::home::{Home, User};
use crate::http;
use crate::ports;
use crate::server::{Plan, Server};

/// The pinned wheel. The launcher uses what the wheel does not document: another version may need another launcher.
const WHEEL: &str = "chdb-core==26.9.0";
const VERSION: &str = "26.9.2";
/// Makes the wheel's engine serve.
const LAUNCHER: &str = include_str!("clickhouse/server.py");
const USERS: &str = include_str!("clickhouse/users.xml");

/// How much a ClickHouse server may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClickHouseOptions {
    /// Its memory, in bytes.
    pub max_memory_bytes: u64,
}

impl Default for ClickHouseOptions {
    fn default() -> Self {
        Self { max_memory_bytes: 4 * 1024 * 1024 * 1024 }
    }
}

/// A ClickHouse server. The user `default` has no password and may do everything, from this machine alone.
pub struct ClickHouse {
    server: Server,
    port: u16,
}

impl ClickHouse {
    /// Starts it on its folder, which is made when missing.
    pub fn start(home: &Home, folder: &Path, options: ClickHouseOptions) -> Result<Self> {
        let mut clickhouse = Self::find(home, folder, options)?;
        clickhouse.bring_up()?;
        Ok(clickhouse)
    }

    /// As an earlier run left it.
    pub(crate) fn find(home: &Home, folder: &Path, options: ClickHouseOptions) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let [port] = ports::of(folder)?;
        Ok(Self { server: Server::find(plan(home, folder, port, options)?), port })
    }

    /// `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> &str {
        self.server.address()
    }

    /// What it answers to some SQL, in the format that the SQL names, or as tab-separated values.
    pub fn query(&self, sql: &str) -> Result<String> {
        query(self.port, sql)
    }
}

impl Deref for ClickHouse {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for ClickHouse {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

fn query(port: u16, sql: &str) -> Result<String> {
    let answer = http::call("POST", port, "/", sql)?;
    ensure!(answer.status == 200, "{}", answer.body);
    Ok(answer.body)
}

fn plan(home: &Home, folder: &Path, port: u16, options: ClickHouseOptions) -> Result<Plan> {
    let package = home.wheel(WHEEL)?.join("chdb");
    let python = home.python()?;
    let (data, launcher) = (folder.join("data"), folder.join("server.py"));
    std::fs::create_dir_all(&data)?;
    std::fs::write(&launcher, LAUNCHER)?;
    std::fs::write(folder.join("users.xml"), USERS)?;
    let (shown, max_memory) = (folder.display(), options.max_memory_bytes);
    std::fs::write(
        folder.join("config.xml"),
        format!(
            "<clickhouse>\n  <listen_host>127.0.0.1</listen_host>\n  <http_port>{port}</http_port>\n  \
             <path>{shown}/data/</path>\n  <users_config>{shown}/users.xml</users_config>\n  \
             <max_server_memory_usage>{max_memory}</max_server_memory_usage>\n  \
             <mark_cache_size>268435456</mark_cache_size>\n</clickhouse>\n"
        ),
    )?;
    let (home, config) = (home.clone(), folder.to_path_buf());
    let outlives_us = home.outlive_us();
    Ok(Plan {
        name: "clickhouse",
        version: VERSION,
        address: format!("http://127.0.0.1:{port}"),
        folder: folder.to_path_buf(),
        command: Box::new(move || {
            let mut command = home.server(&python, User::Ours);
            command.arg(&launcher).arg(&package).arg(&config).arg(port.to_string());
            command
        }),
        ask: Box::new(move || query(port, "SELECT 1").map(drop)),
        stop_signal: Signal::TERM,
        patience: Duration::from_secs(60),
        outlives_us,
    })
}
