//! `/socket.io/`: the same live events and the same requests for clients that speak Socket.IO, over WebSocket or its own
//! long-polling.
//!
//! The protocol is the library's; what a connection hears and may do is ours: each is a connection of the [`Hub`] with an
//! outbox, as a WebSocket is, so that order, resumption, removal, revocation and the bound on slow readers are the same code.
//!
//! [`Hub`]: crate::hub::Hub

mod emit;
mod handshake;
mod reply;
mod request;
mod session;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use socketioxide::extract::{SocketRef, TryData};
use socketioxide::handler::ConnectHandler;
use socketioxide::{ParserConfig, SocketIo};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Edge;
use handshake::Auth;

/// Where it is served.
const PATH: &str = "/socket.io";
/// Packets that may wait inside the library for one client. What waits before them is in the outbox, which is bounded in
/// bytes.
const BUFFERED_PACKETS: usize = 256;
/// What is read from a socket at a time, in bytes.
const READ_BYTES: usize = 1_024;
/// How long a client may take to say who it is, in seconds.
const CONNECT_SECONDS: u64 = 10;

/// How long clients that poll have to fetch what was said last, once this edge ends.
const FAREWELL: Duration = Duration::from_millis(500);

/// Serves Socket.IO before the routes.
pub(crate) fn layer(router: Router<Arc<Edge>>, edge: &Arc<Edge>) -> Router<Arc<Edge>> {
    let limits = &edge.config.limits;
    let heartbeat = Duration::from_secs(limits.heartbeat_seconds.max(1));
    let (layer, io) = SocketIo::builder()
        .req_path(PATH)
        .ping_interval(heartbeat)
        .ping_timeout(heartbeat)
        .connect_timeout(Duration::from_secs(CONNECT_SECONDS))
        .max_buffer_size(BUFFERED_PACKETS)
        .max_payload(limits.frame_bytes as u64)
        .ws_max_message_size(limits.frame_bytes)
        .ws_max_frame_size(limits.frame_bytes)
        .ws_read_buffer_size(READ_BYTES)
        .with_parser(ParserConfig::common().max_incoming_binary_buf_size(limits.frame_bytes).max_incoming_binaries(1))
        .build_layer();
    // The library's own tasks must not keep the edge and its stores: they outlive it by a moment.
    let (admitting, beginning) = (Arc::downgrade(edge), Arc::downgrade(edge));
    let admit = move |socket: SocketRef, TryData(auth): TryData<Auth>| async move {
        handshake::admit(admitting.upgrade(), &socket, auth.ok()).await
    };
    let begin = move |socket: SocketRef| {
        if let Some(edge) = beginning.upgrade() {
            session::begin(&edge, &socket);
        }
        std::future::ready(())
    };
    io.ns("/", begin.with(admit));
    tokio::spawn(end(edge.shutdown.clone(), edge.live.tasks.clone(), io));
    router.layer(layer).layer(middleware::map_request(detach))
}

/// Ends the connections below, once the sessions on them have said goodbye.
async fn end(shutdown: CancellationToken, sessions: TaskTracker, io: SocketIo) {
    shutdown.cancelled().await;
    sessions.wait().await;
    tokio::time::sleep(FAREWELL).await;
    io.close().await;
}

/// Copies what the library keeps of a request for as long as the connection lives: what came is a part of the buffer
/// into which it was read, and would hold on to all of it, 16 KB for each connection.
async fn detach(mut request: Request) -> Request {
    if !request.uri().path().starts_with(PATH) {
        return request;
    }
    *request.headers_mut() = copy(request.headers());
    if let Ok(uri) = Uri::try_from(request.uri().to_string()) {
        *request.uri_mut() = uri;
    }
    request
}

fn copy(headers: &HeaderMap) -> HeaderMap {
    let pairs = headers.iter().filter_map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(value.as_bytes()).ok()?))
    });
    let mut copied = HeaderMap::with_capacity(headers.keys_len());
    for (name, value) in pairs {
        copied.append(name, value);
    }
    copied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_kept_of_a_request_is_a_copy_and_the_same() {
        let request = Request::builder().uri("/socket.io/?EIO=4&transport=polling");
        let request = request.header("x-custom-name", "a").header("cookie", "b").header("cookie", "c");
        let request = request.body(axum::body::Body::empty()).unwrap();
        let (uri, headers) = (request.uri().clone(), request.headers().clone());
        let detached = detach(request).await;
        assert_eq!((detached.uri(), detached.headers()), (&uri, &headers));
        let place = |headers: &HeaderMap| headers["x-custom-name"].as_bytes().as_ptr();
        assert_ne!(place(detached.headers()), place(&headers));
    }
}
