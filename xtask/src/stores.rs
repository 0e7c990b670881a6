//! Real servers behind all five seams, and the configuration that names them.

use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Result, bail};
use servers::{
    Cassandra, CassandraOptions, ClickHouse, ClickHouseOptions, Endpoints, Home, Names, Nats, NatsCluster, NatsOptions,
    Postgres, SeaweedS3, Server, shell,
};

/// The shards of the log.
pub(crate) const SHARDS: u16 = 8;

/// Compiled as in production, and with room: a Cassandra that starts quickly is slow for good, and one with a small heap
/// clears it all the time. Nobody waits for history, so it may wait longer for more to sync at once.
const CASSANDRA: CassandraOptions =
    CassandraOptions { heap_megabytes: 1024, commit_window_ms: 10, as_in_production: true };

/// How many NATS servers keep the log.
#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogServers {
    /// One, with the server's own default of when the disk is told.
    #[default]
    One,
    /// Three with three replicas, each of which has a message on the disk before it says so. Postgres has a replica
    /// too.
    Three,
}

/// The servers.
pub(crate) struct Stores {
    pub(crate) nats: Log,
    pub(crate) postgres: Postgres,
    replica: Option<Postgres>,
    pub(crate) cassandra: Cassandra,
    pub(crate) clickhouse: ClickHouse,
    pub(crate) s3: SeaweedS3,
}

/// Where the log is.
pub(crate) enum Log {
    One(Nats),
    Three(NatsCluster),
}

impl Log {
    fn start(home: &Home, folder: &Path, servers: LogServers) -> Result<Self> {
        Ok(match servers {
            LogServers::One => Self::One(Nats::start(home, folder, NatsOptions::default())?),
            LogServers::Three => Self::Three(NatsCluster::start(home, folder, NatsOptions { sync_always: true })?),
        })
    }

    /// The addresses.
    pub(crate) fn urls(&self) -> Vec<String> {
        match self {
            Self::One(nats) => vec![nats.url().to_owned()],
            Self::Three(cluster) => cluster.urls(),
        }
    }

    /// The servers.
    pub(crate) fn servers(&self) -> Vec<&Server> {
        match self {
            Self::One(nats) => vec![nats],
            Self::Three(cluster) => cluster.servers.iter().map(|nats| &**nats).collect(),
        }
    }
}

impl Stores {
    /// Starts them all at once on folders below this one.
    pub(crate) fn start(home: &Home, folder: &Path, log: LogServers) -> Result<Self> {
        thread::scope(|scope| {
            let nats = scope.spawn(|| Log::start(home, &folder.join("nats"), log));
            let cassandra = scope.spawn(|| Cassandra::start(home, &folder.join("cassandra"), CASSANDRA));
            let clickhouse =
                scope.spawn(|| ClickHouse::start(home, &folder.join("clickhouse"), ClickHouseOptions::default()));
            let s3 = scope.spawn(|| SeaweedS3::start(home, &folder.join("s3")));
            let postgres = Postgres::start(home, &folder.join("postgres"), &[])?;
            postgres.psql("postgres", "CREATE DATABASE rookery")?;
            let replica = (log == LogServers::Three).then(|| postgres.replica(&folder.join("postgres-replica"), &[]));
            Ok(Self {
                replica: replica.transpose()?,
                postgres,
                nats: joined(nats)?,
                cassandra: joined(cassandra)?,
                clickhouse: joined(clickhouse)?,
                s3: joined(s3)?,
            })
        })
    }

    /// The configuration that all processes share. The signing key is made by the first edge.
    pub(crate) fn config(&self, signing_key: &Path) -> String {
        let endpoints = Endpoints {
            nats: self.nats.urls().join(","),
            postgres: self.postgres.url().to_owned(),
            cassandra: self.cassandra.address().to_owned(),
            clickhouse: self.clickhouse.url().to_owned(),
            s3: self.s3.endpoint(),
        };
        let replicas = self.nats.urls().len();
        let names = Names { cluster: "rookery", keyspace: "rookery", shards: SHARDS, replicas, max_connections: 16 };
        let stores = endpoints.configuration(&names, self.replica.as_ref().map(Postgres::url));
        format!("{stores}\n[edge.auth]\nsigning_key = {signing_key:?}\n")
    }

    /// Makes every store's schema.
    pub(crate) fn migrate(&self, program: &Path, folder: &Path, config: &str) -> Result<()> {
        let file = folder.join("migrate.toml");
        std::fs::write(&file, config)?;
        let mut migrate = Command::new(program);
        migrate.arg("migrate").arg("--config").arg(&file).arg("--data").arg(folder.join("migrate"));
        shell::output(&mut migrate).map(drop)
    }

    /// All of them.
    pub(crate) fn servers(&mut self) -> Vec<&mut Server> {
        let mut servers: Vec<&mut Server> = match &mut self.nats {
            Log::One(nats) => vec![&mut **nats],
            Log::Three(cluster) => cluster.servers.iter_mut().map(|nats| &mut **nats).collect(),
        };
        servers.push(&mut self.postgres);
        servers.extend(self.replica.as_deref_mut());
        servers.extend([&mut *self.cassandra, &mut *self.clickhouse, &mut *self.s3]);
        servers
    }
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| bail!("a start panicked"))
}
