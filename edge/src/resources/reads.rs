//! How far the members of a conversation have read.

use std::sync::Arc;

use axum::Json as Answer;
use axum::extract::State;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use types::{ConversationId, UserId};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::cursor::{self, Page};
use crate::extract::{ConversationParam, InConversation, Limit, Query};
use crate::{ApiError, Edge};

pub(crate) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().routes(routes!(list))
}

/// Marks that are read at the same time.
const AT_ONCE: usize = 8;

/// A page of members.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct List {
    /// The most items to return; default 50.
    limit: Option<Limit>,
    /// The `next` of the previous page.
    cursor: Option<String>,
}

/// How far a member has read.
#[derive(Serialize, ToSchema)]
#[schema(as = MemberRead)]
pub(crate) struct Mark {
    user: UserId,
    /// Up to and including this `seq`; 0 for nothing.
    #[schema(example = 39)]
    seq: u64,
}

/// How far each member has read, in order of their ids. A message has been read by every member whose `seq` is not
/// smaller.
#[utoipa::path(get, path = "/v1/conversations/{conversation}/reads", tag = "conversations",
    operation_id = "list_reads", params(ConversationParam, List), responses((status = 200, body = Page<Mark>)))]
pub(crate) async fn list(
    State(edge): State<Arc<Edge>>,
    InConversation { conversation, .. }: InConversation,
    Query(List { limit, cursor }): Query<List>,
) -> Result<Answer<Page<Mark>>, ApiError> {
    let after: Option<UserId> = cursor.as_deref().map(cursor::decode).transpose()?;
    let limit = limit.unwrap_or_default().items();
    let members = members(&edge, conversation, after, limit + 1).await?;
    let Page { items, next } = Page::cut(members, limit, |last| *last);
    let reading = items.into_iter().map(|user| mark(&edge, user, conversation));
    let reading: Vec<_> = reading.collect();
    let items = stream::iter(reading).buffered(AT_ONCE).try_collect().await?;
    Ok(Answer(Page { items, next }))
}

async fn members(
    edge: &Edge,
    conversation: ConversationId,
    after: Option<UserId>,
    limit: usize,
) -> Result<Vec<UserId>, ApiError> {
    let mut users = match conversation {
        ConversationId::Direct(first, second) => vec![first, second],
        ConversationId::Group(group) => {
            let members = edge.directory.members(group, after, limit).await?;
            members.into_iter().map(|member| member.user.id).collect()
        }
    };
    users.dedup();
    users.retain(|user| after.is_none_or(|after| *user > after));
    Ok(users)
}

async fn mark(edge: &Edge, user: UserId, conversation: ConversationId) -> Result<Mark, ApiError> {
    let marks = edge.history.read_marks(user, &[conversation]).await?;
    Ok(Mark { user, seq: marks.into_iter().next().unwrap_or_default() })
}
