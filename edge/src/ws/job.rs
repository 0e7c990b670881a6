//! What is done about a client's frame.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use types::{ConversationId, UserId};

use super::reply;
use super::request::{Action, Request};
use super::socket::Unstored;
use crate::ApiError;
use crate::hub::connection::Connection;
use crate::live::Live;
use crate::posting::Draft;

/// How something that was begun for a connection ended.
pub(crate) enum Done {
    /// There is nothing to say.
    Quietly,
    /// With these frames.
    With(Bytes),
    /// A message is on its way into the log.
    Sent(Unstored),
    /// The connection no longer has what it should: the client must come back.
    Adrift,
}

/// Does what a frame asks for.
pub(super) fn of(live: Arc<Live>, connection: &Arc<Connection>, request: Request) -> BoxFuture<'static, Done> {
    let Request { reference, action } = request;
    let user = connection.user;
    match action {
        Action::Send(conversation, draft) => Box::pin(send(live, user, reference, (conversation, draft))),
        Action::Watch(users) => {
            let connection = connection.clone();
            Box::pin(async move {
                let watching = live.watch(&connection, users).await;
                answer(reference.as_deref(), watching.map(|()| Effect::Told))
            })
        }
        action => Box::pin(async move { answer(reference.as_deref(), act(&live, user, action).await) }),
    }
}

async fn send(
    live: Arc<Live>,
    user: UserId,
    reference: Option<String>,
    (conversation, draft): (ConversationId, Draft),
) -> Done {
    let began = Instant::now();
    match live.posting.begin(user, conversation, draft).await {
        Ok(begun) => Done::Sent(Unstored { reference, conversation, id: begun.event.id, began, stored: begun.stored }),
        Err(error) => answer(reference.as_deref(), Err(error)),
    }
}

/// Whether the client is told that it was done.
enum Effect {
    Told,
    Untold,
}

async fn act(live: &Live, user: UserId, action: Action) -> Result<Effect, ApiError> {
    match action {
        Action::Edit(conversation, message, text) => {
            live.posting.edit(user, conversation, message, text).await?;
        }
        Action::Delete(conversation, message) => live.posting.delete(user, conversation, message).await?,
        Action::Read(conversation, seq) => {
            live.posting.read(user, conversation, seq).await?;
        }
        Action::Typing(conversation) => {
            live.posting.typing(user, conversation).await?;
            return Ok(Effect::Untold);
        }
        Action::Delivered(conversation, seq) => {
            live.posting.delivered(user, conversation, seq).await?;
            return Ok(Effect::Untold);
        }
        Action::Send(..) | Action::Resume(_) | Action::Ping | Action::Watch(_) => return Ok(Effect::Untold),
    }
    Ok(Effect::Told)
}

fn answer(reference: Option<&str>, result: Result<Effect, ApiError>) -> Done {
    match result {
        Ok(Effect::Told) => Done::With(reply::done(reference)),
        Ok(Effect::Untold) => Done::Quietly,
        Err(error) => {
            let mut frames = Vec::new();
            reply::error(&mut frames, reference, &error);
            Done::With(frames.into())
        }
    }
}
