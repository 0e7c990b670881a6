//! All routes, and what surrounds them: every request is named, timed and logged; every answer, a refusal too, is in
//! the API's form; a panic is one request's failure.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa_axum::router::OpenApiRouter;

use crate::extract::{ClientAddress, bearer};
use crate::{ApiError, Edge, Error, aliases, live, observe, operations, page, resources, socketio};

/// How long a browser may remember what other origins may do.
const CORS_MAX_AGE: Duration = Duration::from_secs(60 * 60);

/// What balancers and supervisors ask.
const PROBES: [&str; 2] = ["/healthz", "/readyz"];

/// All routes with their description.
pub(crate) fn routes() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default()
        .merge(resources::router())
        .merge(live::router())
        .merge(aliases::router())
        .merge(operations::router())
}

/// The whole application.
pub(crate) fn router(edge: Arc<Edge>) -> Result<Router, Error> {
    let (routes, _) = routes().split_for_parts();
    let router =
        routes.merge(page::router()).fallback(async || ApiError::not_found()).method_not_allowed_fallback(not_allowed);
    let router = socketio::layer(router, &edge).layer(middleware::from_fn_with_state(Arc::clone(&edge), admit));
    let cors = cors(&edge.config.cors.allowed_origins)?;
    let router = guarded(router);
    let router = match cors {
        Some(cors) => router.layer(cors),
        None => router,
    };
    Ok(router.layer(middleware::from_fn(observe::observe)).with_state(edge))
}

/// Routes with what surrounds them, but for what an edge alone has.
pub(crate) fn surround<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    guarded(routes).layer(middleware::from_fn(observe::observe))
}

fn guarded<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    routes.layer(middleware::map_response(guard)).layer(CatchPanicLayer::custom(panicked))
}

/// Counts the request: a signed-in user's by the user, others by their address. Probes are not counted: many may come from
/// one address, and one that is refused takes the edge away from its users.
async fn admit(State(edge): State<Arc<Edge>>, mut request: Request, next: Next) -> Result<Response, ApiError> {
    if PROBES.contains(&request.uri().path()) {
        return Ok(next.run(request).await);
    }
    let caller = bearer(request.headers()).and_then(|token| edge.tokens.verify(token).ok());
    let (mut parts, body) = request.into_parts();
    match caller {
        Some(caller) => {
            edge.limits.check_user(caller.user)?;
            parts.extensions.insert(caller);
        }
        None => edge.limits.check_address(ClientAddress::of(&parts, edge.config.limits.trusted_proxies).0)?,
    }
    request = Request::from_parts(parts, body);
    Ok(next.run(request).await)
}

/// `OPTIONS` is answered with the methods that there are (axum adds `Allow`), any other method is refused.
async fn not_allowed(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    ApiError::method_not_allowed().into_response()
}

/// What browsers are told of every answer. Answers of the API are nobody's to keep.
async fn guard(mut response: Response) -> Response {
    const NOSNIFF: (HeaderName, HeaderValue) = (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    const NO_REFERRER: (HeaderName, HeaderValue) = (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let headers = response.headers_mut();
    for (name, value) in [NOSNIFF, NO_REFERRER] {
        headers.insert(name, value);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn panicked(panic: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = said.unwrap_or("not a text"), "a handler panicked");
    ApiError::internal().into_response()
}

fn cors(origins: &[String]) -> Result<Option<CorsLayer>, Error> {
    if origins.is_empty() {
        return Ok(None);
    }
    let origins: Vec<HeaderValue> = origins.iter().map(|text| origin(text)).collect::<Result<_, _>>()?;
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::RANGE, header::IF_RANGE])
        .expose_headers([
            header::RETRY_AFTER,
            header::ETAG,
            header::CONTENT_RANGE,
            header::CONTENT_DISPOSITION,
            observe::REQUEST_ID,
        ])
        .max_age(CORS_MAX_AGE);
    Ok(Some(layer))
}

/// An origin as browsers write it: what is written in another way would never match.
fn origin(text: &str) -> Result<HeaderValue, Error> {
    let uri: Option<Uri> = text.parse().ok();
    let as_browsers_do = uri.as_ref().and_then(|uri| {
        let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
        let port = uri.port_u16().filter(|port| (scheme, *port) != ("http", 80) && (scheme, *port) != ("https", 443));
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        Some(format!("{scheme}://{}{port}", authority.host().to_ascii_lowercase()))
    });
    let is_one = as_browsers_do.is_some_and(|origin| origin == text);
    let value = is_one.then(|| HeaderValue::from_str(text).ok()).flatten();
    value.ok_or_else(|| {
        let why = "is no origin: it is a scheme, a host and, unless it is the usual one, a port, such as";
        Error::Config(format!("cors.allowed_origins: {text:?} {why} \"https://chat.example.org\""))
    })
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_one_requests_failure_and_tells_nothing() {
        async fn fail() -> &'static str {
            panic!("a secret")
        }
        let router = Router::new().route("/", get(fail)).layer(CatchPanicLayer::custom(panicked));
        let response = router.oneshot(Request::new(axum::body::Body::empty())).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(!String::from_utf8_lossy(&body).contains("secret"));
    }

    #[test]
    fn an_origin_that_is_none_is_told_at_the_start() {
        let odd = [
            "*",
            "null",
            "chat.example.org",
            "https://",
            "https://chat.example.org\n",
            "https://chat.example.org/",
            "https://chat.example.org/a",
            "https://chat.example.org?a",
            "https://Chat.example.org",
            "https://ada@chat.example.org",
            "https://chat.example.org:443",
            "http://chat.example.org:80",
        ];
        for origin in odd {
            assert!(matches!(cors(&[origin.into()]), Err(Error::Config(_))), "{origin}");
        }
        for origin in ["https://chat.example.org", "http://localhost:3000", "http://[::1]:8080", "https://a:80"] {
            assert!(cors(&[origin.into()]).unwrap().is_some(), "{origin}");
        }
        assert!(cors(&[]).unwrap().is_none());
    }
}
