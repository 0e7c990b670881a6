//! Ids in paths. What is no id is 404, like an id that stands for nothing.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use directory::Role;
use http::request::Parts;
use types::{AttachmentId, ConversationId, EventId, SessionId, UserId};
use utoipa::IntoParams;

use crate::auth::Caller;
use crate::{ApiError, Edge};

/// What stands for oneself in a path.
const ME: &str = "me";

/// A conversation that the caller is a member of.
pub(crate) struct InConversation {
    pub(crate) caller: Caller,
    pub(crate) conversation: ConversationId,
}

/// A conversation that the caller may send to: one that it is a member of, or any when it may import, for then the
/// sender that it names must be a member.
pub(crate) struct ToConversation {
    pub(crate) caller: Caller,
    pub(crate) conversation: ConversationId,
}

/// A message, by its id, in a conversation that the caller is a member of.
pub(crate) struct OfMessage {
    pub(crate) caller: Caller,
    pub(crate) conversation: ConversationId,
    pub(crate) message: EventId,
}

/// A user, in a conversation that the caller is a member of.
pub(crate) struct OfMember {
    pub(crate) caller: Caller,
    pub(crate) conversation: ConversationId,
    pub(crate) user: UserId,
}

/// A user.
pub(crate) struct OfUser {
    pub(crate) caller: Caller,
    pub(crate) user: UserId,
}

/// A session.
pub(crate) struct OfSession {
    pub(crate) caller: Caller,
    pub(crate) session: SessionId,
}

/// An attachment, whoever may see it.
pub(crate) struct OfAttachment {
    pub(crate) caller: Caller,
    pub(crate) attachment: AttachmentId,
}

/// An upload by a link.
pub(crate) struct OfUpload {
    pub(crate) caller: Caller,
    pub(crate) upload: AttachmentId,
}

impl FromRequestParts<Arc<Edge>> for InConversation {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, edge: &Arc<Edge>) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, edge).await?;
        let conversation = conversation_of(&caller, &param(parts, "conversation").await?)?;
        edge.membership.require(caller.user, conversation).await?;
        Ok(Self { caller, conversation })
    }
}

impl FromRequestParts<Arc<Edge>> for ToConversation {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, edge: &Arc<Edge>) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, edge).await?;
        let conversation = conversation_of(&caller, &param(parts, "conversation").await?)?;
        if !caller.is(Role::Import) {
            edge.membership.require(caller.user, conversation).await?;
        }
        Ok(Self { caller, conversation })
    }
}

/// The conversation of this name: its id, or `@` and a user. Whether the caller is a member is not asked here.
pub(crate) fn conversation_of(caller: &Caller, text: &str) -> Result<ConversationId, ApiError> {
    match text.strip_prefix('@') {
        Some(user) => Ok(ConversationId::direct(caller.user, user_of(caller, user)?)),
        None => parse(text),
    }
}

impl FromRequestParts<Arc<Edge>> for OfMessage {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, edge: &Arc<Edge>) -> Result<Self, ApiError> {
        let InConversation { caller, conversation } = InConversation::from_request_parts(parts, edge).await?;
        let message = parse(&param(parts, "message").await?)?;
        Ok(Self { caller, conversation, message })
    }
}

impl FromRequestParts<Arc<Edge>> for OfMember {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, edge: &Arc<Edge>) -> Result<Self, ApiError> {
        let InConversation { caller, conversation } = InConversation::from_request_parts(parts, edge).await?;
        let user = user_of(&caller, &param(parts, "user").await?)?;
        Ok(Self { caller, conversation, user })
    }
}

impl FromRequestParts<Arc<Edge>> for OfUser {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, edge: &Arc<Edge>) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, edge).await?;
        let user = user_of(&caller, &param(parts, "user").await?)?;
        Ok(Self { caller, user })
    }
}

impl FromRequestParts<Arc<Edge>> for OfSession {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, edge: &Arc<Edge>) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, edge).await?;
        let session = parse(&param(parts, "session").await?)?;
        Ok(Self { caller, session })
    }
}

impl FromRequestParts<Arc<Edge>> for OfAttachment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, edge: &Arc<Edge>) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, edge).await?;
        let attachment = parse(&param(parts, "attachment").await?)?;
        Ok(Self { caller, attachment })
    }
}

impl FromRequestParts<Arc<Edge>> for OfUpload {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, edge: &Arc<Edge>) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, edge).await?;
        let upload = parse(&param(parts, "upload").await?)?;
        Ok(Self { caller, upload })
    }
}

fn user_of(caller: &Caller, text: &str) -> Result<UserId, ApiError> {
    if text == ME { Ok(caller.user) } else { parse(text) }
}

fn parse<T: FromStr>(text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|_| ApiError::not_found())
}

async fn param(parts: &mut Parts, name: &str) -> Result<String, ApiError> {
    let params = RawPathParams::from_request_parts(parts, &()).await.map_err(|_| ApiError::not_found())?;
    let found = params.iter().find(|(key, _)| *key == name);
    found.map(|(_, value)| value.to_owned()).ok_or_else(ApiError::not_found)
}

macro_rules! documented {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident),+ }) => {
        $(#[$doc])*
        #[derive(IntoParams)]
        #[into_params(parameter_in = Path)]
        #[expect(dead_code, reason = "it only describes the path; the extractors above read it")]
        pub(crate) struct $name {
            $($(#[$field_doc])* $field: String,)+
        }
    };
}

documented!(
    /// Describes the path of [`InConversation`].
    ConversationParam {
        /// A conversation's id, or `@` and a user's id (or `@me`) for the direct conversation with that user.
        conversation
    }
);
documented!(
    /// Describes the path of [`OfMessage`].
    MessageParams {
        /// A conversation's id, or `@` and a user's id (or `@me`) for the direct conversation with that user.
        conversation,
        /// A message's id.
        message
    }
);
documented!(
    /// Describes the path of [`OfMember`].
    MemberParams {
        /// A conversation's id, or `@` and a user's id (or `@me`) for the direct conversation with that user.
        conversation,
        /// A user's id, or `me`.
        user
    }
);
documented!(
    /// Describes the path of [`OfUser`].
    UserParam {
        /// A user's id, or `me`.
        user
    }
);
documented!(
    /// Describes the path of [`OfAttachment`].
    AttachmentParam {
        /// An attachment's id.
        attachment
    }
);
documented!(
    /// Describes the path of [`OfUpload`].
    UploadParam {
        /// The id of an upload by a link.
        upload
    }
);
documented!(
    /// Describes the path of [`OfSession`].
    SessionParam {
        /// A session's id.
        session
    }
);
