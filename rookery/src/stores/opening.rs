//! Opening the stores of a process that runs already. One that is away is tried again until it comes; one that is there and
//! not as it must be, such as one that was not migrated, ends the process.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use edge::Missing;
use futures_util::future::BoxFuture;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Stores;
use super::late::Late;
use crate::config::Config;
use crate::roles::Role;

/// The first pause between two attempts; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a start waits for the first attempts to end, so that all that is there is open before the first request.
const FIRST_ATTEMPTS: Duration = Duration::from_secs(15);

/// Opens, in the background, the stores that were away at first. Dropped, it gives up.
#[derive(Default)]
pub struct Openers {
    tasks: JoinSet<anyhow::Result<()>>,
    /// Each is cancelled after the first attempt at a store.
    tried: Vec<CancellationToken>,
    missing: Missing,
}

/// A store that is to be opened.
struct Way<S, E> {
    /// Its name at `/readyz`.
    name: &'static str,
    /// Its name for people.
    title: &'static str,
    /// Whether it is on a server. What is in this process opens at once or never.
    is_remote: bool,
    attempt: Box<dyn Fn() -> BoxFuture<'static, Result<S, E>> + Send + Sync>,
    /// Whether the store is away, and may come.
    is_away: fn(&E) -> bool,
}

/// Opens what these roles need, and says in `missing` what is still waited for. On return the log is there, and all else
/// that was not away; what was away is opened later.
///
/// # Errors
/// When a store is there and not as it must be.
pub async fn open_for(
    config: &Config,
    roles: &BTreeSet<Role>,
    (lock, missing): (File, &Missing),
) -> anyhow::Result<(Stores, Openers)> {
    let config = Arc::new(config.clone());
    let mut openers = Openers { missing: missing.clone(), ..Openers::default() };
    let (directory, history, analytics, blobs) = (Late::new(), Late::new(), Late::new(), Late::new());
    let is_needed = |by: Role| roles.contains(&Role::Edge) || roles.contains(&by);
    if is_needed(Role::Ingest) {
        openers.open(directory_on(&config), &directory);
        openers.open(history_on(&config), &history);
        openers.open(blobs_on(&config), &blobs);
    }
    if is_needed(Role::Analytics) {
        openers.open(analytics_on(&config), &analytics);
    }
    missing.add("log");
    let Openers { tasks, tried, .. } = &mut openers;
    let opening = async {
        let log = until_open(log_on(&config), &CancellationToken::new()).await?;
        missing.remove("log");
        let first_attempts = futures_util::future::join_all(tried.iter().map(CancellationToken::cancelled));
        if timeout(FIRST_ATTEMPTS, first_attempts).await.is_err() {
            tracing::warn!(missing = ?missing.list(), "the process begins without waiting any longer");
        }
        anyhow::Ok(log)
    };
    let log = tokio::select! {
        log = opening => log?,
        error = failure(tasks) => return Err(error),
    };
    let seams = edge::Seams { log, directory, history, analytics, blobs, metrics: None };
    Ok((Stores { seams, _lock: lock }, openers))
}

impl Openers {
    fn open<S, E>(&mut self, way: Way<Arc<S>, E>, store: &Arc<Late<S>>)
    where
        S: ?Sized + Send + Sync + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let (store, missing, tried) = (Arc::clone(store), self.missing.clone(), CancellationToken::new());
        self.tried.push(tried.clone());
        missing.add(way.name);
        self.tasks.spawn(async move {
            let name = way.name;
            store.is(until_open(way, &tried).await?);
            missing.remove(name);
            tried.cancel();
            Ok(())
        });
    }

    /// Resolves when a store turns out not to be as it must be; never, when all are.
    pub async fn failure(&mut self) -> anyhow::Error {
        failure(&mut self.tasks).await
    }
}

async fn failure(tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Error {
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(panic) => return anyhow!("what opens a store panicked: {panic}"),
        }
    }
    std::future::pending().await
}

/// Tries until the store is open, or cannot be opened at all.
async fn until_open<S, E>(way: Way<S, E>, tried: &CancellationToken) -> anyhow::Result<S>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let mut pause = FIRST_PAUSE;
    loop {
        match (way.attempt)().await {
            Err(error) if way.is_remote && (way.is_away)(&error) => {
                tracing::warn!(store = way.name, %error, ?pause, "a store is away; trying again");
            }
            opened => return opened.with_context(|| format!("{} does not open", way.title)),
        }
        tried.cancel();
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn log_on(config: &Arc<Config>) -> Way<Arc<dyn log::Log>, log::Error> {
    let config = Arc::clone(config);
    Way {
        name: "log",
        title: "the log",
        is_remote: !matches!(config.log, log::Config::Embedded { .. }),
        is_away: |error| matches!(error, log::Error::Unavailable(_)),
        attempt: Box::new(move || {
            let config = Arc::clone(&config);
            Box::pin(async move { log::open(&config.log, &config.data, config.edge.region.number).await })
        }),
    }
}

fn directory_on(config: &Arc<Config>) -> Way<Arc<dyn directory::Directory>, directory::Error> {
    let config = Arc::clone(config);
    Way {
        name: "directory",
        title: "the directory",
        is_remote: !matches!(config.directory, directory::Config::Sqlite { .. }),
        is_away: |error| matches!(error, directory::Error::Unavailable(_)),
        attempt: Box::new(move || {
            let config = Arc::clone(&config);
            Box::pin(async move { directory::open(&config.directory, &config.data).await })
        }),
    }
}

fn history_on(config: &Arc<Config>) -> Way<Arc<dyn history::History>, history::Error> {
    let config = Arc::clone(config);
    Way {
        name: "history",
        title: "history",
        is_remote: !matches!(config.history, history::Config::Embedded { .. }),
        is_away: |error| matches!(error, history::Error::Unavailable(_)),
        attempt: Box::new(move || {
            let config = Arc::clone(&config);
            Box::pin(async move { history::open(&config.history, &config.data).await })
        }),
    }
}

fn analytics_on(config: &Arc<Config>) -> Way<Arc<dyn analytics::Analytics>, analytics::Error> {
    let config = Arc::clone(config);
    Way {
        name: "analytics",
        title: "analytics",
        is_remote: !matches!(config.analytics, analytics::Config::Sqlite { .. }),
        is_away: |error| matches!(error, analytics::Error::Unavailable(_)),
        attempt: Box::new(move || {
            let config = Arc::clone(&config);
            Box::pin(async move { analytics::open(&config.analytics, &config.data).await })
        }),
    }
}

fn blobs_on(config: &Arc<Config>) -> Way<Arc<dyn blobs::Blobs>, blobs::Error> {
    let config = Arc::clone(config);
    Way {
        name: "blobs",
        title: "the blob store",
        is_remote: !matches!(config.blobs, blobs::Config::Folder { .. }),
        is_away: |error| matches!(error, blobs::Error::Unavailable(_)),
        attempt: Box::new(move || {
            let config = Arc::clone(&config);
            Box::pin(async move { blobs::open(&config.blobs, &config.data).await })
        }),
    }
}
