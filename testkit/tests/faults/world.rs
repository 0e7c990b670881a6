//! A whole cluster whose parts can be broken one by one: real servers of its own, and two processes of every role.

use std::path::{Path, PathBuf};

use edge::Seams;
use rookery::roles::Role;
use rookery::stores::{self, Stores};
use servers::{Cassandra, ClickHouse, Endpoints, Home, NatsCluster, NatsOptions, Postgres, SeaweedS3, Server};
use tempfile::TempDir;
use testkit::{Client, Process, eventually};
use tokio::task::block_in_place;
use toml::Table;

use crate::load::Edges;

const PROGRAM: &str = env!("CARGO_BIN_EXE_rookery-under-test");
/// What every process of a role is started from again.
const EACH: usize = 2;
/// Replicas of the log: as many as there are NATS servers.
const REPLICAS: usize = 3;

/// Servers, processes, and where their data is.
pub(crate) struct World {
    pub(crate) servers: Servers,
    pub(crate) edges: Edges,
    processes: Vec<(Role, usize, Option<Process>)>,
    stores: Stores,
    config: Table,
    /// Below which everything is.
    path: PathBuf,
    /// Goes last.
    folder: Option<TempDir>,
}

/// One of each, and three of NATS.
pub(crate) struct Servers {
    pub(crate) nats: NatsCluster,
    pub(crate) cassandra: Cassandra,
    pub(crate) postgres: Postgres,
    pub(crate) clickhouse: ClickHouse,
    pub(crate) s3: SeaweedS3,
}

impl Servers {
    fn start(folder: &Path) -> anyhow::Result<Self> {
        let home = Home::open()?;
        Ok(Self {
            nats: NatsCluster::start(&home, &folder.join("nats"), NatsOptions { sync_always: true })?,
            cassandra: Cassandra::start(&home, &folder.join("cassandra"), Default::default())?,
            postgres: Postgres::start(&home, &folder.join("postgres"), &[])?,
            clickhouse: ClickHouse::start(&home, &folder.join("clickhouse"), Default::default())?,
            s3: SeaweedS3::start(&home, &folder.join("s3"))?,
        })
    }

    fn endpoints(&self) -> Endpoints {
        Endpoints {
            nats: self.nats.urls().join(","),
            postgres: self.postgres.url().to_owned(),
            cassandra: self.cassandra.address().to_owned(),
            clickhouse: self.clickhouse.url().to_owned(),
            s3: self.s3.endpoint(),
        }
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        let folder = Home::open().and_then(|home| home.scratch("faults")).expect("a folder for the data");
        let servers = block_in_place(|| Servers::start(folder.path())).expect("the servers start");
        let mut config = Table::try_from(testkit::config(&folder.path().join("data"))).expect("it has TOML");
        config.extend(testkit::stores_on(&servers.endpoints(), REPLICAS).await);
        let edge = config["edge"].as_table_mut().expect("the edge has a table");
        let auth = edge["auth"].as_table_mut().expect("and one for its tokens");
        auth.insert("signing_key".into(), folder.path().join("signing-key.pem").to_string_lossy().into_owned().into());
        // The clients here do not refresh their tokens.
        auth.insert("access_token_minutes".into(), 1_440.into());
        let inspection = config.clone().try_into().expect("the configuration holds together");
        stores::migrate(&inspection).await.expect("the stores get their schema");
        let stores = stores::open(&inspection).await.expect("the stores open");
        let mut world = Self {
            servers,
            edges: Edges::new(Vec::new()),
            processes: Vec::new(),
            stores,
            config,
            path: folder.path().to_owned(),
            folder: Some(folder),
        };
        for role in Role::ALL {
            for number in 0..EACH {
                let process = Process::start_role(PROGRAM, role, &world.write(role, number)).await;
                world.processes.push((role, number, Some(process)));
            }
        }
        let addresses = world.processes.iter().filter_map(|(_, _, process)| process.as_ref()?.address()).collect();
        world.edges = Edges::new(addresses);
        for edge in 0..EACH {
            world.until_ready(edge).await;
        }
        world
    }

    /// What the roles meet through, to look behind the API.
    pub(crate) fn seams(&self) -> &Seams {
        &self.stores.seams
    }

    /// A stranger to an edge.
    pub(crate) fn stranger(&self, edge: usize) -> Client {
        self.edges.client(&Client::new(([127, 0, 0, 1], 0).into()), edge)
    }

    pub(crate) async fn until_ready(&self, edge: usize) {
        let client = self.stranger(edge);
        eventually("an edge is ready", || async { client.get("/readyz").await.is(200).then_some(()) }).await;
    }

    fn write(&self, role: Role, number: usize) -> PathBuf {
        let data = self.path.join(format!("{}-{number}", role.name()));
        let mut config = self.config.clone();
        config.insert("data".into(), data.to_string_lossy().into_owned().into());
        let file = data.with_extension("toml");
        std::fs::write(&file, config.to_string()).expect("the configuration can be written");
        file
    }

    /// SIGKILL to a process of a role.
    pub(crate) async fn kill(&mut self, role: Role, number: usize) {
        self.take(role, number).kill().await;
    }

    /// SIGTERM to a process of a role; it must end well.
    pub(crate) async fn terminate(&mut self, role: Role, number: usize) {
        let ended = self.take(role, number).terminate().await;
        assert!(ended.success(), "{} {number} ends well: {ended}", role.name());
    }

    fn take(&mut self, role: Role, number: usize) -> Process {
        let of_role = self.processes.iter_mut().find(|(known, place, _)| (*known, *place) == (role, number));
        of_role.and_then(|(_, _, process)| process.take()).expect("it runs")
    }

    /// Starts a process that was ended.
    pub(crate) async fn revive(&mut self, role: Role, number: usize) {
        let process = Process::start_role(PROGRAM, role, &self.write(role, number)).await;
        if let Some(address) = process.address() {
            self.edges.moved(number, address);
        }
        let of_role = self.processes.iter_mut().find(|(known, place, _)| (*known, *place) == (role, number));
        *of_role.map(|(_, _, process)| process).expect("it is one of ours") = Some(process);
    }

    /// The NATS server that leads a shard's stream.
    pub(crate) async fn log_leader(&mut self) -> &mut Server {
        let name = self.config["log"]["name"].as_str().expect("the log has a name").to_owned();
        let urls = self.servers.nats.urls();
        let stream = format!("{name}-{}-0", self.seams().log.layout().region);
        let leader = eventually("a stream has a leader", || async {
            let client = async_nats::connect(&urls[..]).await.ok()?;
            let stream = async_nats::jetstream::new(client).get_stream(&stream).await.ok()?;
            stream.cached_info().cluster.as_ref()?.leader.clone()
        })
        .await;
        self.servers.nats.server(&leader).expect("the leader is one of ours")
    }
}

impl Drop for World {
    /// What a failed run has written is kept, to be looked at.
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("what every process has logged is in {}", folder.keep().display());
        }
    }
}
