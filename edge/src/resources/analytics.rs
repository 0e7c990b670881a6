//! Analytics: who writes most, and where. Counts are the analytics store's; names are looked up here, for as few as
//! are shown.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ::analytics::{Bucket, Filter, Ranked};
use axum::Json as Answer;
use axum::extract::State;
use directory::Role;
use serde::{Deserialize, Serialize};
use types::{ConversationId, GroupId, Region, Timestamp, UserId};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Caller;
use crate::config::Readers;
use crate::cursor::{self, Page};
use crate::extract::{Limit, Query};
use crate::resources::users::UserBrief;
use crate::{ApiError, Edge};

pub(crate) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().routes(routes!(top_users)).routes(routes!(top_conversations)).routes(routes!(activity))
}

/// How many a ranking shows when no limit is given.
const TOP: Limit = Limit::of(5);
/// How deep a ranking may be paged.
const MAX_OFFSET: u64 = 10_000;

/// Which messages to count.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Top {
    /// From this time on; default: from the beginning.
    start: Option<Timestamp>,
    /// Before this time; default: now.
    end: Option<Timestamp>,
    /// Only messages from users of the region with this name.
    region: Option<String>,
    /// `true` counts direct conversations too; for analysts only.
    #[serde(default)]
    direct: bool,
    /// The most items to return; default 5.
    limit: Option<Limit>,
    /// The `next` of the previous page, with the same parameters.
    cursor: Option<String>,
}

/// A page of a ranking.
#[derive(Serialize, ToSchema)]
pub(crate) struct Ranking<T> {
    items: Vec<T>,
    /// The cursor of the next page; `null` on the last.
    next: Option<String>,
    /// When it was counted.
    as_of: Timestamp,
}

/// A user and the number of messages.
#[derive(Serialize, ToSchema)]
pub(crate) struct TopUser {
    user: UserBrief,
    #[schema(example = 12)]
    messages: u64,
}

/// A conversation and the number of its messages.
#[derive(Serialize, ToSchema)]
pub(crate) struct TopConversation {
    conversation: Named,
    #[schema(example = 12)]
    messages: u64,
}

/// A conversation by its name.
#[derive(Serialize, ToSchema)]
#[schema(as = ConversationBrief)]
pub(crate) struct Named {
    id: ConversationId,
    /// `null` for a group the caller is not a member of (analysts see all names), for a deleted group, and for direct
    /// conversations.
    #[schema(example = "Analytical engines")]
    name: Option<String>,
}

/// The users who have sent the most messages to groups.
#[utoipa::path(get, path = "/v1/analytics/top-users", tag = "analytics", operation_id = "top_users", params(Top),
    responses(
        (status = 200, body = Ranking<TopUser>),
        (status = 403, description = "Only analysts may do this"),
    ))]
pub(crate) async fn top_users(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Query(top): Query<Top>,
) -> Result<Answer<Ranking<TopUser>>, ApiError> {
    let filter = filter(&edge, &caller, (top.start, top.end), top.region.as_deref(), top.direct)?;
    let (offset, limit) = stretch(&top)?;
    let as_of = Timestamp::now();
    let ranked = edge.analytics.top_users(&filter, offset, limit + 1).await?;
    let (ranked, next) = cut(ranked, offset, limit);

    let ids: Vec<UserId> = ranked.iter().map(|ranked| ranked.key).collect();
    let users = edge.directory.users(&ids).await?;
    let items = ranked.into_iter().zip(users).map(|(ranked, user)| TopUser {
        user: user.map_or_else(|| nobody(ranked.key), UserBrief::from),
        messages: ranked.messages,
    });
    Ok(Answer(Ranking { items: items.collect(), next, as_of }))
}

/// The groups in which the most messages were sent.
#[utoipa::path(get, path = "/v1/analytics/top-conversations", tag = "analytics", operation_id = "top_conversations",
    params(Top),
    responses(
        (status = 200, body = Ranking<TopConversation>),
        (status = 403, description = "Only analysts may do this"),
    ))]
pub(crate) async fn top_conversations(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Query(top): Query<Top>,
) -> Result<Answer<Ranking<TopConversation>>, ApiError> {
    let filter = filter(&edge, &caller, (top.start, top.end), top.region.as_deref(), top.direct)?;
    let (offset, limit) = stretch(&top)?;
    let as_of = Timestamp::now();
    let ranked = edge.analytics.top_conversations(&filter, offset, limit + 1).await?;
    let (ranked, next) = cut(ranked, offset, limit);

    let names = names(&edge, &caller, &ranked).await?;
    let items = ranked.into_iter().zip(names).map(|(ranked, name)| TopConversation {
        conversation: Named { id: ranked.key, name },
        messages: ranked.messages,
    });
    Ok(Answer(Ranking { items: items.collect(), next, as_of }))
}

/// The length of a step.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "it only describes `analytics::Bucket`")]
pub(crate) enum BucketName {
    Hour,
    Day,
}

/// Which messages to count, and in which steps.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Steps {
    /// From this time on; default: from the beginning.
    start: Option<Timestamp>,
    /// Before this time; default: now.
    end: Option<Timestamp>,
    /// The length of a step; default `day`, in UTC.
    #[param(value_type = Option<BucketName>, inline)]
    bucket: Option<Bucket>,
    /// Only messages from users of the region with this name.
    region: Option<String>,
    /// `true` counts direct conversations too; for analysts only.
    #[serde(default)]
    direct: bool,
    /// The most steps to return; default 50.
    limit: Option<Limit>,
    /// The `next` of the previous page, with the same parameters.
    cursor: Option<String>,
}

/// The messages of an hour or a day.
#[derive(Serialize, ToSchema)]
pub(crate) struct Step {
    /// When it begins.
    at: Timestamp,
    #[schema(example = 12)]
    messages: u64,
}

/// The number of messages sent to groups per hour or day, oldest first.
///
/// Steps without messages are left out.
#[utoipa::path(get, path = "/v1/analytics/activity", tag = "analytics", operation_id = "activity", params(Steps),
    responses(
        (status = 200, body = Ranking<Step>),
        (status = 403, description = "Only analysts may do this"),
    ))]
pub(crate) async fn activity(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Query(steps): Query<Steps>,
) -> Result<Answer<Ranking<Step>>, ApiError> {
    let after: Option<Timestamp> = steps.cursor.as_deref().map(cursor::decode).transpose()?;
    let start = after.into_iter().chain(steps.start).max();
    let filter = filter(&edge, &caller, (start, steps.end), steps.region.as_deref(), steps.direct)?;
    let bucket = steps.bucket.unwrap_or(Bucket::Day);
    let limit = steps.limit.unwrap_or_default().items();
    let as_of = Timestamp::now();
    let counted = edge.analytics.activity(&filter, bucket, limit + 1).await?;
    let Page { items, next } = Page::cut(counted, limit, |last| last.key.plus(length(bucket)));
    let items = items.into_iter().map(|step| Step { at: step.key, messages: step.messages }).collect();
    Ok(Answer(Ranking { items, next, as_of }))
}

fn length(bucket: Bucket) -> Duration {
    match bucket {
        Bucket::Hour => Duration::from_secs(60 * 60),
        Bucket::Day => Duration::from_secs(24 * 60 * 60),
    }
}

fn filter(
    edge: &Edge,
    caller: &Caller,
    (start, end): (Option<Timestamp>, Option<Timestamp>),
    region: Option<&str>,
    include_direct: bool,
) -> Result<Filter, ApiError> {
    let is_analyst = caller.is(Role::Analyst);
    let readers = edge.config.analytics.readers;
    if (readers == Readers::Analysts || include_direct) && !is_analyst {
        return Err(ApiError::forbidden("only analysts may do this"));
    }
    let region = region.map(|name| region_of(edge, name)).transpose()?;
    Ok(Filter { start, end, region, include_direct })
}

fn region_of(edge: &Edge, name: &str) -> Result<Region, ApiError> {
    let known = edge.config.region.names.get(name).copied();
    known.ok_or_else(|| ApiError::invalid("region", "is not the name of a region"))
}

fn stretch(top: &Top) -> Result<(u64, usize), ApiError> {
    let offset: Option<u64> = top.cursor.as_deref().map(cursor::decode).transpose()?;
    let offset = offset.unwrap_or_default();
    if offset > MAX_OFFSET {
        return Err(ApiError::invalid("cursor", format!("a ranking ends at place {MAX_OFFSET}")));
    }
    Ok((offset, top.limit.unwrap_or(TOP).items()))
}

fn cut<T>(ranked: Vec<Ranked<T>>, offset: u64, limit: usize) -> (Vec<Ranked<T>>, Option<String>) {
    let Page { items, next } = Page::cut(ranked, limit, |_| offset.saturating_add(limit as u64));
    (items, next)
}

/// A user of whom nothing is known any more.
fn nobody(id: UserId) -> UserBrief {
    UserBrief { id, username: String::new(), name: String::new() }
}

/// The names of the ranked conversations, as far as the caller may see them.
async fn names(
    edge: &Edge,
    caller: &Caller,
    ranked: &[Ranked<ConversationId>],
) -> Result<Vec<Option<String>>, ApiError> {
    let is_analyst = caller.is(Role::Analyst);
    let mut visible: Vec<GroupId> = Vec::new();
    for ranked in ranked {
        let ConversationId::Group(group) = ranked.key else { continue };
        if is_analyst || edge.membership.is_member(caller.user, group).await? {
            visible.push(group);
        }
    }
    let groups = edge.directory.groups(&visible).await?;
    let names: HashMap<ConversationId, String> =
        groups.into_iter().flatten().map(|group| (group.id.into(), group.name)).collect();
    Ok(ranked.iter().map(|ranked| names.get(&ranked.key).cloned()).collect())
}
