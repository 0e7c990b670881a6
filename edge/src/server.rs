//! Connections: accepted, bounded in number, given up when a request's head does not arrive, and ended in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::Edge;

/// After an error of the system, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a client may leave unread what it was sent before its connection is given up: it would otherwise keep an
/// answer in memory for as long as it likes.
pub(crate) const UNREAD: Duration = Duration::from_secs(30);

/// Serves until the edge is to end, then until all requests are answered, at most until the deadline.
pub(crate) async fn serve(router: Router, edge: &Edge, listener: TcpListener) {
    let limits = &edge.config.limits;
    let head_timeout = Duration::from_secs(limits.head_seconds.max(1));
    let intake = Intake { router, head_timeout, unread_timeout: UNREAD, connections: limits.connections };
    let ((), connections) = intake.serve_until(&listener, edge.shutdown.cancelled()).await;
    drop(listener);
    let deadline = Duration::from_secs(edge.config.shutdown_seconds);
    let (_, joined) = tokio::join!(edge.live.close(deadline), tokio::time::timeout(deadline, connections.wait()));
    if joined.is_err() {
        tracing::warn!(connections = connections.len(), "connections were cut at the deadline");
    }
}

/// What takes connections.
pub(crate) struct Intake {
    pub(crate) router: Router,
    /// How long the head of a request may take to arrive.
    pub(crate) head_timeout: Duration,
    /// How long the client may take nothing of what was sent.
    pub(crate) unread_timeout: Duration,
    /// Open connections in all.
    pub(crate) connections: usize,
}

impl Intake {
    /// Takes connections until `end` is done, and gives what came of it with the connections that are still open. Idle
    /// ones are then closed, others after the answer that is under way.
    pub(crate) async fn serve_until<T>(self, listener: &TcpListener, end: impl Future<Output = T>) -> (T, TaskTracker) {
        let shutdown = CancellationToken::new();
        let Self { router, head_timeout, unread_timeout, connections } = self;
        let connection = Connection { router, head_timeout, unread_timeout, shutdown: shutdown.clone() };
        let room = Arc::new(Semaphore::new(connections.clamp(1, Semaphore::MAX_PERMITS)));
        let connections = TaskTracker::new();
        let mut end = std::pin::pin!(end);
        let ended = loop {
            let accepted = tokio::select! {
                ended = end.as_mut() => break ended,
                accepted = accept(listener, &room) => accepted,
            };
            let Some((stream, address, permit)) = accepted else { continue };
            let serving = connection.clone().serve(stream, address);
            connections.spawn(async move {
                serving.await;
                drop(permit);
            });
        };
        shutdown.cancel();
        connections.close();
        (ended, connections)
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => Some((stream, address, permit)),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

/// What serves one connection.
#[derive(Clone)]
struct Connection {
    router: Router,
    head_timeout: Duration,
    unread_timeout: Duration,
    shutdown: CancellationToken,
}

impl Connection {
    /// Serves a connection until its client ends it, or an upgrade takes it away.
    async fn serve(self, stream: TcpStream, address: SocketAddr) {
        if let Err(error) = prepare(&stream, self.unread_timeout) {
            tracing::debug!(%error, "the connection was gone before it was served");
            return;
        }
        let router = self.router;
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(address));
            router.clone().oneshot(request.map(Body::new))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_timeout)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a connection broke off");
        }
    }
}

fn prepare(stream: &TcpStream, unread_timeout: Duration) -> io::Result<()> {
    // Without it an answer may wait 40 ms for the client's acknowledgement of the one before.
    stream.set_nodelay(true)?;
    // A client that takes nothing goes on answering probes, so TCP alone would wait for ever.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(unread_timeout))?;
    #[cfg(not(target_os = "linux"))]
    let _: Duration = unread_timeout;
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// How long a test waits for what must come.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_client_that_does_not_read_its_answer_loses_its_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let router = Router::new().route("/", get(async || vec![7_u8; 32 << 20]));
        let (head_timeout, unread_timeout) = (PATIENCE, Duration::from_millis(200));
        let intake = Intake { router, head_timeout, unread_timeout, connections: 1 };
        let asked = async {
            client.write_all(b"GET / HTTP/1.1\r\nhost: rookery\r\n\r\n").await.unwrap();
            client.read_exact(&mut [0; 16]).await.unwrap();
        };
        let ((), connections) = intake.serve_until(&listener, asked).await;
        tokio::time::timeout(PATIENCE, connections.wait()).await.expect("the answer is given up");
    }
}
