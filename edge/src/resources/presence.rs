//! Presence: whether users are there.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use types::notice::Status;
use types::{Timestamp, UserId};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::extract::Query;
use crate::hub::Seen;
use crate::{ApiError, Edge};

pub(crate) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().routes(routes!(get))
}

/// Users whose sessions are looked at in the same moment.
const AT_ONCE: usize = 8;

/// Whose presence.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// The ids of at most 100 users, separated by commas.
    users: String,
}

/// Whether a user is online.
#[derive(Serialize, ToSchema)]
pub(crate) struct UserPresence {
    user: UserId,
    status: Status,
    /// When an offline user was last seen: to the second if this edge saw the user leave, otherwise to an access
    /// token's lifetime; `null` if unknown.
    last_seen: Option<Timestamp>,
}

/// The presence of users.
#[derive(Serialize, ToSchema)]
pub(crate) struct Presences {
    /// In order of user ids. Users who share no conversation with the caller are left out.
    items: Vec<UserPresence>,
}

/// The presence of users with whom the caller shares a conversation.
#[utoipa::path(get, path = "/v1/presence", tag = "users", operation_id = "get_presence", params(Wanted),
    responses((status = 200, body = Presences)))]
pub(crate) async fn get(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Query(Wanted { users }): Query<Wanted>,
) -> Result<Answer<Presences>, ApiError> {
    let ids: Result<Vec<UserId>, _> = users.split(',').map(|id| id.trim().parse()).collect();
    let ids = ids.map_err(|_| ApiError::invalid("users", "must be user ids, separated by commas"))?;
    let users = edge.live.sharing.seen_by(caller.user, ids).await?;
    let seen = edge.live.hub.look_up(&caller, &users).await?;
    let telling: Vec<_> = users.into_iter().zip(seen).map(|(user, seen)| tell(&edge, user, seen)).collect();
    let items = stream::iter(telling).buffered(AT_ONCE).try_collect().await?;
    Ok(Answer(Presences { items }))
}

async fn tell(edge: &Edge, user: UserId, Seen { status, last_seen }: Seen) -> Result<UserPresence, ApiError> {
    let last_seen = match (status, last_seen) {
        (Status::Offline, None) => {
            let sessions = edge.directory.sessions(user, Timestamp::now()).await?;
            sessions.iter().map(|session| session.refreshed_at).max()
        }
        (Status::Offline, seen) => seen,
        _ => None,
    };
    Ok(UserPresence { user, status, last_seen })
}
