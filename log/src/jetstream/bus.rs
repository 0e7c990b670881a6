//! Requests and answers, by NATS' own protocol for services: `nats micro` lists them, with their statistics.

use std::sync::Arc;
use std::time::Duration;

use async_nats::service::ServiceExt;
use async_nats::service::endpoint::Endpoint;
use async_nats::service::error::Error as ServiceError;
use async_nats::{Client, HeaderMap, RequestErrorKind};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::unavailable;
use super::headers;
use super::names::Names;
use crate::{Error, Request, Requests, Result};

/// Requests to one service in one process that wait for it.
const QUEUE: usize = 1_024;
/// Requests that wait for its answer besides.
const UNANSWERED: usize = 4_096;
/// How long an answer is waited for: nobody who asked waits longer.
const ANSWERING: Duration = Duration::from_secs(60);
/// How often a request that was handed back is sent again.
const ATTEMPTS: usize = 5;
/// What the service says of an error.
const ERROR_CODE: &str = "Nats-Service-Error-Code";
/// The service has ended and hands the request back as it came.
const GONE: usize = 410;
/// It took the request and gave no answer.
const NO_ANSWER: usize = 500;

/// See [`crate::Log::request`].
pub(super) async fn request(
    client: &Client,
    subject: &str,
    payload: Bytes,
    patience: Duration,
) -> Result<Bytes> {
    let ends = Instant::now() + patience;
    for _ in 0..ATTEMPTS {
        let request = async_nats::Request::new().payload(payload.clone()).timeout(None);
        let asked = tokio::time::timeout_at(ends, client.send_request(subject.to_owned(), request)).await;
        let answer = asked.map_err(|_| unavailable("the service does not answer in time"))?;
        let answer = answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => unavailable("nobody serves this"),
            _ => unavailable(error),
        })?;
        match answer.headers.as_ref().and_then(error_code) {
            None => return Ok(answer.payload),
            Some(GONE) => {}
            Some(code) => return Err(Error::Unavailable(format!("the service gives no answer: {code}"))),
        }
    }
    Err(unavailable("the service has ended"))
}

fn error_code(found: &HeaderMap) -> Option<usize> {
    headers::text(found, ERROR_CODE)?.parse().ok()
}

/// See [`crate::Log::serve`].
pub(super) async fn serve(
    client: &Client,
    names: &Names,
    service: &'static str,
    stop: CancellationToken,
) -> Result<Requests> {
    let started = client.service_builder().start(names.service_name(service), env!("CARGO_PKG_VERSION")).await;
    let running = started.map_err(unavailable)?;
    let endpoint = running.endpoint_builder().name(service).add(names.service(service)).await.map_err(unavailable)?;
    // The next request that anybody sends finds it.
    client.flush().await.map_err(unavailable)?;
    let (sender, queue) = mpsc::channel(QUEUE);
    drop(tokio::spawn(async move {
        forward(endpoint, sender, stop).await;
        drop(running.stop().await);
    }));
    Ok(Requests { queue })
}

async fn forward(mut endpoint: Endpoint, sender: mpsc::Sender<Request>, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(UNANSWERED));
    loop {
        let request = tokio::select! {
            request = endpoint.next() => request,
            () = sender.closed() => break,
            () = stop.cancelled() => break,
        };
        let Some(request) = request else { return };
        let Ok(room) = Arc::clone(&room).acquire_owned().await else { return };
        let (answer, answered) = oneshot::channel();
        if sender.send(Request { payload: request.message.payload.clone(), answer }).await.is_err() {
            respond(&request, Err(error(GONE, "the service has ended"))).await;
            break;
        }
        drop(tokio::spawn(async move {
            let answer = timeout(ANSWERING, answered).await.ok().and_then(std::result::Result::ok);
            respond(&request, answer.ok_or_else(|| error(NO_ANSWER, "no answer was given"))).await;
            drop(room);
        }));
    }
    drop(sender);
    // What still comes is handed back, so that another takes it.
    if endpoint.stop().await.is_ok() {
        while let Some(request) = endpoint.next().await {
            respond(&request, Err(error(GONE, "the service has ended"))).await;
        }
    }
}

async fn respond(request: &async_nats::service::Request, answer: std::result::Result<Bytes, ServiceError>) {
    if let Err(error) = request.respond(answer).await {
        tracing::debug!(%error, "an answer was not sent");
    }
}

fn error(code: usize, status: &str) -> ServiceError {
    ServiceError { status: status.to_owned(), code }
}
