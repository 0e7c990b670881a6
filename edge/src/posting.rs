//! Messages on their way into the log.
#![allow(dead_code, unused, missing_docs)]
use std::sync::Arc;
use directory::Directory;
use history::{History, Message};
use log::{Append, Log};
use types::*;
use crate::{membership::Membership, timeline::Timeline, ApiError};
pub(crate) struct Posting { stores: Stores }
pub(crate) struct Stores {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) history: Arc<dyn History>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) timeline: Arc<Timeline>,
}
pub(crate) struct Draft { pub(crate) id: Option<EventId>, pub(crate) content: Content }
pub(crate) struct Posted { pub(crate) message: Message, pub(crate) position: Position, pub(crate) duplicate: bool }
impl Posting {
    pub(crate) fn new(stores: Stores, text_characters: usize) -> Self { Self { stores } }
    pub(crate) async fn send(&self, sender: UserId, conversation: ConversationId, draft: Draft) -> Result<Posted, ApiError> {
        let Draft { id, content } = draft;
        let id = id.unwrap_or_else(|| EventId::generate(Region::default()));
        let payload = Event { id, sender, body: Body::Message(content.clone()) }.encode();
        let appended = self.stores.log.append(Append { conversation, id, payload }).await?.await?;
        let message = Message { id, conversation, seq: appended.position.seq, sender, content, created_at: appended.at, updated_at: appended.at, deleted: false };
        Ok(Posted { message, position: appended.position, duplicate: appended.duplicate })
    }
    pub(crate) async fn edit(&self, caller: UserId, conversation: ConversationId, message: EventId, text: String) -> Result<Message, ApiError> { Err(ApiError::not_found()) }
    pub(crate) async fn delete(&self, caller: UserId, conversation: ConversationId, message: EventId) -> Result<(), ApiError> { Err(ApiError::not_found()) }
    pub(crate) async fn read(&self, user: UserId, conversation: ConversationId, seq: u64) -> Result<u64, ApiError> {
        Ok(self.stores.history.mark_read(user, conversation, seq).await?)
    }
}
