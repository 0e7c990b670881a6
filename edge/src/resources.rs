//! The API by resource: each file has its shapes, its handlers and its `router()`.

pub(crate) mod analytics;
pub(crate) mod attachments;
pub(crate) mod auth;
pub(crate) mod conversations;
pub(crate) mod events;
pub(crate) mod members;
pub(crate) mod messages;
pub(crate) mod presence;
pub(crate) mod reads;
pub(crate) mod recent;
pub(crate) mod sessions;
pub(crate) mod users;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use crate::Edge;

/// All resources.
pub(crate) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default()
        .merge(auth::router())
        .merge(sessions::router())
        .merge(users::router())
        .merge(conversations::router())
        .merge(members::router())
        .merge(messages::router())
        .merge(recent::router())
        .merge(reads::router())
        .merge(presence::router())
        .merge(attachments::router())
        .merge(analytics::router())
}
