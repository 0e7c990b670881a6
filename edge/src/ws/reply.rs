//! The frames that answer a client's own.

use bytes::Bytes;
use log::Appended;
use serde::Serialize;
use types::{ConversationId, EventId, Position, Vector};

use super::request::Malformed;
use crate::auth::Caller;
use crate::{ApiError, frame};

/// What was wrong with a request.
#[derive(Serialize)]
#[serde(tag = "type", rename = "error")]
struct Failure<'a> {
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// The end of a replay.
#[derive(Serialize)]
#[serde(tag = "type", rename = "resumed")]
pub(super) struct Resumed {
    /// What the client called its request.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub(super) reference: Option<String>,
    /// Whether the client now has every event since its positions.
    pub(super) complete: bool,
    /// A place to resume from later.
    pub(super) position: String,
    /// Where it does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) incomplete: Vec<Incomplete>,
}

/// A conversation of which a client does not have every event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Incomplete {
    /// The conversation; `None` when it is not known which ones there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) conversation: Option<ConversationId>,
    /// Why.
    pub(super) reason: Reason,
    /// Up to where it has them, when that is known: the rest is to be read by pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) position: Option<Position>,
}

/// Why a replay is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reason {
    /// There is nothing here that the caller may see.
    NotFound,
    /// The position is of another incarnation of the log.
    OtherEpoch,
    /// Events are gone.
    Gone,
    /// There are too many events to be replayed.
    TooMany,
    /// They cannot be read now.
    Unavailable,
}

/// The first frame of a connection.
pub(crate) fn hello(caller: &Caller, heartbeat_seconds: u64, position: &Vector) -> Bytes {
    frame::text_frame(|json| {
        json.extend_from_slice(br#"{"type":"hello","session":""#);
        frame::id(json, caller.session.into());
        json.extend_from_slice(br#"","user":""#);
        frame::id(json, caller.user.into());
        json.extend_from_slice(br#"","heartbeat_seconds":"#);
        frame::number(json, heartbeat_seconds);
        json.extend_from_slice(br#","resume":""#);
        json.extend_from_slice(position.to_string().as_bytes());
        json.extend_from_slice(br#""}"#);
    })
}

/// Appends the acknowledgement of a message.
pub(super) fn ack(
    frames: &mut Vec<u8>,
    reference: Option<&str>,
    conversation: ConversationId,
    id: EventId,
    appended: &Appended,
) {
    frame::text(frames, |json| {
        json.extend_from_slice(br#"{"type":"ack""#);
        put_reference(json, reference);
        json.extend_from_slice(br#","id":""#);
        frame::id(json, id.into());
        json.extend_from_slice(br#"","conversation":""#);
        frame::conversation(json, conversation);
        json.extend_from_slice(br#"","epoch":""#);
        frame::epoch(json, appended.position.epoch.number());
        json.extend_from_slice(br#"","seq":"#);
        frame::number(json, appended.position.seq);
        json.extend_from_slice(br#","at":""#);
        json.extend_from_slice(appended.at.to_string().as_bytes());
        json.extend_from_slice(br#"","duplicate":"#);
        json.extend_from_slice(if appended.duplicate { b"true" } else { b"false" });
        json.push(b'}');
    });
}

/// The acknowledgement of anything but a message: it was done.
pub(super) fn done(reference: Option<&str>) -> Bytes {
    frame::text_frame(|json| {
        json.extend_from_slice(br#"{"type":"ack""#);
        put_reference(json, reference);
        json.push(b'}');
    })
}

/// The answer to a `ping` frame, with a place to resume from later, if there is one now.
pub(super) fn pong(reference: Option<&str>, position: Option<&Vector>) -> Bytes {
    frame::text_frame(|json| {
        json.extend_from_slice(br#"{"type":"pong""#);
        put_reference(json, reference);
        if let Some(position) = position {
            json.extend_from_slice(br#","resume":""#);
            json.extend_from_slice(position.to_string().as_bytes());
            json.push(b'"');
        }
        json.push(b'}');
    })
}

/// Appends the answer to a request that failed.
pub(super) fn error(frames: &mut Vec<u8>, reference: Option<&str>, error: &ApiError) {
    let retry_after_ms = error.retry_after_seconds().map(|seconds| u64::from(seconds) * 1000);
    put(frames, &Failure { reference, code: error.code(), detail: error.detail(), retry_after_ms });
}

/// The answer to a frame that was not understood.
pub(super) fn malformed(malformed: &Malformed) -> Bytes {
    let Malformed { reference, code, detail } = malformed;
    let mut frames = Vec::new();
    put(&mut frames, &Failure { reference: reference.as_deref(), code, detail, retry_after_ms: None });
    frames.into()
}

/// The end of a replay.
pub(super) fn resumed(resumed: &Resumed) -> Bytes {
    let mut frames = Vec::new();
    put(&mut frames, resumed);
    frames.into()
}

fn put(frames: &mut Vec<u8>, value: &impl Serialize) {
    frame::text(frames, |json| {
        if let Err(error) = serde_json::to_writer(json, value) {
            unreachable!("strings and numbers have JSON: {error}");
        }
    });
}

fn put_reference(json: &mut Vec<u8>, reference: Option<&str>) {
    let Some(reference) = reference else { return };
    json.extend_from_slice(br#","ref":"#);
    if let Err(error) = serde_json::to_writer(json, reference) {
        unreachable!("a string has JSON: {error}");
    }
}
