//! `cargo xtask cluster`: a whole cluster on this machine, to look at. Two edges, two ingests and two analytics workers
//! on real servers: three of NATS, Postgres with a replica, Cassandra, ClickHouse, an S3 store.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use servers::{
    Cassandra, CassandraOptions, ClickHouse, ClickHouseOptions, Home, NatsCluster, NatsOptions, Postgres, Role,
    Rookery, SeaweedS3, Server, shell,
};

/// What runs beside the servers.
const PROCESSES: [(&str, Role); 6] = [
    ("ingest-1", Role::Ingest),
    ("ingest-2", Role::Ingest),
    ("analytics-1", Role::Analytics),
    ("analytics-2", Role::Analytics),
    ("edge-1", Role::Edge),
    ("edge-2", Role::Edge),
];
/// How often is looked whether all of them still run.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Starts everything, says where it is, and runs until Ctrl-C. Everything ends with us, and its data with it.
pub(crate) fn run(root: &Path) -> Result<()> {
    eprintln!("building");
    shell::output(Command::new("cargo").args(["build", "--package", "rookery"]).current_dir(root))?;
    let program = root.join("target/debug/rookery");
    let home = Home::open()?;
    let folder = home.scratch("cluster")?;
    let mut stores = Stores::start(&home, folder.path())?;
    let config = stores.config(&folder.path().join("signing-key.pem"));
    migrate(&program, folder.path(), &config)?;
    let start =
        |(name, role): &(&str, Role)| Rookery::start(&home, &program, &folder.path().join(name), *role, &config);
    let mut processes = PROCESSES.iter().map(start).collect::<Result<Vec<Rookery>>>()?;
    show(&mut stores, &processes);
    loop {
        thread::sleep(LOOK_EVERY);
        let processes = processes.iter_mut().map(|process| &mut **process);
        for server in stores.servers().into_iter().chain(processes).filter_map(ended) {
            println!("{} {} ended; it is started again", server.name(), server.address());
            server.restart()?;
        }
    }
}

/// The server, if it has ended.
fn ended(server: &mut Server) -> Option<&mut Server> {
    server.has_ended().then_some(server)
}

/// The real servers.
struct Stores {
    nats: NatsCluster,
    postgres: Postgres,
    replica: Postgres,
    cassandra: Cassandra,
    clickhouse: ClickHouse,
    s3: SeaweedS3,
}

impl Stores {
    fn start(home: &Home, folder: &Path) -> Result<Self> {
        eprintln!("starting the servers");
        let always = NatsOptions { sync_always: true };
        thread::scope(|scope| {
            let nats = scope.spawn(|| NatsCluster::start(home, &folder.join("nats"), always));
            let cassandra =
                scope.spawn(|| Cassandra::start(home, &folder.join("cassandra"), CassandraOptions::default()));
            let clickhouse =
                scope.spawn(|| ClickHouse::start(home, &folder.join("clickhouse"), ClickHouseOptions::default()));
            let s3 = scope.spawn(|| SeaweedS3::start(home, &folder.join("s3")));
            let postgres = Postgres::start(home, &folder.join("postgres"), &[])?;
            postgres.psql("postgres", "CREATE DATABASE rookery")?;
            Ok(Self {
                replica: postgres.replica(&folder.join("postgres-replica"), &[])?,
                postgres,
                nats: joined(nats)?,
                cassandra: joined(cassandra)?,
                clickhouse: joined(clickhouse)?,
                s3: joined(s3)?,
            })
        })
    }

    /// The configuration that all processes share. The signing key is made by the first edge.
    fn config(&self, signing_key: &Path) -> String {
        let nats = self.nats.urls();
        let s3 = self.s3.endpoint();
        format!(
            r#"[log]
type = "jetstream"
servers = {nats:?}
name = "rookery"
replicas = 3

[history]
type = "scylla"
nodes = [{cassandra:?}]
keyspace = "rookery"
replication = {{ replication_factor = 1 }}

[directory]
type = "postgres"
url = "{postgres}/rookery"
replica_url = "{replica}/rookery"

[analytics]
type = "clickhouse"
url = {clickhouse:?}
database = "rookery"

[analytics.ranges]
servers = {nats:?}
replicas = 3

[blobs]
type = "s3"
endpoint = {endpoint:?}
region = {region:?}
bucket = "rookery"
access_key_id = {access_key_id:?}
secret_access_key = {secret_access_key:?}
path_style = true

[edge.auth]
signing_key = {signing_key:?}
"#,
            cassandra = self.cassandra.address(),
            postgres = self.postgres.url(),
            replica = self.replica.url(),
            clickhouse = self.clickhouse.url(),
            endpoint = s3.endpoint,
            region = s3.region,
            access_key_id = s3.access_key_id,
            secret_access_key = s3.secret_access_key,
        )
    }

    fn servers(&mut self) -> Vec<&mut Server> {
        let mut servers: Vec<&mut Server> = self.nats.servers.iter_mut().map(|nats| &mut **nats).collect();
        servers.extend([&mut *self.postgres, &mut *self.replica, &mut *self.cassandra]);
        servers.extend([&mut *self.clickhouse, &mut *self.s3]);
        servers
    }
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| bail!("a start panicked"))
}

/// Makes every store's schema.
fn migrate(program: &Path, folder: &Path, config: &str) -> Result<()> {
    let file = folder.join("migrate.toml");
    std::fs::write(&file, config)?;
    let mut migrate = Command::new(program);
    migrate.arg("migrate").arg("--config").arg(&file).arg("--data").arg(folder.join("migrate"));
    shell::output(&mut migrate).map(drop)
}

fn show(stores: &mut Stores, processes: &[Rookery]) {
    for server in stores.servers() {
        println!("{:<12} {:<44} process {}", server.name(), server.address(), server.pid().unwrap_or_default());
    }
    for (process, (name, role)) in processes.iter().zip(PROCESSES) {
        let address = if role == Role::Edge { process.address() } else { "" };
        println!("{name:<12} {address:<44} process {}", process.pid().unwrap_or_default());
    }
    println!("\nOpen both edges in a browser, register somebody at each, and let them write to each other.");
    println!("Kill any process: it is started again. Ctrl-C ends everything.");
}
