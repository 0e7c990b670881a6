//! Requests and answers, by NATS' own protocol for services: `nats micro` lists them, with their statistics.

mod service;

use std::time::Duration;

use async_nats::{Client, HeaderMap, RequestErrorKind};
use bytes::Bytes;
use tokio::time::Instant;

pub(super) use self::service::{Service, serve};
use super::connection::unavailable;
use super::headers;
use crate::{Error, Result};

/// How often a request that was handed back is sent again.
const ATTEMPTS: usize = 5;
/// How long nobody may serve before a request is given up: the last of a service's processes may be about to be
/// replaced. Nobody has seen the request then, so it can be sent again.
const NOBODY: Duration = Duration::from_secs(2);
/// How often is looked whether somebody serves.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What the service says of an error.
const ERROR_CODE: &str = "Nats-Service-Error-Code";
/// The same in words.
const ERROR: &str = "Nats-Service-Error";
/// The service has ended and hands the request back as it came.
const GONE: usize = 410;
/// It took the request and gave no answer.
const NO_ANSWER: usize = 500;

/// See [`crate::Log::request`].
pub(super) async fn request(client: &Client, subject: &str, payload: Bytes, patience: Duration) -> Result<Bytes> {
    let (began, mut attempts) = (Instant::now(), 0);
    while attempts < ATTEMPTS {
        let request = async_nats::Request::new().payload(payload.clone()).timeout(None);
        let asked = tokio::time::timeout_at(began + patience, client.send_request(subject.to_owned(), request)).await;
        let answer = match asked.map_err(|_| unavailable("the service does not answer in time"))? {
            Ok(answer) => answer,
            Err(error) if error.kind() != RequestErrorKind::NoResponders => return Err(unavailable(error)),
            Err(_) if began.elapsed() >= NOBODY.min(patience) => return Err(unavailable("nobody serves this")),
            Err(_) => {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
        };
        attempts += 1;
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
