//! Acknowledgements.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::AckSender;
use socketioxide::handler::{FromMessageParts, Value};
use socketioxide::socket::Socket;
use socketioxide::{SendError, SocketError};

use crate::ApiError;

/// How long is waited for room in the library's queue before the next attempt. It tells nobody when there is some.
pub(super) const PAUSE: Duration = Duration::from_millis(2);

/// Where a request is answered, once. A client that wants no acknowledgement gets none.
pub(super) struct Reply {
    socket: Arc<Socket<LocalAdapter>>,
    ack_id: Option<i64>,
}

impl FromMessageParts<LocalAdapter> for Reply {
    type Error = Infallible;

    fn from_message_parts(
        socket: &Arc<Socket<LocalAdapter>>,
        _: &mut Value,
        ack_id: &Option<i64>,
    ) -> Result<Self, Infallible> {
        Ok(Self { socket: Arc::clone(socket), ack_id: *ack_id })
    }
}

/// A request that was carried out.
#[derive(Serialize)]
struct Success<T> {
    ok: bool,
    #[serde(flatten)]
    result: T,
}

/// A request that failed.
#[derive(Serialize)]
struct Failure<'a> {
    ok: bool,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl Reply {
    /// Sends the outcome as soon as there is room. Nothing is left to do when the client is gone.
    pub(super) async fn send(self, outcome: Result<impl Serialize, ApiError>) {
        let json = outcome.and_then(|result| to_json(&Success { ok: true, result }));
        let json = json.or_else(|error| to_json(&failure(&error)));
        let Ok(json) = json else { return };
        while self.try_send(&json) == Sent::No {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Refuses the request if there is room to say so. For what comes faster than it can be taken.
    pub(super) fn refuse(&self, error: &ApiError) {
        if let Ok(json) = to_json(&failure(error)) {
            self.try_send(&json);
        }
    }

    fn try_send(&self, json: &RawValue) -> Sent {
        let Ok(sender) =
            AckSender::from_message_parts(&self.socket, &mut Value::Bytes(Default::default()), &self.ack_id);
        match sender.send(json) {
            Err(SendError::Socket(SocketError::InternalChannelFull)) => Sent::No,
            _ => Sent::YesOrNever,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    YesOrNever,
    No,
}

fn failure(error: &ApiError) -> Failure<'_> {
    let retry_after_ms = error.retry_after_seconds().map(|seconds| u64::from(seconds) * 1000);
    Failure { ok: false, code: error.code(), detail: error.detail(), retry_after_ms }
}

fn to_json(value: &impl Serialize) -> Result<Box<RawValue>, ApiError> {
    serde_json::value::to_raw_value(value).map_err(|error| {
        tracing::error!(%error, "an acknowledgement has no JSON");
        ApiError::internal()
    })
}
