//! All kinds of servers, started side by side.

use std::path::Path;
use std::str::FromStr;
use std::thread;

use anyhow::{Error, Result, bail};

use crate::cassandra::{Cassandra, CassandraOptions};
use crate::clickhouse::{ClickHouse, ClickHouseOptions};
use crate::endpoints::Endpoints;
use crate::home::Home;
use crate::nats::{Nats, NatsCluster, NatsOptions};
use crate::postgres::Postgres;
use crate::seaweed::SeaweedS3;
use crate::server::Server;

/// What can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One NATS server.
    Nats,
    /// Three of them.
    NatsCluster,
    /// Postgres.
    Postgres,
    /// Cassandra.
    Cassandra,
    /// ClickHouse.
    ClickHouse,
    /// SeaweedFS.
    S3,
}

impl Kind {
    /// Each of them.
    pub const ALL: [Self; 6] =
        [Self::Nats, Self::NatsCluster, Self::Postgres, Self::Cassandra, Self::ClickHouse, Self::S3];
    /// One for each seam.
    pub const ONE_OF_EACH: [Self; 5] = [Self::Nats, Self::Postgres, Self::Cassandra, Self::ClickHouse, Self::S3];

    /// Its name, which is also that of its folder.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::NatsCluster => "nats-cluster",
            Self::Postgres => "postgres",
            Self::Cassandra => "cassandra",
            Self::ClickHouse => "clickhouse",
            Self::S3 => "s3",
        }
    }

    /// Starts it on a folder of its name below `data`, or takes over the one that already runs there.
    pub fn start(self, home: &Home, data: &Path) -> Result<Started> {
        let folder = data.join(self.name());
        Ok(match self {
            Self::Nats => Started::Nats(Nats::start(home, &folder, NatsOptions::default())?),
            Self::NatsCluster => Started::NatsCluster(NatsCluster::start(home, &folder, NatsOptions::default())?),
            Self::Postgres => Started::Postgres(Postgres::start(home, &folder, &[])?),
            Self::Cassandra => Started::Cassandra(Cassandra::start(home, &folder, CassandraOptions::default())?),
            Self::ClickHouse => Started::ClickHouse(ClickHouse::start(home, &folder, ClickHouseOptions::default())?),
            Self::S3 => Started::S3(SeaweedS3::start(home, &folder)?),
        })
    }

    fn find(self, home: &Home, data: &Path) -> Result<Started> {
        let folder = data.join(self.name());
        Ok(match self {
            Self::Nats => Started::Nats(Nats::find(home, &folder, NatsOptions::default())?),
            Self::NatsCluster => Started::NatsCluster(NatsCluster::find(home, &folder, NatsOptions::default())?),
            Self::Postgres => Started::Postgres(Postgres::find(home, &folder, &[])?),
            Self::Cassandra => Started::Cassandra(Cassandra::find(home, &folder, CassandraOptions::default())?),
            Self::ClickHouse => Started::ClickHouse(ClickHouse::find(home, &folder, ClickHouseOptions::default())?),
            Self::S3 => Started::S3(SeaweedS3::find(home, &folder)?),
        })
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let Some(kind) = Self::ALL.into_iter().find(|kind| kind.name() == name) else {
            let names: Vec<&str> = Self::ALL.into_iter().map(Self::name).collect();
            bail!("it is one of {}", names.join(", "));
        };
        Ok(kind)
    }
}

/// A server, or the servers of a cluster.
pub enum Started {
    /// One NATS server.
    Nats(Nats),
    /// Three of them.
    NatsCluster(NatsCluster),
    /// Postgres.
    Postgres(Postgres),
    /// Cassandra.
    Cassandra(Cassandra),
    /// ClickHouse.
    ClickHouse(ClickHouse),
    /// SeaweedFS.
    S3(SeaweedS3),
}

impl Started {
    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Nats(_) => Kind::Nats,
            Self::NatsCluster(_) => Kind::NatsCluster,
            Self::Postgres(_) => Kind::Postgres,
            Self::Cassandra(_) => Kind::Cassandra,
            Self::ClickHouse(_) => Kind::ClickHouse,
            Self::S3(_) => Kind::S3,
        }
    }

    /// Whether all its servers serve.
    pub fn is_ready(&mut self) -> bool {
        self.servers().iter().all(|server| server.is_ready())
    }

    /// Stops all its servers.
    pub fn stop(&mut self) -> Result<()> {
        self.servers().into_iter().try_for_each(Server::stop)
    }

    /// The servers themselves.
    pub fn servers(&mut self) -> Vec<&mut Server> {
        match self {
            Self::Nats(nats) => vec![nats],
            Self::NatsCluster(cluster) => cluster.servers.iter_mut().map(|nats| &mut **nats).collect(),
            Self::Postgres(postgres) => vec![postgres],
            Self::Cassandra(cassandra) => vec![cassandra],
            Self::ClickHouse(clickhouse) => vec![clickhouse],
            Self::S3(seaweed) => vec![seaweed],
        }
    }

    /// Writes its address among the others; of a cluster, that of its first server.
    pub fn enter(&self, endpoints: &mut Endpoints) {
        match self {
            Self::Nats(nats) => endpoints.nats = nats.url().to_owned(),
            Self::NatsCluster(cluster) => endpoints.nats = cluster.servers[0].url().to_owned(),
            Self::Postgres(postgres) => endpoints.postgres = postgres.url().to_owned(),
            Self::Cassandra(cassandra) => endpoints.cassandra = cassandra.address().to_owned(),
            Self::ClickHouse(clickhouse) => endpoints.clickhouse = clickhouse.url().to_owned(),
            Self::S3(seaweed) => endpoints.s3 = seaweed.endpoint(),
        }
    }
}

/// Starts several side by side and waits until all of them serve.
///
/// # Errors
/// With everything that went wrong. Those that had been started are killed, unless servers outlive us.
pub fn start_all(home: &Home, data: &Path, kinds: &[Kind]) -> Result<Vec<Started>> {
    let outcomes: Vec<Result<Started>> = thread::scope(|scope| {
        let starting: Vec<_> = kinds.iter().map(|kind| scope.spawn(|| kind.start(home, data))).collect();
        starting.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a start panicked"))).collect()
    });
    let (mut started, mut errors) = (Vec::new(), Vec::new());
    for (outcome, kind) in outcomes.into_iter().zip(kinds) {
        match outcome {
            Ok(server) => started.push(server),
            Err(error) => errors.push(format!("{}: {error:#}", kind.name())),
        }
    }
    if errors.is_empty() { Ok(started) } else { bail!("{}", errors.join("\n")) }
}

/// The servers of these kinds that were ever started below `data`, running or down.
pub fn find(home: &Home, data: &Path, kinds: &[Kind]) -> Result<Vec<Started>> {
    let known = kinds.iter().filter(|kind| data.join(kind.name()).exists());
    known.map(|kind| kind.find(home, data)).collect()
}
