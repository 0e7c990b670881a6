//! The literal paths of the briefs that name paths of their own: thin translations to the handlers and services
//! behind `/v1`, with the same authentication, limits, errors and order. Each dialect has a tag of its own in the
//! description of the API.
//!
//! | module | dialect |
//! |---|---|
//! | [`accounts`] | `/users`, which several dialects share, and what signing up and in has in common |
//! | [`realtime`] | real-time chat: `/auth/…`, `/chats/…`, `/groups/…` |
//! | [`chatrooms`] | chatrooms: `/chatrooms/…` |
//! | [`chat_api`] | chat with live delivery: `/register`, `/login`, `/conversations/…` |
//! | [`two_party`] | two users: `/messages` |

mod accounts;
mod chat_api;
mod chatrooms;
mod realtime;
mod two_party;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;

use crate::Edge;

/// All dialects.
pub(crate) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default()
        .merge(accounts::router())
        .merge(realtime::router())
        .merge(chatrooms::router())
        .merge(chat_api::router())
        .merge(two_party::router())
}
