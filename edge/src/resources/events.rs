//! Events without a WebSocket: what happened in one conversation, and a long-poll over all of them.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde::Deserialize;
use tokio::time::Instant;
use types::{ConversationId, Entry, Epoch, Position, Timestamp, UserId, Vector};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::extract::{ConversationParam, InConversation, Limit, Query};
use crate::frame::{self, Clock};
use crate::hub::Listening;
use crate::live::{Live, News};
use crate::{ApiError, Edge, timeline};

/// The longest time that a long-poll may wait, in seconds.
const MAX_TIMEOUT: u64 = 60;
/// How long one waits that does not say, in seconds.
const TIMEOUT: u64 = 30;
/// Events in one answer to a long-poll.
const MAX_EVENTS: usize = 100;

pub(crate) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(poll))
}

/// An event, as on the WebSocket.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes what is spliced together from the log's own bytes")]
struct EventFrame {
    /// Always `event`.
    #[schema(example = "event")]
    r#type: String,
    /// Where it happened.
    conversation: ConversationId,
    /// The incarnation of the log that `seq` counts in.
    epoch: Epoch,
    /// Its place.
    #[schema(example = 42)]
    seq: u64,
    /// The `seq` of the previous event in the same conversation; 0 if there is none.
    #[schema(example = 40)]
    prev: u64,
    /// When the log stored it.
    at: Timestamp,
    /// What happened: `id`, `kind`, `sender`, and more by `kind`; see `/asyncapi.json`. Ignore unknown kinds and
    /// fields.
    #[schema(value_type = Object)]
    event: serde_json::Value,
}

/// Events of one conversation.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes what is spliced together from the log's own bytes")]
struct Events {
    items: Vec<EventFrame>,
    /// Whether `items` has every event between the caller's position and `position`. If not, events are gone, or
    /// `position` has another `epoch` than the caller's: reload the messages.
    complete: bool,
    /// Where to continue. Empty `items` mean that there is no more.
    position: Position,
}

/// Events of all conversations.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes what is spliced together from the log's own bytes")]
struct Polled {
    items: Vec<EventFrame>,
    /// Whether `items` has every event between the caller's position and `position`. If not, reload the conversations.
    complete: bool,
    /// Where to continue. Opaque.
    #[schema(example = "5f3a9c01.2a")]
    position: String,
}

/// Which events.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct List {
    /// Only events with a greater `seq`; 0 when missing.
    after_seq: Option<u64>,
    /// The `epoch` of `after_seq`.
    epoch: Option<Epoch>,
    /// The most items to return; default 50.
    limit: Option<Limit>,
}

/// The events of a conversation, oldest first.
#[utoipa::path(get, path = "/v1/conversations/{conversation}/events", tag = "live", operation_id = "list_events",
    params(ConversationParam, List), responses((status = 200, body = Events)))]
pub(crate) async fn list(
    State(edge): State<Arc<Edge>>,
    InConversation { conversation, .. }: InConversation,
    Query(List { after_seq, epoch, limit }): Query<List>,
) -> Result<Response, ApiError> {
    let (after_seq, limit) = (after_seq.unwrap_or_default(), limit.unwrap_or_default().items());
    let current = edge.live.epoch();
    if epoch.is_some_and(|epoch| epoch != current) {
        let newest = edge.timeline.newest(&[conversation]).await?;
        let position = Position { epoch: current, seq: newest.into_iter().next().unwrap_or_default() };
        return answer(&[], false, &position);
    }
    let entries = edge.timeline.events(conversation, after_seq, limit).await?;
    let complete = timeline::is_whole(after_seq, &entries);
    let seq = entries.last().map_or(after_seq, |last| last.position.seq);
    answer(&entries, complete, &Position { epoch: current, seq })
}

/// Since when, and how long to wait.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Poll {
    /// The `position` of the last answer. Without one the answer comes at once, and only says where to begin.
    position: Option<String>,
    /// How long to wait for an event if there is none, in seconds: at most 60, default 30.
    #[param(minimum = 0, maximum = 60)]
    timeout: Option<u64>,
}

/// The events of all one's conversations after a position; waits for the next one if there is none.
#[utoipa::path(get, path = "/v1/events", tag = "live", operation_id = "poll_events", params(Poll),
    responses((status = 200, body = Polled)))]
pub(crate) async fn poll(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Query(Poll { position, timeout }): Query<Poll>,
) -> Result<Response, ApiError> {
    let live = &edge.live;
    let timeout = timeout.unwrap_or(TIMEOUT);
    if timeout > MAX_TIMEOUT {
        return Err(ApiError::invalid("timeout", format!("must be at most {MAX_TIMEOUT}")));
    }
    let place: Option<Vector> = match position {
        Some(text) => Some(text.parse().map_err(|_| ApiError::invalid("position", "is not one that the server gave"))?),
        None => None,
    };
    match place {
        Some(place) if live.knows(&place) => {
            let deadline = Instant::now() + Duration::from_secs(timeout);
            wait(live, &caller, place, deadline).await
        }
        other => {
            let now = live.news_since(caller.user, &live.hub.position(), &[]).await?.until;
            answer(&[], other.is_none(), &now.to_string())
        }
    }
}

async fn wait(live: &Arc<Live>, caller: &Caller, place: Vector, deadline: Instant) -> Result<Response, ApiError> {
    let presence = live.hub.join(caller, Listening::ForWhere).await?;
    let outbox = &presence.connection.outbox;
    if outbox.is_ending() {
        return Err(ApiError::too_many("you have too many connections", Duration::from_secs(1)));
    }
    let mut heard = BTreeSet::new();
    loop {
        let known: Vec<ConversationId> = heard.iter().copied().collect();
        let news = live.news_since(caller.user, &place, &known).await?;
        let gathered = gather(live, caller.user, &place, news).await?;
        let is_over = !gathered.entries.is_empty() || !gathered.is_whole || outbox.is_ending();
        if !is_over && let Ok(more) = tokio::time::timeout_at(deadline, poll_fn(|ctx| outbox.poll_heard(ctx))).await {
            heard.extend(more);
            continue;
        }
        return answer(&gathered.entries, gathered.is_whole, &gathered.until.to_string());
    }
}

/// Events, and up to where they are all.
struct Gathered {
    entries: Vec<Entry>,
    until: Vector,
    is_whole: bool,
}

/// Reads the events of the news that the user may see, at most [`MAX_EVENTS`]: of each shard the first ones, so that its
/// place can be told.
async fn gather(live: &Live, user: UserId, place: &Vector, news: News) -> Result<Gathered, ApiError> {
    let News { starts, mut until, mut is_whole } = news;
    let mut entries = Vec::new();
    for (shard, (until, place)) in until.seqs.iter_mut().zip(&place.seqs).enumerate() {
        let room = MAX_EVENTS - entries.len();
        if room == 0 {
            *until = *place;
            continue;
        }
        let mut first: Vec<Entry> = Vec::new();
        for (conversation, after) in starts.iter().filter(|(conversation, _)| live.shard_of(**conversation) == shard) {
            let mut more = live.timeline.events(*conversation, *after, room + 1).await?;
            live.cut(user, *conversation, &mut more).await?;
            is_whole &= timeline::is_whole(*after, &more);
            first.extend(more.into_iter().filter(|entry| entry.position.seq <= *until));
            first.sort_unstable_by_key(|entry| entry.position.seq);
            if let Some(beyond) = first.get(room) {
                *until = beyond.position.seq - 1;
                first.truncate(room);
            }
        }
        entries.append(&mut first);
    }
    Ok(Gathered { entries, until, is_whole })
}

/// Splices the answer together from the events' own bytes.
fn answer(entries: &[Entry], complete: bool, position: &impl serde::Serialize) -> Result<Response, ApiError> {
    let mut json = br#"{"items":["#.to_vec();
    let mut clock = Clock::default();
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        frame::event(&mut json, entry, &mut clock);
    }
    json.extend_from_slice(br#"],"complete":"#);
    json.extend_from_slice(if complete { b"true" } else { b"false" });
    json.extend_from_slice(br#","position":"#);
    serde_json::to_writer(&mut json, position).map_err(|_| ApiError::internal())?;
    json.push(b'}');
    let mut response = Body::from(json).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
