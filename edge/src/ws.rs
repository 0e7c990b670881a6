//! `GET /v1/ws`: the WebSocket.
//!
//! The handshake is done here and not by the framework, for one reason: its socket keeps a buffer of many kilobytes
//! for each connection, idle or not. Ours keeps none: see [`decode`] and [`socket`].

mod decode;
pub(crate) mod job;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod rewind;
mod socket;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tungstenite::handshake::derive_accept_key;

use crate::auth::Caller;
use crate::hub::{Listening, Presence};
use crate::live::Live;
use crate::{ApiError, Edge};
use socket::Socket;

/// The sub-protocol that we speak.
const PROTOCOL: &str = "rookery.v1";
/// Before a token that a browser sends among the sub-protocols.
const BEARER: &str = "bearer.";

/// Opens the WebSocket.
///
/// The token comes in `Authorization` or, from a browser, among the sub-protocols `rookery.v1, bearer.<token>`.
/// `/asyncapi.json` describes the frames.
#[utoipa::path(get, path = "/v1/ws", tag = "live", operation_id = "connect",
    responses(
        (status = 101, description = "From here on the connection is a WebSocket"),
        (status = 400, description = "The request is not a WebSocket handshake"),
    ))]
pub(crate) async fn connect(State(edge): State<Arc<Edge>>, mut request: Request) -> Response {
    match accept(&edge.live, &mut request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn accept(live: &Arc<Live>, request: &mut Request) -> Result<Response, ApiError> {
    let caller = match request.extensions_mut().remove::<Caller>() {
        Some(caller) => caller,
        None => live.tokens.verify(token(request.headers())?)?,
    };
    let response = switch_protocols(request.headers())?;
    let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() else {
        return Err(ApiError::malformed("a WebSocket begins with an HTTP/1.1 request"));
    };
    // Read before the rooms are entered: nothing that is stored after it is missed.
    let place = live.timeline.end().await?;
    let presence = live.hub.join(&caller, Listening::ForFrames).await?;
    let hello = reply::hello(&caller, live.limits.heartbeat_seconds, &place);
    presence.connection.outbox.push_front(hello);
    drop(live.tasks.spawn(open(live.clone(), upgrade, presence)));
    Ok(response)
}

/// Waits until the handshake is answered, then starts the socket's own task, which holds nothing of this.
async fn open(live: Arc<Live>, upgrade: OnUpgrade, presence: Presence) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(%error, "a client left during the handshake"),
    };
    let tasks = live.tasks.clone();
    match into_tcp(upgraded) {
        Ok((stream, input)) => {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a socket will be slower");
            }
            drop(tasks.spawn(Socket::new(stream, live, presence, input)));
        }
        Err(upgraded) => drop(tasks.spawn(Socket::new(TokioIo::new(upgraded), live, presence, Vec::new()))),
    }
}

/// The bare TCP connection below, with what was read of it already: it takes less memory than the layers around it.
fn into_tcp(upgraded: Upgraded) -> Result<(TcpStream, Vec<u8>), Upgraded> {
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => return Ok((parts.io.into_inner(), parts.read_buf.to_vec())),
        Err(upgraded) => upgraded,
    };
    let parts = hyper_util::server::conn::auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded)?;
    Ok((parts.io.into_inner(), parts.read_buf.to_vec()))
}

/// The access token: from `Authorization`, or, from a browser, from among the sub-protocols. Never from the URL, which
/// ends up in the logs of others.
fn token(headers: &HeaderMap) -> Result<&str, ApiError> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let from_header = authorization.and_then(|value| value.split_once(' '));
    if let Some((_, token)) = from_header.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) {
        return Ok(token.trim());
    }
    let from_protocols = protocols(headers).find_map(|protocol| protocol.strip_prefix(BEARER));
    from_protocols.ok_or_else(|| ApiError::unauthenticated("the access token is missing"))
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    lists.filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(',').map(str::trim))
}

/// The answer that ends the handshake (RFC 6455 §4.2).
fn switch_protocols(headers: &HeaderMap) -> Result<Response, ApiError> {
    let has = |name: header::HeaderName, word: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(word))
    };
    if !has(header::CONNECTION, "upgrade") || !has(header::UPGRADE, "websocket") {
        return Err(ApiError::malformed(
            "this is a WebSocket: `Connection: Upgrade` and `Upgrade: websocket` are needed",
        ));
    }
    if !has(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(ApiError::malformed("`Sec-WebSocket-Version` must be 13"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).filter(|key| key.len() == 24);
    let key = key.ok_or_else(|| ApiError::malformed("`Sec-WebSocket-Key` must be 16 bytes in base64"))?;
    let accept = HeaderValue::try_from(derive_accept_key(key));
    let accept = accept.map_err(|_| ApiError::malformed("`Sec-WebSocket-Key` cannot be answered"))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if protocols(headers).any(|protocol| protocol == PROTOCOL) {
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    }
    Ok(response)
}
