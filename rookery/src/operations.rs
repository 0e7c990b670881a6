//! What operators ask of a process without an edge: is it alive, is it ready, how does it do. An edge answers the
//! same paths at its own address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use log::Log;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long the log may take to answer whether it is there.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where a process without an edge answers operators.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address of `/healthz`, `/readyz` and `/metrics`; none when missing.
    pub listen: Option<SocketAddr>,
}

#[derive(Clone)]
struct Answers {
    log: Arc<dyn Log>,
    metrics: PrometheusHandle,
}

/// Answers until `shutdown`.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    log: Arc<dyn Log>,
    metrics: PrometheusHandle,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state(Answers { log, metrics });
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

async fn readyz(State(answers): State<Answers>) -> impl IntoResponse {
    match tokio::time::timeout(PATIENCE, answers.log.heads(&[])).await {
        Ok(Ok(_)) => (StatusCode::OK, "ready\n"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the log does not answer\n"),
    }
}

async fn render(State(answers): State<Answers>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], answers.metrics.render())
}
