//! History merged with the tail of the log.
#![allow(dead_code, unused, missing_docs)]
use std::sync::Arc;
use history::{History, Message, Page, Tail};
use log::Log;
use types::{ConversationId, Entry, EventId};
use crate::ApiError;
pub(crate) struct Timeline { history: Arc<dyn History> }
impl Timeline {
    pub(crate) fn new(log: Arc<dyn Log>, history: Arc<dyn History>) -> Self { Self { history } }
    pub(crate) async fn messages(&self, conversation: ConversationId, page: &Page) -> Result<Vec<Message>, ApiError> {
        Ok(self.history.messages(conversation, page).await?)
    }
    pub(crate) async fn message(&self, conversation: ConversationId, id: EventId) -> Result<Option<Message>, ApiError> {
        Ok(self.history.message(conversation, id).await?)
    }
    pub(crate) async fn tails(&self, conversations: &[ConversationId]) -> Result<Vec<Option<Tail>>, ApiError> {
        Ok(self.history.tails(conversations).await?)
    }
}
