//! History.

use async_trait::async_trait;
use history::{End, Error, History, Message, Page, Result, Tail};
use types::{ConversationId, Entry, EventId, UserId};

use super::Late;

#[async_trait]
impl History for Late<dyn History> {
    async fn store(&self, entries: &[Entry]) -> Result<()> {
        self.there(Error::Unavailable)?.store(entries).await
    }

    async fn tails(&self, conversations: &[ConversationId]) -> Result<Vec<Option<Tail>>> {
        self.there(Error::Unavailable)?.tails(conversations).await
    }

    async fn ends(&self, conversations: &[ConversationId]) -> Result<Vec<Option<End>>> {
        self.there(Error::Unavailable)?.ends(conversations).await
    }

    async fn messages(&self, conversation: ConversationId, page: &Page) -> Result<Vec<Message>> {
        self.there(Error::Unavailable)?.messages(conversation, page).await
    }

    async fn message(&self, conversation: ConversationId, id: EventId) -> Result<Option<Message>> {
        self.there(Error::Unavailable)?.message(conversation, id).await
    }

    async fn event(&self, conversation: ConversationId, id: EventId) -> Result<Option<Entry>> {
        self.there(Error::Unavailable)?.event(conversation, id).await
    }

    async fn events(&self, conversation: ConversationId, after_seq: u64, limit: usize) -> Result<Vec<Entry>> {
        self.there(Error::Unavailable)?.events(conversation, after_seq, limit).await
    }

    async fn last_seq(&self, conversation: ConversationId, until: u64) -> Result<u64> {
        self.there(Error::Unavailable)?.last_seq(conversation, until).await
    }

    async fn peers(&self, user: UserId, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>> {
        self.there(Error::Unavailable)?.peers(user, after, limit).await
    }

    async fn mark_read(&self, user: UserId, conversation: ConversationId, seq: u64) -> Result<u64> {
        self.there(Error::Unavailable)?.mark_read(user, conversation, seq).await
    }

    async fn read_marks(&self, user: UserId, conversations: &[ConversationId]) -> Result<Vec<u64>> {
        self.there(Error::Unavailable)?.read_marks(user, conversations).await
    }
}
