//! Roles on embedded stores in a folder of their own, in this process.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use rookery::config::Config;
use rookery::roles::{self, Role, Running};
use rookery::stores::{self, Stores};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Client;

/// Running roles. Dropped, it is gone with all its data.
pub struct Cluster {
    edges: Vec<SocketAddr>,
    stores: Stores,
    shutdown: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
    data: TempDir,
    shape: Vec<BTreeSet<Role>>,
    change: fn(&mut Config),
}

/// The configuration of a test: cheap password hashes, and limits that only a test of limits meets.
#[must_use]
pub fn config(data: &Path) -> Config {
    let mut config = Config { data: data.to_owned(), ..Config::default() };
    config.edge.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.edge.auth.password.memory_kib = 64;
    config.edge.auth.password.iterations = 1;
    config.edge.limits.requests_per_second_per_user = 100_000;
    config.edge.limits.request_burst_per_user = 100_000;
    config.edge.limits.requests_per_second_per_address = 100_000;
    config.edge.limits.request_burst_per_address = 100_000;
    config.edge.limits.sign_ins_per_minute_per_address = 100_000;
    config
}

impl Cluster {
    /// Every role in one set, as `rookery` without arguments runs them.
    pub async fn all() -> Self {
        Self::start(vec![Role::ALL.into()], |_| {}).await
    }

    /// Each role by itself, and two edges.
    pub async fn split() -> Self {
        let shape = [Role::Edge, Role::Edge, Role::Ingest, Role::Analytics];
        Self::start(shape.map(|role| [role].into()).into(), |_| {}).await
    }

    /// Every role in one set, with a configuration that differs from a test's usual one.
    pub async fn with(change: fn(&mut Config)) -> Self {
        Self::start(vec![Role::ALL.into()], change).await
    }

    /// The given sets of roles.
    pub async fn start(shape: Vec<BTreeSet<Role>>, change: fn(&mut Config)) -> Self {
        let data = tempfile::tempdir().expect("a folder for the data");
        Self::start_on(data, shape, change).await
    }

    async fn start_on(data: TempDir, shape: Vec<BTreeSet<Role>>, change: fn(&mut Config)) -> Self {
        let mut config = config(data.path());
        change(&mut config);
        let stores = stores::open(&config).await.expect("the stores open");
        let shutdown = CancellationToken::new();
        let (mut edges, mut tasks) = (Vec::new(), JoinSet::new());
        for roles in &shape {
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
        let mut cluster = Self { edges, stores, shutdown, tasks, data, shape, change };
        for edge in 0..cluster.edges.len() {
            let client = cluster.client_of(edge);
            tokio::select! {
                () = crate::eventually("an edge is ready", || async { client.get("/readyz").await.is(200).then_some(()) }) => {}
                Some(ended) = cluster.tasks.join_next() => panic!("a role ended instead of getting ready: {ended:?}"),
            }
        }
        cluster
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
        self.data.path()
    }

    /// What the roles meet through, to look behind the API.
    #[must_use]
    pub fn seams(&self) -> &edge::Seams {
        &self.stores.seams
    }

    /// Ends every role gracefully and starts them again on the same data, at other ports.
    pub async fn restart(self) -> Self {
        let Self { stores, shutdown, mut tasks, data, shape, change, .. } = self;
        shutdown.cancel();
        while let Some(ended) = tasks.join_next().await {
            ended.expect("no role panics").expect("every role ends well");
        }
        stores.seams.log.close().await;
        drop(stores);
        Box::pin(Self::start_on(data, shape, change)).await
    }
}
