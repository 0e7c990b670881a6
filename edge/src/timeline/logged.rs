//! Reads while history cannot be reached: from the log alone, when it certainly holds all that the answer needs.
//!
//! The log keeps every event for [`log::Log::retention`], so it holds the whole of a conversation that is younger than
//! that, and of any other its newest part. What cannot be answered from there for certain stays unavailable.

use std::time::Duration;

use history::{Message, Order, Page};
use types::{ConversationId, Entry, EventId, Position, Timestamp};

use super::fold::{One, Window};
use super::{BATCH, Latest, Timeline};
use crate::ApiError;

/// Events of one conversation that are read for one answer, at most: it bounds the time. They are folded as they come
/// and not held.
const MAX_EVENTS: usize = 50_000;
/// How far before the end of the log a read begins, in `seq`. Each further attempt begins four times as far.
const FIRST_STEP: u64 = 512;
/// How far the clocks of those who make ids and of those who store events may differ.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

impl Timeline {
    /// As [`Timeline::messages`]; unavailable unless the log holds all that the page needs.
    pub(super) async fn logged_messages(
        &self,
        conversation: ConversationId,
        page: &Page,
    ) -> Result<Vec<Message>, ApiError> {
        if page.order == Order::Desc {
            return self.newest_logged(conversation, page).await;
        }
        let mut window = Window::new(page, 0, Vec::new());
        let after_seq = page.after_seq.unwrap_or(0);
        let stretch = self.fold_after(conversation, after_seq, |entry| window.apply(entry)).await?;
        let follows = (1..=after_seq).contains(&stretch.first_prev.unwrap_or(0));
        let is_certain = follows || self.log_holds_all(conversation);
        if is_certain { Ok(window.into_messages()) } else { Err(ApiError::unavailable()) }
    }

    async fn newest_logged(&self, conversation: ConversationId, page: &Page) -> Result<Vec<Message>, ApiError> {
        for after_seq in self.beginnings(conversation, page.before_seq).await? {
            let mut window = Window::new(page, 0, Vec::new());
            let stretch = self.fold_after(conversation, after_seq, |entry| window.apply(entry)).await?;
            let messages = window.into_messages();
            if stretch.is_whole || messages.len() >= page.limit {
                return Ok(messages);
            }
        }
        Err(ApiError::unavailable())
    }

    /// As [`Timeline::message`]; unavailable when the message may be older than the log.
    pub(super) async fn logged_message(
        &self,
        conversation: ConversationId,
        id: EventId,
    ) -> Result<Option<Message>, ApiError> {
        for after_seq in self.beginnings(conversation, None).await? {
            let mut one = One::new(id, None);
            let stretch = self.fold_after(conversation, after_seq, |entry| one.apply(entry)).await?;
            let message = one.into_message();
            if stretch.is_whole || message.is_some() {
                return Ok(message);
            }
        }
        Err(ApiError::unavailable())
    }

    /// As [`Timeline::latest`] of one conversation: what the log knows of its end.
    pub(super) async fn logged_latest(&self, conversation: ConversationId) -> Result<Latest, ApiError> {
        let Some(head) = self.log.heads(&[conversation]).await?.into_iter().next().flatten() else {
            let is_whole = self.log_holds_all(conversation);
            let position = is_whole.then(|| Position { epoch: self.log.layout().epoch, seq: 0 });
            return Ok(Latest { position, last_message: None, is_whole });
        };
        let last = Page { before_seq: None, after_seq: None, since: None, sender: None, order: Order::Desc, limit: 1 };
        let messages = self.newest_logged(conversation, &last).await;
        let is_whole = messages.is_ok();
        // The last message may be older than the log: then it is not known.
        let last_message = messages.ok().and_then(|messages| messages.into_iter().next());
        Ok(Latest { position: Some(head.position), last_message, is_whole })
    }

    /// Whether the log has kept everything that ever happened in a conversation: nothing can have happened before
    /// its group, or the younger of its two users, was born.
    pub(super) fn log_holds_all(&self, conversation: ConversationId) -> bool {
        conversation.born_at() > self.holds_all_since()
    }

    /// Since when the log has certainly kept everything.
    pub(super) fn holds_all_since(&self) -> Timestamp {
        Timestamp::now().minus(self.log.retention().saturating_sub(CLOCK_SKEW))
    }

    /// Where to begin to read the end of a conversation: each time further back, at last at its beginning.
    async fn beginnings(
        &self,
        conversation: ConversationId,
        before_seq: Option<u64>,
    ) -> Result<impl Iterator<Item = u64> + use<>, ApiError> {
        let head = self.log.heads(&[conversation]).await?.into_iter().next().flatten();
        let end = head.map_or(0, |head| head.position.seq).min(before_seq.unwrap_or(u64::MAX));
        let steps = std::iter::successors(Some(FIRST_STEP), |step| step.checked_mul(4));
        let further_back = steps.map(move |step| end.saturating_sub(step)).take_while(|after_seq| *after_seq > 0);
        Ok(further_back.chain([0]))
    }

    /// Shows `see` every event of the log after `after_seq`; unavailable when that is too much.
    async fn fold_after(
        &self,
        conversation: ConversationId,
        after_seq: u64,
        mut see: impl FnMut(&Entry) + Send,
    ) -> Result<Stretch, ApiError> {
        let (mut seen, mut events, mut first_prev) = (after_seq, 0, None);
        loop {
            let entries = self.log.read(conversation, seen, BATCH).await?;
            first_prev = first_prev.or_else(|| entries.first().map(|first| first.prev));
            entries.iter().for_each(&mut see);
            let Some(last) = entries.last().filter(|_| entries.len() == BATCH) else { break };
            (seen, events) = (last.position.seq, events + entries.len());
            if events >= MAX_EVENTS {
                return Err(ApiError::unavailable());
            }
        }
        let begins = after_seq == 0 || first_prev == Some(0);
        Ok(Stretch { first_prev, is_whole: begins && self.log_holds_all(conversation) })
    }
}

/// What the log holds of a conversation from some place to its end.
struct Stretch {
    /// The place before the first event, if there is an event.
    first_prev: Option<u64>,
    /// Whether that is everything that ever happened there.
    is_whole: bool,
}
