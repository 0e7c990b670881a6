//! Before an edge can serve: it lives, says what it waits for, and refuses everything else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::operations::{healthz, missing};
use crate::server::{Intake, UNREAD};
use crate::{ApiError, router};

/// Connections that are taken at once meanwhile.
const CONNECTIONS: usize = 1_024;
/// How long the head of a request may take to arrive meanwhile.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The stores that a process waits for, by name. Copies are of one list.
#[derive(Clone, Debug, Default)]
pub struct Missing(Arc<Mutex<BTreeSet<&'static str>>>);

impl Missing {
    /// Notes that a store is waited for.
    pub fn add(&self, store: &'static str) {
        self.0.lock().insert(store);
    }

    /// Notes that a store is there.
    pub fn remove(&self, store: &'static str) {
        self.0.lock().remove(store);
    }

    /// Their names, in order.
    #[must_use]
    pub fn list(&self) -> Vec<&'static str> {
        self.0.lock().iter().copied().collect()
    }
}

/// Answers at `listener` until `opening` is done: alive, not ready for want of what is `missing`.
pub async fn answer_while<T>(listener: &TcpListener, missing: &Missing, opening: impl Future<Output = T>) -> T {
    let refused = async |State(missing): State<Missing>| refuse(&missing);
    let routes = Router::new().route("/healthz", get(healthz)).route("/readyz", get(refused)).fallback(refused);
    let router = router::surround(routes).with_state(missing.clone());
    let intake = Intake { router, head_timeout: HEAD_TIMEOUT, unread_timeout: UNREAD, connections: CONNECTIONS };
    // Whoever is still being answered is let finish.
    let (opened, _) = intake.serve_until(listener, opening).await;
    opened
}

fn refuse(waited_for: &Missing) -> ApiError {
    ApiError::not_ready(waited_for.list().into_iter().map(|name| missing(name, "it is waited for")).collect())
}
