//! Socket.IO on Node with one insert into Postgres per message: `xtask/peer/server.js`.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::free_address;
use crate::bench::process::{self, SERVER_CORE};
use crate::load::Room;
use servers::shell::{self, Needed};
use servers::{Home, Postgres};

/// What its experts would set: memory for the tables, and checkpoints that do not fall into every round. Every commit
/// is on the disk before it is answered, as by default.
const POSTGRES: [&str; 2] = ["shared_buffers=512MB", "max_wal_size=4GB"];
/// What the server needs from Debian.
const NEEDED: [Needed; 2] = [
    Needed { package: "nodejs", is_there: || shell::find("node").is_some() },
    Needed { package: "npm", is_there: || shell::find("npm").is_some() },
];

/// The running peer.
pub(crate) struct Peer {
    folder: PathBuf,
    pub(super) address: SocketAddr,
    /// Ended before Postgres is.
    node: Option<Child>,
    postgres: Postgres,
    /// Removed when Postgres has ended.
    _data: TempDir,
    rooms: usize,
}

impl Peer {
    pub(super) fn start(root: &Path) -> Result<Self> {
        let folder = install(root)?;
        let home = Home::open()?;
        let data = home.scratch("bench")?;
        let postgres = Postgres::start(&home, data.path(), &POSTGRES)?;
        process::pin(SERVER_CORE, postgres.pid().context("Postgres is down")?)?;
        let mut peer = Self { folder, address: free_address()?, node: None, postgres, _data: data, rooms: 0 };
        peer.restart()?;
        Ok(peer)
    }

    pub(super) fn restart(&mut self) -> Result<()> {
        self.stop_node();
        self.address = free_address()?;
        let mut command = process::on_core(SERVER_CORE, "node");
        command.arg("server.js").current_dir(&self.folder).stdout(Stdio::piped());
        command.env("NODE_ENV", "production").env("PORT", self.address.port().to_string());
        command.env("PGHOST", self.postgres.socket_folder()).env("PGUSER", Postgres::USER);
        command.env("PGPORT", self.postgres.port().to_string());
        let mut node = command.spawn().context("cannot start node")?;
        let mut line = String::new();
        BufReader::new(node.stdout.take().context("no output")?).read_line(&mut line)?;
        self.node = Some(node);
        if line.trim() != "ready" {
            bail!("the peer does not start");
        }
        Ok(())
    }

    fn stop_node(&mut self) {
        if let Some(mut node) = self.node.take() {
            drop(node.kill());
            drop(node.wait());
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.node.as_ref().map_or(0, Child::id)
    }

    pub(super) fn processes(&self) -> Vec<u32> {
        std::iter::once(self.pid()).chain(self.postgres.pid()).collect()
    }

    pub(super) fn rooms(&mut self, count: usize, size: usize) -> Vec<Room> {
        let rooms = self.rooms..self.rooms + count;
        self.rooms += count;
        rooms
            .map(|room| Room {
                id: format!("room-{room}"),
                members: (0..size).map(|member| format!("user-{room}-{member}")).collect(),
            })
            .collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop_node();
    }
}

/// Installs what `package-lock.json` pins, into a folder beside the build's.
fn install(root: &Path) -> Result<PathBuf> {
    shell::provide(&NEEDED)?;
    let source = root.join("xtask/peer");
    let folder = root.join("target/peer");
    std::fs::create_dir_all(&folder)?;
    let lock = std::fs::read(source.join("package-lock.json"))?;
    let is_installed = std::fs::read(folder.join("node_modules/installed")).is_ok_and(|installed| installed == lock);
    for file in ["package.json", "package-lock.json", "server.js"] {
        std::fs::copy(source.join(file), folder.join(file))?;
    }
    if !is_installed {
        shell::output(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder))?;
        std::fs::write(folder.join("node_modules/installed"), lock)?;
    }
    Ok(folder)
}
