//! What operators ask of a process without an edge: is it alive, is it ready, how does it do. An edge answers the
//! same paths at its own address.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use edge::Missing;
use edge::readiness::{Readiness, Stores};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Where a process without an edge answers operators.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address of `/healthz`, `/readyz` and `/metrics`; none when missing.
    pub listen: Option<SocketAddr>,
}

/// What operators are told.
#[derive(Clone)]
pub struct Operations {
    /// The stores that are waited for at the start.
    missing: Missing,
    /// Set once the process works.
    readiness: Arc<OnceLock<Readiness>>,
    metrics: PrometheusHandle,
}

impl Operations {
    /// Not ready for want of what is `missing`.
    #[must_use]
    pub fn new(missing: Missing, metrics: PrometheusHandle) -> Self {
        Self { missing, readiness: Arc::default(), metrics }
    }

    /// From now on the process is ready as long as the log answers.
    pub fn stand_on(&self, stores: Stores) {
        // A process begins once.
        drop(self.readiness.set(Readiness::new(stores)));
    }

    /// Answers until `shutdown`.
    ///
    /// # Errors
    /// When the listener breaks.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> std::io::Result<()> {
        let router = Router::new()
            .route("/healthz", get(|| async { Json(json!({"status": "ok"})) }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(render))
            .with_state(self);
        axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
    }
}

async fn readyz(State(operations): State<Operations>) -> impl IntoResponse {
    let Some(readiness) = operations.readiness.get() else {
        let answer = json!({"status": "not_ready", "missing": operations.missing.list()});
        return (StatusCode::SERVICE_UNAVAILABLE, Json(answer));
    };
    let stores = readiness.ask().await;
    let (status, text) =
        if stores.is_ready() { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not_ready") };
    (status, Json(json!({"status": text, "stores": stores})))
}

async fn render(State(operations): State<Operations>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], operations.metrics.render())
}
