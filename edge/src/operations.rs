//! What operators and programs ask of an edge: is it alive, is it ready, how does it do, and how is it to be used.

use std::sync::{Arc, LazyLock};

use axum::Json as Answer;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, header};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::FieldError;
use crate::page::{self, Asset};
use crate::readiness::Answering;
use crate::{ApiError, Edge};

pub(crate) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default()
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(metrics))
        .routes(routes!(jwks))
        .routes(routes!(openapi_json))
        .routes(routes!(asyncapi_json))
        .routes(routes!(docs))
        .route("/docs/docs.css", axum::routing::get(docs_css))
        .route("/docs/docs.js", axum::routing::get(docs_js))
}

/// The process is alive.
#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// Whether the process is alive. It checks nothing else: restart the process when this fails.
#[utoipa::path(get, path = "/healthz", tag = "operations", operation_id = "healthz",
    responses((status = 200, body = Health)))]
pub(crate) async fn healthz() -> Answer<Health> {
    Answer(Health { status: "ok" })
}

/// The state of this edge's stores.
#[derive(Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ready`.
    #[schema(example = "ready")]
    status: &'static str,
    /// Which stores answer.
    stores: Answering,
}

/// Whether this edge can serve: it is not shutting down, and the log answers. All edges share the other stores, so one
/// of those that is down must not take every edge away from users who can still chat.
#[utoipa::path(get, path = "/readyz", tag = "operations", operation_id = "readyz",
    responses((status = 200, body = Readiness)))]
async fn readyz(State(edge): State<Arc<Edge>>) -> Result<Answer<Readiness>, ApiError> {
    if edge.shutdown.is_cancelled() || !edge.live.is_open() {
        return Err(ApiError::not_ready(vec![missing("edge", "it is shutting down")]));
    }
    let stores = edge.readiness.ask().await;
    if !stores.is_ready() {
        return Err(ApiError::not_ready(stores.missing().map(|name| missing(name, "it does not answer")).collect()));
    }
    Ok(Answer(Readiness { status: "ready", stores }))
}

pub(crate) fn missing(name: &str, detail: &str) -> FieldError {
    FieldError { pointer: name.to_owned(), detail: detail.to_owned() }
}

/// The process's metrics, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operations", operation_id = "metrics",
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = 404, description = "The process keeps no metrics")))]
async fn metrics(State(edge): State<Arc<Edge>>) -> Result<Response, ApiError> {
    let handle = edge.metrics.as_ref().ok_or_else(ApiError::not_found)?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handle.render()).into_response())
}

/// The public key for verifying access tokens, as a JSON Web Key Set (RFC 7517).
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "operations", operation_id = "jwks",
    responses((status = 200, body = serde_json::Value)))]
async fn jwks(State(edge): State<Arc<Edge>>) -> Response {
    ([(header::CACHE_CONTROL, "public, max-age=300")], Answer(edge.tokens.jwks())).into_response()
}

static OPENAPI: LazyLock<Asset> = LazyLock::new(|| {
    let json = crate::openapi().to_pretty_json();
    let json = json.unwrap_or_else(|error| unreachable!("the description has JSON: {error}"));
    Asset::new("application/json", Bytes::from(json))
});

/// The description of REST: OpenAPI 3.1.
#[utoipa::path(get, path = "/openapi.json", tag = "operations", operation_id = "openapi",
    responses((status = 200, body = serde_json::Value)))]
async fn openapi_json(headers: HeaderMap) -> Response {
    OPENAPI.answer(&headers)
}

/// The description of the WebSocket's frames: AsyncAPI 3.0.
#[utoipa::path(get, path = "/asyncapi.json", tag = "operations", operation_id = "asyncapi",
    responses((status = 200, body = serde_json::Value)))]
async fn asyncapi_json(headers: HeaderMap) -> Response {
    page::ASYNCAPI.answer(&headers)
}

/// The API's documentation, to read and try out in a browser.
#[utoipa::path(get, path = "/docs", tag = "operations", operation_id = "docs",
    responses((status = 200, body = String, content_type = "text/html")))]
async fn docs(headers: HeaderMap) -> Response {
    page::DOCS.answer(&headers)
}

async fn docs_css(headers: HeaderMap) -> Response {
    page::DOCS_CSS.answer(&headers)
}

async fn docs_js(headers: HeaderMap) -> Response {
    page::DOCS_JS.answer(&headers)
}
