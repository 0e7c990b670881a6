//! The edge: clients' REST and WebSocket connections end here. It holds no state that matters: it checks the
//! token, checks membership, appends to the log, and answers when the log has stored.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | what an operator may set |
//! | `error` | every failure that a client may see |
//! | `router`, `openapi` | all routes with what surrounds them, and their description |
//! | `resources` | REST, one file per resource |
//! | `aliases` | other paths to the same, one file per dialect |
//! | `timeline`, `posting` | reading and writing messages |
//! | `live`, `ws`, `hub`, `frame` | WebSocket, long-poll, resume, fan-out |
//! | `socketio` | the same for clients that speak Socket.IO |
//! | `attachments` | files: looked at on their way to the blob store, opened to conversations |
//! | `presence` | who may see whether somebody is there |
//! | `auth`, `membership`, `limits` | who may, and how often |
//! | `commands` | writes to the directory |
//! | [`readiness`] | whether the stores answer |
//! | [`waiting`] | what is answered before the edge can serve |
//! | `operations`, `page` | health, metrics, documents, the built-in page |
//! | `server` | connections |

mod aliases;
mod attachments;
mod auth;
mod commands;
pub mod config;
mod cursor;
mod error;
mod extract;
mod frame;
mod hub;
mod limits;
mod live;
mod membership;
mod observe;
mod openapi;
mod operations;
mod page;
mod posting;
mod presence;
pub mod readiness;
mod resources;
mod router;
mod server;
mod socketio;
mod timeline;
mod validate;
pub mod waiting;
mod ws;

#[cfg(test)]
mod doubles;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::analytics::Analytics;
use ::log::Log;
use blobs::Blobs;
use directory::Directory;
use history::History;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use error::ApiError;
pub use readiness::Readiness;
pub use waiting::Missing;

/// What the edge stands on.
#[derive(Clone)]
pub struct Seams {
    /// Where events go, and where live ones come from.
    pub log: Arc<dyn Log>,
    /// Users, groups, members, sessions.
    pub directory: Arc<dyn Directory>,
    /// Every event, read marks.
    pub history: Arc<dyn History>,
    /// Counts.
    pub analytics: Arc<dyn Analytics>,
    /// The bytes of attachments.
    pub blobs: Arc<dyn Blobs>,
    /// Shown at `/metrics`; without it there is nothing there.
    pub metrics: Option<PrometheusHandle>,
}

/// Why an edge does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration makes no sense.
    #[error("the configuration makes no sense: {0}")]
    Config(String),
    /// The key that signs access tokens can be neither read nor made.
    #[error("the signing key {} cannot be used: {reason}", path.display())]
    SigningKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A store cannot be reached.
    #[error("the edge cannot start: {reason}")]
    Unavailable {
        /// Which: `log` or `directory`.
        store: &'static str,
        /// What it says.
        reason: String,
    },
}

/// What handlers share.
pub(crate) struct Edge {
    pub(crate) config: Config,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) history: Arc<dyn History>,
    pub(crate) analytics: Arc<dyn Analytics>,
    pub(crate) metrics: Option<PrometheusHandle>,
    pub(crate) tokens: Arc<auth::Tokens>,
    pub(crate) passwords: auth::Passwords,
    pub(crate) commands: Arc<commands::Commands>,
    pub(crate) membership: Arc<membership::Membership>,
    pub(crate) limits: Arc<limits::Limits>,
    pub(crate) timeline: Arc<timeline::Timeline>,
    pub(crate) posting: Arc<posting::Posting>,
    pub(crate) attachments: Arc<attachments::Attachments>,
    pub(crate) live: Arc<live::Live>,
    pub(crate) readiness: Readiness,
    /// Cancelled when the edge is to end: it takes nothing new.
    pub(crate) shutdown: CancellationToken,
}

/// The first pause after an attempt to start that failed; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between two attempts to start.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Serves until `shutdown` is cancelled; then takes no more connections, tells its clients where to resume, answers
/// what is under way, and cuts what is not done by the deadline. Relative paths are below `data_dir`.
///
/// It cannot serve before the directory has said which sessions were revoked; until then it tries again, and says at
/// `/readyz` what it waits for.
///
/// # Errors
/// When it can never start. Once it serves, failures are answered to whom they concern.
pub async fn run(
    config: Config,
    seams: Seams,
    data_dir: PathBuf,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let missing = Missing::default();
    let opening = Edge::open_in_time(config, seams, &data_dir, (&missing, &shutdown));
    let edge = tokio::select! {
        opened = waiting::answer_while(&listener, &missing, opening) => opened?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let tending = tokio::spawn(Arc::clone(&edge.limits).tend(shutdown));
    server::serve(router::router(Arc::clone(&edge))?, &edge, listener).await;
    tending.abort();
    Ok(())
}

/// The description of the whole REST API: OpenAPI 3.1.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    openapi::describe(router::routes().into_openapi())
}

impl Edge {
    /// Opens it, as soon as the stores that it needs for that answer.
    async fn open_in_time(
        config: Config,
        seams: Seams,
        data_dir: &Path,
        (missing, shutdown): (&Missing, &CancellationToken),
    ) -> Result<Arc<Self>, Error> {
        let mut pause = FIRST_PAUSE;
        loop {
            match Self::open(config.clone(), seams.clone(), data_dir, shutdown.clone()).await {
                Err(Error::Unavailable { store, reason }) => {
                    tracing::warn!(store, reason, ?pause, "the edge cannot start yet; trying again");
                    missing.add(store);
                }
                opened => return opened,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn open(
        config: Config,
        seams: Seams,
        data_dir: &Path,
        shutdown: CancellationToken,
    ) -> Result<Arc<Self>, Error> {
        let readiness = Readiness::new(readiness::Stores::from(&seams));
        let Seams { log, directory, history, analytics, blobs, metrics } = seams;
        let key = auth::SigningKey::open(&data_dir.join(&config.auth.signing_key))?;
        let tokens = Arc::new(auth::Tokens::new(&config.auth, key));
        let membership = Arc::new(membership::Membership::new(Arc::clone(&directory)));
        let limits = Arc::new(limits::Limits::new(&config.limits));
        let timeline = Arc::new(timeline::Timeline::new(Arc::clone(&log), Arc::clone(&history)));
        let commands = Arc::new(commands::Commands::new(
            Arc::clone(&log),
            Arc::clone(&directory),
            Arc::clone(&membership),
            Arc::clone(&tokens),
        ));
        let stores = attachments::Stores {
            blobs,
            directory: Arc::clone(&directory),
            commands: Arc::clone(&commands),
            membership: Arc::clone(&membership),
        };
        let attachments = attachments::Attachments::new(&config.attachments, config.region.number, stores);
        let attachments = Arc::new(attachments);
        let stores = posting::Stores {
            log: Arc::clone(&log),
            history: Arc::clone(&history),
            directory: Arc::clone(&directory),
            membership: Arc::clone(&membership),
            timeline: Arc::clone(&timeline),
            attachments: Arc::clone(&attachments),
        };
        let posting = Arc::new(posting::Posting::new(stores, config.limits.text_characters));
        let parts = live::Parts {
            log,
            directory: Arc::clone(&directory),
            history: Arc::clone(&history),
            tokens: Arc::clone(&tokens),
            membership: Arc::clone(&membership),
            rates: Arc::clone(&limits),
            timeline: Arc::clone(&timeline),
            posting: Arc::clone(&posting),
            limits: live::LiveLimits::of(&config.limits),
        };
        let live = live::Live::start(parts).await?;
        Ok(Arc::new(Self {
            passwords: auth::Passwords::new(&config.auth.password)?,
            commands,
            config,
            directory,
            history,
            analytics,
            metrics,
            tokens,
            membership,
            limits,
            timeline,
            posting,
            attachments,
            live,
            readiness,
            shutdown,
        }))
    }
}
