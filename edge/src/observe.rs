//! Every request has a name, is timed, counted, and told of in one line. Never its body, its token or its query.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use log::trace;
use tracing::{Instrument, Span, field};
use types::{EventId, Region, TraceContext};

/// Names a request, for those who look for it in the log. A client may choose the name.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where the caller stands in a trace, as W3C Trace Context says it.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Routes without spans; `none` is what no route matches.
const UNTRACED: [&str; 4] = ["none", "/healthz", "/readyz", "/metrics"];
/// The longest name that a client may give, in bytes.
const MAX_ID_BYTES: usize = 64;

/// Wraps every request.
pub(crate) async fn observe(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let method = method_name(request.method());
    // The route and not the path: so there are few, and they hold no ids.
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    // Of the gravest level, for a span is made only where lines of its level are, and every line needs its fields.
    let span = tracing::error_span!("request", method, route, id = id.to_str().unwrap_or_default());
    let traced = trace_of(method, &route, request.headers());
    let mut response = next.run(request).instrument(span.clone()).instrument(traced.clone()).await;

    let elapsed = started.elapsed();
    let status = response.status();
    traced.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        trace::fail(&traced);
    }
    let labels = [("method", method.to_owned()), ("route", route), ("status", status.as_str().to_owned())];
    metrics::counter!("rookery_http_requests_total", &labels).increment(1);
    metrics::histogram!("rookery_http_request_seconds", &labels[..2]).record(elapsed.as_secs_f64());
    span.in_scope(|| {
        let milliseconds = elapsed.as_secs_f64() * 1_000.0;
        if status.is_server_error() {
            tracing::warn!(status = status.as_u16(), milliseconds, "answered");
        } else {
            tracing::debug!(status = status.as_u16(), milliseconds, "answered");
        }
    });
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The request's part of a trace, below the caller's span if it names one. What is asked for all the time, by machines, has
/// none.
fn trace_of(method: &'static str, route: &str, headers: &HeaderMap) -> Span {
    if UNTRACED.contains(&route) {
        return Span::none();
    }
    let span = log::trace_span!(
        "request",
        otel.kind = "server",
        otel.name = field::Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = field::Empty
    );
    if span.is_disabled() {
        return span;
    }
    span.record("otel.name", format!("{method} {route}"));
    let parent = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
    if let Some(parent) = parent.and_then(|text| text.parse::<TraceContext>().ok()) {
        trace::follow(&span, parent);
    }
    span
}

/// Methods as labels: a client may invent others.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_plain =
        |text: &str| !text.is_empty() && text.len() <= MAX_ID_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic());
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|text| is_plain(text));
    let made = || EventId::generate(Region::default()).to_string();
    let id = given.map_or_else(made, str::to_owned);
    // A copy of the text: a kept header holds on to the buffer that the request was read into.
    HeaderValue::try_from(id).unwrap_or_else(|error| unreachable!("it is plain ASCII: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use http::StatusCode;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_failure_is_told_of_with_its_route_and_its_name_at_the_default_level() {
        for level in ["info", "warn"] {
            let lines = tempfile::NamedTempFile::new().unwrap();
            let writer = Arc::new(lines.reopen().unwrap());
            let log = tracing_subscriber::fmt().with_env_filter(level).with_ansi(false).with_writer(writer);
            let _guard = tracing::subscriber::set_default(log.finish());
            let fail = async || StatusCode::SERVICE_UNAVAILABLE;
            let router = Router::new().route("/rooms/{room}", get(fail)).layer(from_fn(observe));
            let request =
                Request::get("/rooms/7?a=secret").header(REQUEST_ID, "the-tenth").body(Body::empty()).unwrap();
            router.oneshot(request).await.unwrap();
            let said = std::fs::read_to_string(lines.path()).unwrap();
            let line = said.lines().find(|line| line.contains("answered")).unwrap_or_default();
            let parts = ["WARN", "GET", "/rooms/{room}", "the-tenth", "503"];
            assert!(parts.iter().all(|part| line.contains(part)), "{said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
