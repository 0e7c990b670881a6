//! The ends of conversations: when something last happened, and what was last said.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use history::{End, Message, Tail};
use types::{ConversationId, Position, Timestamp, UserId};

use super::Timeline;
use super::fold::Last;
use crate::ApiError;

/// The ends of so many conversations are asked of the log, which is exact in any case. For more it is first found out
/// whether history has them all: it answers for a hundred at once, and the log for each alone.
const ASKED_OF_LOG: usize = 64;
/// Conversations that are read at the same time.
const AT_ONCE: usize = 8;

/// What is known of the end of a conversation.
#[derive(Debug, PartialEq)]
pub(crate) struct Latest {
    /// The place of its last event, with a `seq` of 0 when nothing has happened. `None` when it is not known: history is
    /// away, and what the log has kept is all later.
    pub(crate) position: Option<Position>,
    /// The last message in its present state, if one is known.
    pub(crate) last_message: Option<Message>,
    /// Whether a message that is not known is none.
    pub(crate) is_whole: bool,
}

impl Latest {
    /// Of a conversation of which nothing can be told.
    pub(crate) fn unknown() -> Self {
        Self { position: None, last_message: None, is_whole: false }
    }
}

impl Timeline {
    /// The ends of conversations, as far as they are known: while history is away, the log alone tells what it holds.
    pub(crate) async fn latest(&self, conversations: &[ConversationId]) -> Result<Vec<Latest>, ApiError> {
        if !self.outage.is_on()
            && let Some(tails) = self.outage.note(self.history.tails(conversations).await)?
        {
            let tails = self.with_log(conversations, tails).await?;
            return Ok(tails.into_iter().map(|tail| self.whole(tail)).collect());
        }
        let reads: Vec<_> = conversations.iter().map(|conversation| self.logged_latest(*conversation)).collect();
        stream::iter(reads).buffered(AT_ONCE).try_collect().await
    }

    /// The end of a conversation that has just begun: all of it is in the log, whatever its id says.
    pub(crate) async fn latest_of_new(&self, conversation: ConversationId) -> Result<Latest, ApiError> {
        let tails = self.with_log(&[conversation], vec![None]).await?;
        Ok(self.whole(tails.into_iter().next().flatten()))
    }

    pub(super) fn whole(&self, tail: Option<Tail>) -> Latest {
        let nowhere = Position { epoch: self.log.layout().epoch, seq: 0 };
        let position = Some(tail.as_ref().map_or(nowhere, |tail| tail.position));
        Latest { position, last_message: tail.and_then(|tail| tail.last_message), is_whole: true }
    }

    /// These tails of what is stored, brought up to the end of the log.
    async fn with_log(
        &self,
        conversations: &[ConversationId],
        tails: Vec<Option<Tail>>,
    ) -> Result<Vec<Option<Tail>>, ApiError> {
        let heads = self.log.heads(conversations).await?;
        let reads: Vec<_> = conversations
            .iter()
            .zip(tails)
            .zip(heads)
            .map(async |((conversation, tail), head)| {
                let stored_seq = tail.as_ref().map_or(0, |tail| tail.position.seq);
                let Some(head) = head.filter(|head| head.position.seq > stored_seq) else { return Ok(tail) };
                let mut last = Last::new(tail);
                self.scan_to(*conversation, stored_seq, head, |entry| last.apply(entry)).await?;
                Ok(last.into_tail())
            })
            .collect();
        stream::iter(reads).buffered(AT_ONCE).try_collect().await
    }

    /// Where conversations end and when, of those in which anything has happened: for their order. Cheaper than
    /// [`Timeline::latest`], above all for many.
    pub(crate) async fn ends(&self, conversations: &[ConversationId]) -> Result<Vec<Option<End>>, ApiError> {
        if conversations.len() > ASKED_OF_LOG
            && !self.outage.is_on()
            && self.settle(Duration::ZERO).await.is_ok_and(|is_settled| is_settled)
            && let Some(ends) = self.outage.note(self.history.ends(conversations).await)?
        {
            return Ok(ends);
        }
        let mut ends = self.logged_ends(conversations).await?;
        let out_of_log: Vec<usize> = (0..ends.len()).filter(|index| ends[*index].is_none()).collect();
        if out_of_log.is_empty() {
            return Ok(ends);
        }
        let asked: Vec<ConversationId> = out_of_log.iter().map(|index| conversations[*index]).collect();
        let found = self.outage.note(self.history.ends(&asked).await)?.ok_or_else(ApiError::unavailable)?;
        for (index, end) in out_of_log.into_iter().zip(found) {
            ends[index] = end;
        }
        Ok(ends)
    }

    /// As [`Timeline::ends`]; while history is away, what the log knows. With it comes the moment since when the log has
    /// everything: what it does not know of lies before. `None` when all is known.
    pub(crate) async fn known_ends(
        &self,
        conversations: &[ConversationId],
    ) -> Result<(Vec<Option<End>>, Option<Timestamp>), ApiError> {
        if !self.outage.is_on() {
            match self.ends(conversations).await {
                Err(error) if error.code() == "unavailable" => {}
                ends => return Ok((ends?, None)),
            }
        }
        Ok((self.logged_ends(conversations).await?, Some(self.holds_all_since())))
    }

    /// The ends of those conversations of which the log holds an event: these are exact.
    async fn logged_ends(&self, conversations: &[ConversationId]) -> Result<Vec<Option<End>>, ApiError> {
        let heads = self.log.heads(conversations).await?;
        Ok(heads.into_iter().map(|head| head.map(|head| End { position: head.position, at: head.at })).collect())
    }

    /// The `seq` of the last event of each conversation, 0 where nothing has happened.
    pub(crate) async fn newest(&self, conversations: &[ConversationId]) -> Result<Vec<u64>, ApiError> {
        let ends = self.ends(conversations).await?;
        Ok(ends.into_iter().map(|end| end.map_or(0, |end| end.position.seq)).collect())
    }

    /// How far a user has read conversations; `None` while history is away, which alone knows.
    pub(crate) async fn read_marks(
        &self,
        user: UserId,
        conversations: &[ConversationId],
    ) -> Result<Option<Vec<u64>>, ApiError> {
        if self.outage.is_on() {
            return Ok(None);
        }
        Ok(self.outage.note(self.history.read_marks(user, conversations).await)?)
    }
}
