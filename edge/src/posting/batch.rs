//! Many messages into one conversation: in order, in one go to the log.

use std::collections::BTreeSet;

use types::{ConversationId, Event, EventId, UserId};

use super::{Begun, Draft, Posting, content};
use crate::ApiError;
use crate::error::FieldError;

impl Posting {
    /// Sends messages, each with its sender, and gives their ids in the same order. What can be known beforehand is
    /// checked beforehand: when one of them is not taken, none is sent. `pointer` says where the message of an index
    /// stands in the request.
    ///
    /// # Errors
    /// As [`Posting::send`]. When only some could be stored, the error names the others; the same request, with the
    /// same ids, completes it.
    pub(crate) async fn send_all(
        &self,
        conversation: ConversationId,
        messages: Vec<(UserId, Draft)>,
        pointer: impl Fn(usize) -> String,
    ) -> Result<Vec<EventId>, ApiError> {
        for (index, (_, draft)) in messages.iter().enumerate() {
            content::check(&draft.content, draft.attachment.is_some(), self.text_characters)
                .map_err(|error| error.below(&pointer(index)))?;
        }
        let senders: BTreeSet<UserId> = messages.iter().map(|(sender, _)| *sender).collect();
        for sender in senders {
            self.stores.membership.require(sender, conversation).await?;
        }
        let total = messages.len();
        let (mut begun, mut failure) = (Vec::with_capacity(total), None);
        for (sender, draft) in messages {
            match self.begin(sender, conversation, draft).await {
                Ok(one) => begun.push(one),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let not_begun = begun.len()..total;
        let (mut ids, mut errors) = (Vec::with_capacity(total), Vec::new());
        for (index, Begun { event: Event { id, .. }, stored }) in begun.into_iter().enumerate() {
            match stored.await {
                Ok(_) => ids.push(id),
                Err(error) => {
                    errors.push(FieldError { pointer: pointer(index), detail: error.detail().to_owned() });
                    failure.get_or_insert(error);
                }
            }
        }
        let Some(failure) = failure else { return Ok(ids) };
        errors.extend(not_begun.map(|index| FieldError { pointer: pointer(index), detail: "was not tried".into() }));
        Err(ApiError::partial(failure, ids.len(), errors))
    }
}
