//! Three NATS servers whose streams may have three replicas.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Deserialize;

use super::{Member, Nats, NatsOptions, plan, ports_of};
use crate::home::Home;
use crate::http;
use crate::process::GLANCE;
use crate::server::{Plan, Server};

const NAMES: [&str; 3] = ["n1", "n2", "n3"];
/// How long they may take to find a leader.
const PATIENCE: Duration = Duration::from_secs(60);

/// Three NATS servers, joined on loopback. Each can be killed and restarted by itself.
pub struct NatsCluster {
    /// They are named `n1`, `n2` and `n3`: by these names JetStream says who leads.
    pub servers: Vec<Nats>,
}

impl NatsCluster {
    /// Starts them on folders below this one and waits until they have chosen a leader.
    pub fn start(home: &Home, folder: &Path, options: NatsOptions) -> Result<Self> {
        let mut cluster = Self::find(home, folder, options)?;
        cluster.servers.iter_mut().try_for_each(|server| server.launch_if_down())?;
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    /// As an earlier run left it.
    pub(crate) fn find(home: &Home, folder: &Path, options: NatsOptions) -> Result<Self> {
        let find = |plan| Nats { server: Server::find(plan) };
        Ok(Self { servers: plans(home, folder, options)?.into_iter().map(find).collect() })
    }

    /// The servers' addresses. A client that reaches one of them learns of the others.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.url().to_owned()).collect()
    }

    /// The server of that name (`n1`), if there is one.
    pub fn server(&mut self, name: &str) -> Option<&mut Nats> {
        let place = NAMES.iter().position(|known| *known == name)?;
        self.servers.get_mut(place)
    }

    /// Waits until every server that is not down serves, knows JetStream's leader, and the leader has caught up with
    /// all of them.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for server in self.servers.iter_mut().filter(|server| server.pid().is_some()) {
            server.wait_until_ready()?;
            while !has_leader(server).unwrap_or(false) {
                ensure!(Instant::now() < deadline, "the NATS servers do not find a leader");
                thread::sleep(GLANCE);
            }
        }
        Ok(())
    }
}

fn plans(home: &Home, folder: &Path, options: NatsOptions) -> Result<Vec<Plan>> {
    let folders = NAMES.map(|name| folder.join(name));
    let ports = folders.iter().map(|folder| ports_of(folder)).collect::<Result<Vec<[u16; 3]>>>()?;
    let routes: Vec<u16> = ports.into_iter().map(|[_, _, route]| route).collect();
    let member = |name| Member { name, routes: &routes };
    NAMES.iter().zip(&folders).map(|(name, folder)| plan(home, folder, options, Some(&member(name)))).collect()
}

/// What `/jsz` says, as far as we ask.
#[derive(Deserialize)]
struct JetStream {
    meta_cluster: Option<MetaCluster>,
}

#[derive(Deserialize)]
struct MetaCluster {
    leader: Option<String>,
    cluster_size: usize,
}

/// Whether the server knows who leads all three.
fn has_leader(server: &Nats) -> Result<bool> {
    let [_, monitor, _] = ports_of(server.folder())?;
    let answer: JetStream = serde_json::from_str(&http::get(monitor, "/jsz")?.body)?;
    Ok(answer.meta_cluster.is_some_and(|meta| meta.leader.is_some() && meta.cluster_size == NAMES.len()))
}
