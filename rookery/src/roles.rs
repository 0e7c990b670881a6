//! Runs any set of roles until told to stop. The roles know nothing of each other: they meet through the seams
//! alone, in one process as in many.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::{operations, stores, telemetry};

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

/// Runs the roles until SIGTERM or SIGINT, then ends them gracefully.
///
/// # Errors
/// When a store does not open, the address is taken, or a role fails for good.
pub async fn serve(config: Config, roles: BTreeSet<Role>) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let on_signal = shutdown.clone();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop");
        on_signal.cancel();
    });
    let metrics = telemetry::record_metrics(shutdown.clone())?;
    let mut stores = stores::open(&config).await?;
    stores.seams.metrics = Some(metrics.clone());
    let listener = if roles.contains(&Role::Edge) {
        let listener = TcpListener::bind(config.edge.listen).await;
        Some(listener.with_context(|| format!("cannot listen on {}", config.edge.listen))?)
    } else {
        None
    };
    match (&listener, config.operations.listen) {
        (Some(listener), _) => announce(&config, listener),
        (None, Some(address)) => {
            let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
            announce_operations(&listener);
            tokio::spawn(operations::serve(listener, stores.seams.log.clone(), metrics, shutdown.clone()));
        }
        (None, None) => {}
    }
    let running = Running { config, roles, seams: stores.seams.clone(), listener };
    let ended = run(running, shutdown).await;
    stores.seams.log.close().await;
    ended
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
    let Running { config, roles, seams, listener } = running;
    let deadline = Duration::from_secs(config.shutdown_seconds.into());
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
        let edge = edge::run(config.edge, seams, config.data, listener, front.clone());
        edges.spawn(async move { edge.await.context("the edge failed") });
    }
    let failed = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        ended = next_end(&mut edges) => ended,
        ended = next_end(&mut workers) => ended,
    };
    front.cancel();
    let edges_ended = join(&mut edges, deadline).await;
    back.cancel();
    let workers_ended = join(&mut workers, deadline).await;
    failed.and(edges_ended).and(workers_ended)
}

/// The first of the tasks to end; never, when there are none.
async fn next_end(tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    match tasks.join_next().await {
        Some(ended) => ended.context("a role panicked")?.and_then(|()| anyhow::bail!("a role ended by itself")),
        None => std::future::pending().await,
    }
}

async fn join(tasks: &mut JoinSet<anyhow::Result<()>>, deadline: Duration) -> anyhow::Result<()> {
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            ended.context("a role panicked")??;
        }
        Ok(())
    };
    tokio::time::timeout(deadline, all).await.unwrap_or_else(|_| {
        tracing::warn!(deadline_seconds = deadline.as_secs(), "a role did not end in time and is cut off");
        Ok(())
    })
}
