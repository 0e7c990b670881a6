//! Runs any set of roles until told to stop. The roles know nothing of each other: they meet through the seams
//! alone, in one process as in many.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use edge::Missing;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::operations::Operations;
use crate::stores::{self, Openers, Stores};
use crate::telemetry;

/// One of the jobs that a process can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Clients' connections.
    Edge,
    /// Log to history, and the directory service.
    Ingest,
    /// Log to counts.
    Analytics,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Edge, Self::Ingest, Self::Analytics];

    /// What the role is called, as on the command line.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Ingest => "ingest",
            Self::Analytics => "analytics",
        }
    }
}

/// How a process ended.
#[must_use]
pub struct Ended {
    /// What stopped it, if nobody told it to stop.
    pub outcome: anyhow::Result<()>,
    /// By when it was to be over: what is still to be done has so much time.
    pub deadline: Instant,
}

/// Runs the roles until SIGTERM or SIGINT, then ends them gracefully. A store that is away is waited for, with `/healthz`
/// and `/readyz` answered meanwhile.
///
/// The outcome is an error when a store is not as it must be, the address is taken, or a role fails for good.
pub async fn serve(config: Config, roles: BTreeSet<Role>) -> Ended {
    let patience = Duration::from_secs(config.shutdown_seconds.into());
    let shutdown = CancellationToken::new();
    match begin(config, roles, &shutdown).await {
        Ok(Some(begun)) => begun.run(shutdown).await,
        begun => Ended { outcome: begun.map(drop), deadline: Instant::now() + patience },
    }
}

/// A process whose stores are open as far as they were there.
struct Begun {
    running: Running,
    stores: Stores,
    openers: Openers,
}

/// Opens what the roles need; `None` when the process was told to stop meanwhile.
async fn begin(config: Config, roles: BTreeSet<Role>, shutdown: &CancellationToken) -> anyhow::Result<Option<Begun>> {
    stop_on_signals(shutdown.clone())?;
    let metrics = telemetry::record_metrics(shutdown.clone())?;
    let lock = stores::lock(&config.data)?;
    let missing = Missing::default();
    let operations = Operations::new(missing.clone(), metrics.clone());
    let mut listener = None;
    if roles.contains(&Role::Edge) {
        let bound = listen(config.edge.listen).await?;
        announce(&config, &bound);
        listener = Some(bound);
    } else if let Some(address) = config.operations.listen {
        let bound = listen(address).await?;
        announce_operations(&bound);
        tokio::spawn(operations.clone().serve(bound, shutdown.clone()));
    }
    let opening = stores::open_for(&config, &roles, (lock, &missing));
    let opening = async {
        match &listener {
            Some(listener) => edge::waiting::answer_while(listener, &missing, opening).await,
            None => opening.await,
        }
    };
    let (mut stores, openers) = tokio::select! {
        opened = opening => opened?,
        () = shutdown.cancelled() => return Ok(None),
    };
    stores.seams.metrics = Some(metrics);
    operations.stand_on(needed(&roles, &stores.seams));
    let running = Running { config, roles, seams: stores.seams.clone(), listener };
    Ok(Some(Begun { running, stores, openers }))
}

impl Begun {
    async fn run(self, shutdown: CancellationToken) -> Ended {
        let Self { running, stores, mut openers } = self;
        let running = run_and_end(running, shutdown.clone());
        let mut running = std::pin::pin!(running);
        let Ended { outcome, deadline } = tokio::select! {
            ended = running.as_mut() => ended,
            error = openers.failure() => {
                shutdown.cancel();
                Ended { outcome: Err(error), ..running.await }
            }
        };
        if timeout_at(deadline, stores.seams.log.close()).await.is_err() {
            tracing::warn!("the log was not closed in time");
        }
        Ended { outcome, deadline }
    }
}

fn stop_on_signals(shutdown: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop");
        shutdown.cancel();
    });
    Ok(())
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// The stores that a process without an edge is asked about.
fn needed(roles: &BTreeSet<Role>, seams: &edge::Seams) -> edge::readiness::Stores {
    let mut stores = edge::readiness::Stores::from(seams);
    if !roles.contains(&Role::Ingest) {
        (stores.directory, stores.history, stores.blobs) = (None, None, None);
    }
    if !roles.contains(&Role::Analytics) {
        stores.analytics = None;
    }
    stores
}

#[expect(clippy::print_stdout, reason = "a newcomer looks here for where to go next")]
fn announce(config: &Config, listener: &TcpListener) {
    let Ok(address) = listener.local_addr() else { return };
    println!("Rookery listens on http://{address}");
    println!("  the page      http://{address}/");
    println!("  the API       http://{address}/docs");
    println!("  the data      {}", config.data.display());
}

#[expect(clippy::print_stdout, reason = "who asked for a free port is told which one it is")]
fn announce_operations(listener: &TcpListener) {
    let Ok(address) = listener.local_addr() else { return };
    println!("operations are answered on http://{address}: /healthz /readyz /metrics");
}

/// A set of roles, ready to run.
pub struct Running {
    /// The configuration of all of them.
    pub config: Config,
    /// Which.
    pub roles: BTreeSet<Role>,
    /// What they meet through.
    pub seams: edge::Seams,
    /// Where clients connect; an edge needs one.
    pub listener: Option<TcpListener>,
}

/// Runs roles until `shutdown`, or until one fails. The end is in order: the edge stops its intake and says
/// goodbye to its clients, then the workers finish the batch in hand. The stores stay open.
///
/// # Errors
/// The first failure of a role.
pub async fn run(running: Running, shutdown: CancellationToken) -> anyhow::Result<()> {
    run_and_end(running, shutdown).await.outcome
}

async fn run_and_end(running: Running, shutdown: CancellationToken) -> Ended {
    let patience = Duration::from_secs(running.config.shutdown_seconds.into());
    let mut tasks = Tasks::start(running, patience);
    let failed = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        ended = next_end(&mut tasks.edges) => ended,
        ended = next_end(&mut tasks.workers) => ended,
    };
    let deadline = Instant::now() + patience;
    let ended = tasks.end(deadline - patience / STORES_PART).await;
    Ended { outcome: failed.and(ended), deadline }
}

/// The time to end is one for all: clients have two thirds of it at most, the roles together all but a fifth, and what is
/// left then is the log's, and the last traces'.
const STORES_PART: u32 = 5;

/// Roles that run.
struct Tasks {
    edges: JoinSet<anyhow::Result<()>>,
    workers: JoinSet<anyhow::Result<()>>,
    /// Ends the edges.
    front: CancellationToken,
    /// Ends the workers.
    back: CancellationToken,
}

impl Tasks {
    /// Starts them. They have `patience` to end.
    fn start(running: Running, patience: Duration) -> Self {
        let Running { mut config, roles, seams, listener } = running;
        let (front, back) = (CancellationToken::new(), CancellationToken::new());
        let (mut edges, mut workers) = (JoinSet::new(), JoinSet::new());
        if roles.contains(&Role::Ingest) {
            let ingest = ingest::Seams {
                log: seams.log.clone(),
                history: seams.history.clone(),
                directory: seams.directory.clone(),
                blobs: seams.blobs.clone(),
            };
            let ingest = ingest::run(config.ingest, ingest, back.clone());
            workers.spawn(async move { ingest.await.context("ingest failed") });
        }
        if roles.contains(&Role::Analytics) {
            let worker = analytics::worker::run(seams.log.clone(), seams.analytics.clone(), back.clone());
            workers.spawn(async move { worker.await.context("analytics failed") });
        }
        if let Some(listener) = listener.filter(|_| roles.contains(&Role::Edge)) {
            config.edge.shutdown_seconds = config.edge.shutdown_seconds.min((patience * 2 / 3).as_secs());
            let edge = edge::run(config.edge, seams, config.data, listener, front.clone());
            edges.spawn(async move { edge.await.context("the edge failed") });
        }
        Self { edges, workers, front, back }
    }

    /// Ends the edges and then the workers; whoever is not done by the deadline is cut off.
    async fn end(mut self, deadline: Instant) -> anyhow::Result<()> {
        self.front.cancel();
        let edges_ended = join(&mut self.edges, deadline).await;
        self.back.cancel();
        let workers_ended = join(&mut self.workers, deadline).await;
        edges_ended.and(workers_ended)
    }
}

/// The first of the tasks to end; never, when there are none.
async fn next_end(tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    match tasks.join_next().await {
        Some(ended) => ended.context("a role panicked")?.and_then(|()| anyhow::bail!("a role ended by itself")),
        None => std::future::pending().await,
    }
}

async fn join(tasks: &mut JoinSet<anyhow::Result<()>>, deadline: Instant) -> anyhow::Result<()> {
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            ended.context("a role panicked")??;
        }
        Ok(())
    };
    timeout_at(deadline, all).await.unwrap_or_else(|_| {
        tracing::warn!("a role did not end in time and is cut off");
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn roles_that_do_not_end_are_cut_off_at_one_deadline() {
        let stuck = || {
            let mut tasks = JoinSet::new();
            tasks.spawn(std::future::pending());
            tasks
        };
        let (front, back) = (CancellationToken::new(), CancellationToken::new());
        let tasks = Tasks { edges: stuck(), workers: stuck(), front: front.clone(), back: back.clone() };
        let deadline = Instant::now() + Duration::from_secs(15);
        tasks.end(deadline).await.unwrap();
        assert!(front.is_cancelled() && back.is_cancelled());
        assert!(Instant::now() < deadline + Duration::from_secs(1), "{:?}", deadline.elapsed());
    }
}
