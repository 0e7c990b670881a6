//! Sessions: where one is logged in.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use directory::Command;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use types::{SessionId, Timestamp};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::cursor::{self, Page};
use crate::extract::{Limit, OfSession, Query, SessionParam};
use crate::{ApiError, Edge};

pub(crate) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(revoke))
}

/// A log-in on a device.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SessionEntry)]
pub(crate) struct Session {
    id: SessionId,
    /// The client's `User-Agent`.
    #[schema(example = "curl/8.5.0")]
    client: String,
    /// When it started.
    created_at: Timestamp,
    /// When its refresh token was last used.
    refreshed_at: Timestamp,
    /// When its refresh token expires.
    expires_at: Timestamp,
    /// Whether this request belongs to it.
    current: bool,
}

/// A page of sessions.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct List {
    /// The most items to return; default 50.
    limit: Option<Limit>,
    /// The `next` of the previous page.
    cursor: Option<String>,
}

/// The caller's open sessions, newest first.
#[utoipa::path(get, path = "/v1/sessions", tag = "sessions", operation_id = "list_sessions", params(List),
    responses((status = 200, body = Page<Session>)))]
pub(crate) async fn list(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Query(list): Query<List>,
) -> Result<Answer<Page<Session>>, ApiError> {
    let after: Option<(Timestamp, SessionId)> = list.cursor.as_deref().map(cursor::decode).transpose()?;
    let limit = list.limit.unwrap_or_default().items();
    let mut sessions = edge.directory.sessions(caller.user, Timestamp::now()).await?;
    sessions.sort_unstable_by_key(|session| std::cmp::Reverse((session.created_at, session.id)));
    sessions.retain(|session| after.is_none_or(|after| (session.created_at, session.id) < after));
    let page = Page::cut(sessions, limit, |session| (session.created_at, session.id));
    Ok(Answer(page.map(|session| Session {
        id: session.id,
        client: session.client,
        created_at: session.created_at,
        refreshed_at: session.refreshed_at,
        expires_at: session.expires_at,
        current: session.id == caller.session,
    })))
}

/// Ends one of the caller's sessions. Its tokens become invalid, and its connections are closed.
#[utoipa::path(delete, path = "/v1/sessions/{session}", tag = "sessions", operation_id = "revoke_session",
    params(SessionParam), responses((status = 204)))]
pub(crate) async fn revoke(
    State(edge): State<Arc<Edge>>,
    OfSession { caller, session }: OfSession,
) -> Result<StatusCode, ApiError> {
    let command = Command::RevokeSession { user: caller.user, session, at: Timestamp::now() };
    edge.commands.execute(&command).await?;
    Ok(StatusCode::NO_CONTENT)
}
