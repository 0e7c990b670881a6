//! Roles on stores of their own: in this process, or each in one of its own.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rookery::config::Config;
use rookery::roles::{self, Role, Running};
use rookery::stores::{self, Stores};
use servers::Endpoints;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use toml::Table;
use types::Region;

use crate::{Client, Process, Stored, behind};

/// The regions' names, as a test's configuration has them. Users are born in the first.
pub const REGIONS: [(&str, Region); 3] = [("here", region(0)), ("there", region(1)), ("elsewhere", region(2))];

const fn region(number: u16) -> Region {
    match Region::new(number) {
        Some(region) => region,
        None => panic!("a region's number is small"),
    }
}

/// The embedded stores' folder.
const DATA: &str = "data";

/// Running roles. Dropped, it is gone with all its data.
pub struct Cluster {
    edges: Vec<SocketAddr>,
    /// Opened by this process: for the roles that run in it, and to look behind the API.
    stores: Stores,
    runs: Runs,
    plan: Plan,
}

/// Where the roles run.
enum Runs {
    Here { shutdown: CancellationToken, tasks: JoinSet<anyhow::Result<()>> },
    Apart(Vec<Process>),
}

/// What is started, and started again.
struct Plan {
    /// The folder of all data.
    data: TempDir,
    shape: Vec<BTreeSet<Role>>,
    /// The stores' tables of the configuration, where they are not the embedded ones.
    stores: Table,
    change: fn(&mut Config),
    /// The binary, when each set of roles has a process of its own.
    program: Option<&'static str>,
}

/// The configuration of a test: cheap password hashes, and limits that only a test of limits meets.
#[must_use]
pub fn config(data: &Path) -> Config {
    let mut config = Config { data: data.to_owned(), ..Config::default() };
    config.edge.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.edge.auth.password.memory_kib = 64;
    config.edge.auth.password.iterations = 1;
    config.edge.region.names = REGIONS.map(|(name, number)| (name.to_owned(), number)).into();
    config.edge.limits.connections_per_user = 1_000;
    config.edge.limits.requests_per_second_per_user = 100_000;
    config.edge.limits.request_burst_per_user = 100_000;
    config.edge.limits.requests_per_second_per_address = 100_000;
    config.edge.limits.request_burst_per_address = 100_000;
    config.edge.limits.sign_ins_per_minute_per_address = 100_000;
    config
}

/// Two edges and a process of each other role, which is there before them.
fn split_roles() -> Vec<BTreeSet<Role>> {
    [Role::Ingest, Role::Analytics, Role::Edge, Role::Edge].map(|role| [role].into()).into()
}

impl Cluster {
    /// Every role in one set on embedded stores, as `rookery` without arguments runs them.
    pub async fn all() -> Self {
        Self::with(|_| {}).await
    }

    /// Each role by itself on embedded stores, and two edges.
    pub async fn split() -> Self {
        Self::start(Plan { shape: split_roles(), ..Plan::new(|_| {}) }).await
    }

    /// Every role in one set on embedded stores, with a configuration that differs from a test's usual one.
    pub async fn with(change: fn(&mut Config)) -> Self {
        Self::start(Plan::new(change)).await
    }

    /// Every role in one set on real stores.
    pub async fn all_on_servers() -> Self {
        Self::on(servers::endpoints(), |_| {}).await
    }

    /// Every role in one set on these real stores, with a configuration that differs from a test's usual one in what
    /// is no store's.
    pub async fn on(servers: &Endpoints, change: fn(&mut Config)) -> Self {
        Self::start(Plan { stores: behind::stores_on(servers, 1).await, ..Plan::new(change) }).await
    }

    /// A process for each role on real stores, and two edges. `program` is the path of the binary.
    pub async fn processes(program: &'static str) -> Self {
        let stores = behind::stores_on(servers::endpoints(), 1).await;
        Self::start(Plan { shape: split_roles(), stores, program: Some(program), ..Plan::new(|_| {}) }).await
    }

    async fn start(plan: Plan) -> Self {
        let config = plan.config(&plan.data.path().join(DATA));
        if !plan.stores.is_empty() {
            stores::migrate(&config).await.expect("the stores get their schema");
        }
        let stores = stores::open(&config).await.expect("the stores open");
        let (edges, runs) = match plan.program {
            Some(program) => plan.start_apart(program).await,
            None => plan.start_here(&stores, &config).await,
        };
        let mut cluster = Self { edges, stores, runs, plan };
        for edge in 0..cluster.edges.len() {
            cluster.until_ready(edge).await;
        }
        cluster
    }

    async fn until_ready(&mut self, edge: usize) {
        let client = self.client_of(edge);
        let ready =
            crate::eventually("an edge is ready", || async { client.get("/readyz").await.is(200).then_some(()) });
        match &mut self.runs {
            Runs::Here { tasks, .. } => tokio::select! {
                () = ready => {}
                Some(ended) = tasks.join_next() => panic!("a role ended instead of getting ready: {ended:?}"),
            },
            Runs::Apart(_) => ready.await,
        }
    }

    /// A client of the first edge.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client_of(0)
    }

    /// A client of the last edge: in a split cluster not the first one.
    #[must_use]
    pub fn other_client(&self) -> Client {
        self.client_of(self.edges.len() - 1)
    }

    fn client_of(&self, edge: usize) -> Client {
        Client::new(self.edges[edge])
    }

    /// Where a browser finds the first edge.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.edges[0])
    }

    /// The folder of the data.
    #[must_use]
    pub fn data(&self) -> &Path {
        self.plan.data.path()
    }

    /// What names the stores, to look behind the API: in a split cluster other processes have folders of their own.
    #[must_use]
    pub fn config(&self) -> Config {
        self.plan.config(&self.plan.data.path().join(DATA))
    }

    /// What the roles meet through, to look behind the API.
    #[must_use]
    pub fn seams(&self) -> &edge::Seams {
        &self.stores.seams
    }

    /// What lies in the blob store. In processes of their own each has a folder of its own, unless they share a bucket.
    #[must_use]
    pub fn stored(&self) -> Stored {
        Stored::of(&self.plan.config(&self.plan.data.path().join("data")))
    }

    /// Ends every role gracefully and starts them again on the same data, at other ports.
    pub async fn restart(self) -> Self {
        let Self { stores, runs, plan, .. } = self;
        match runs {
            Runs::Here { shutdown, mut tasks } => {
                shutdown.cancel();
                while let Some(ended) = crate::in_time("the end of every role", tasks.join_next()).await {
                    ended.expect("no role panics").expect("every role ends well");
                }
            }
            Runs::Apart(processes) => {
                for process in processes {
                    assert!(process.terminate().await.success(), "every process ends well");
                }
            }
        }
        stores.seams.log.close().await;
        drop(stores);
        Box::pin(Self::start(plan)).await
    }
}

impl Plan {
    fn new(change: fn(&mut Config)) -> Self {
        let data = tempfile::tempdir().expect("a folder for the data");
        Self { data, shape: vec![Role::ALL.into()], stores: Table::new(), change, program: None }
    }

    /// The configuration as TOML, on a data folder. All edges sign with one key.
    fn table(&self, data: &Path) -> Table {
        let mut config = config(data);
        config.edge.auth.signing_key = self.data.path().join("signing-key.pem");
        (self.change)(&mut config);
        let mut table = Table::try_from(config).expect("a configuration has TOML");
        table.extend(self.stores.clone());
        table
    }

    fn config(&self, data: &Path) -> Config {
        self.table(data).try_into().expect("the configuration holds together")
    }

    async fn start_here(&self, stores: &Stores, config: &Config) -> (Vec<SocketAddr>, Runs) {
        let (mut edges, mut tasks, shutdown) = (Vec::new(), JoinSet::new(), CancellationToken::new());
        for roles in &self.shape {
            let mut listener = None;
            if roles.contains(&Role::Edge) {
                let bound = TcpListener::bind(config.edge.listen).await.expect("a free port");
                edges.push(bound.local_addr().expect("the port has a number"));
                listener = Some(bound);
            }
            let running =
                Running { config: config.clone(), roles: roles.clone(), seams: stores.seams.clone(), listener };
            tasks.spawn(roles::run(running, shutdown.clone()));
        }
        (edges, Runs::Here { shutdown, tasks })
    }

    async fn start_apart(&self, program: &str) -> (Vec<SocketAddr>, Runs) {
        let (mut edges, mut processes) = (Vec::new(), Vec::new());
        for (number, roles) in self.shape.iter().enumerate() {
            let role = roles.first().expect("a process has a role");
            let process = Process::start_role(program, *role, &self.write(&format!("process-{number}"))).await;
            edges.extend(process.address());
            processes.push(process);
        }
        (edges, Runs::Apart(processes))
    }

    /// Writes the configuration of a process with a data folder of its own.
    fn write(&self, name: &str) -> PathBuf {
        let data = self.data.path().join(name);
        let file = data.with_extension("toml");
        std::fs::write(&file, self.table(&data).to_string()).expect("the configuration can be written");
        file
    }
}
