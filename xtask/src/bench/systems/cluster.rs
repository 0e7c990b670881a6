//! Rookery as a cluster: a process for each role, on real servers.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use servers::{Home, Role, Server};
use tempfile::TempDir;

use super::users::{LIMITS, Users};
use crate::bench::process::{self, CLIENT_CORE, SERVER_CORE, Turn};
use crate::load::Room;
use crate::stores::{LogServers, Stores};

/// The running cluster. What is named first ends first.
pub(crate) struct Cluster {
    edge: servers::Rookery,
    workers: [servers::Rookery; 2],
    stores: Stores,
    users: Users,
    _folder: TempDir,
}

impl Cluster {
    /// Starts the servers, makes their schema, and starts an edge, an ingest and an analytics worker, all on the first
    /// core: what this process starts stays there.
    pub(super) fn start(root: &Path, log: LogServers) -> Result<Self> {
        process::pin(SERVER_CORE, std::process::id())?;
        let home = Home::open()?;
        let folder = home.scratch("bench")?;
        let stores = Stores::start(&home, folder.path(), log)?;
        let program = root.join("target/release/rookery");
        // `[edge.auth]` is begun by the stores' configuration, which names the signing key there.
        let config = stores.config(&folder.path().join("signing-key.pem")) + LIMITS.trim_start_matches("[edge.auth]\n");
        stores.migrate(&program, folder.path(), &config)?;
        let start =
            |name: &str, role| servers::Rookery::start(&home, &program, &folder.path().join(name), role, &config);
        Ok(Self {
            workers: [start("ingest", Role::Ingest)?, start("analytics", Role::Analytics)?],
            edge: start("edge", Role::Edge)?,
            stores,
            users: Users::default(),
            _folder: folder,
        })
    }

    /// Starts the edge anew.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.edge.restart()
    }

    pub(super) fn address(&self) -> Result<SocketAddr> {
        let address = self.edge.address();
        address.trim_start_matches("http://").parse().with_context(|| format!("{address} is no address"))
    }

    /// The addresses of the log's servers, of which each has a copy.
    pub(crate) fn log_urls(&self) -> Vec<String> {
        self.stores.nats.urls()
    }

    /// The first process of each part, by the part's name, the edge first.
    pub(super) fn parts(&self) -> Vec<(&'static str, u32)> {
        let Stores { nats, postgres, cassandra, clickhouse, s3, .. } = &self.stores;
        let mut parts: Vec<&Server> = vec![&self.edge];
        parts.extend(self.workers.iter().map(|worker| &**worker));
        parts.extend(nats.servers());
        parts.extend([&**cassandra, &**postgres, &**clickhouse, &**s3]);
        parts.into_iter().filter_map(|server| Some((server.name(), server.pid()?))).collect()
    }

    /// Gives the path of a message up to its acknowledgement what machines of their own would give it: the edge leaves
    /// the log's core to the log, and whatever works behind the log has what nobody else wants.
    pub(crate) fn put_apart(&self) -> Result<()> {
        self.place(CLIENT_CORE, Turn::Idle)
    }

    /// Undoes [`Cluster::put_apart`].
    pub(crate) fn put_together(&self) -> Result<()> {
        self.place(SERVER_CORE, Turn::Usual)
    }

    fn place(&self, core_of_edge: &str, behind_the_log: Turn) -> Result<()> {
        let log: Vec<u32> = self.stores.nats.servers().into_iter().filter_map(Server::pid).collect();
        let edge = self.edge.pid();
        for (_, pid) in self.parts() {
            if Some(pid) == edge {
                process::pin(core_of_edge, pid)?;
            } else if !log.contains(&pid) {
                process::take_turns(behind_the_log, pid)?;
            }
        }
        Ok(())
    }

    pub(super) fn rooms(&mut self, count: usize, size: usize) -> Result<Vec<Room>> {
        let address = self.address()?;
        self.users.rooms(address, count, size)
    }
}
