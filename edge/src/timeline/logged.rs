//! Reads while history cannot be reached: from the log alone, when it certainly holds all that the answer needs.
//!
//! The log keeps every event for [`log::Log::retention`], so it holds the whole of a conversation that is younger than
//! that, and of any other its newest part. What cannot be answered from there for certain stays unavailable.

use std::time::Duration;

use history::{Message, Order, Page};
use types::{ConversationId, Entry, EventId, Timestamp};

use super::fold::{One, Window};
use super::{BATCH, Timeline};
use crate::ApiError;

/// Events of one conversation that are read for one answer, at most: it bounds the memory and the time.
const MAX_EVENTS: usize = 10_000;
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
        let fold = |entries: &[Entry]| {
            let mut window = Window::new(page, 0, Vec::new());
            entries.iter().for_each(|entry| window.apply(entry));
            window.into_messages()
        };
        if page.order == Order::Desc {
            let is_enough = |logged: &Logged| {
                let messages = fold(&logged.entries);
                (logged.is_whole || messages.len() >= page.limit).then_some(messages)
            };
            return self.end_of(conversation, page.before_seq, is_enough).await.ok_or_else(ApiError::unavailable);
        }
        let after_seq = page.after_seq.unwrap_or(0);
        let entries = self.logged_after(conversation, after_seq).await?;
        let follows = entries.first().is_some_and(|first| (1..=after_seq).contains(&first.prev));
        if follows || self.log_holds_all(conversation) { Ok(fold(&entries)) } else { Err(ApiError::unavailable()) }
    }

    /// As [`Timeline::message`]; unavailable when the message may be older than the log.
    pub(super) async fn logged_message(
        &self,
        conversation: ConversationId,
        id: EventId,
    ) -> Result<Option<Message>, ApiError> {
        let found = self.end_of(conversation, None, |logged| {
            let mut one = One::new(id, None);
            logged.entries.iter().for_each(|entry| one.apply(entry));
            let message = one.into_message();
            (logged.is_whole || message.is_some()).then_some(message)
        });
        found.await.ok_or_else(ApiError::unavailable)
    }

    /// Whether the log has kept everything that ever happened in a conversation: nothing can have happened before
    /// its group, or the younger of its two users, was born.
    pub(super) fn log_holds_all(&self, conversation: ConversationId) -> bool {
        let born_at = match conversation {
            ConversationId::Group(group) => group.born_at(),
            ConversationId::Direct(one, other) => one.born_at().max(other.born_at()),
        };
        born_at > Timestamp::now().minus(self.log.retention().saturating_sub(CLOCK_SKEW))
    }

    /// Reads the end of a conversation, each time from further back, until `answer` has enough. `None` when it never
    /// has, or that would take too much.
    async fn end_of<T>(
        &self,
        conversation: ConversationId,
        before_seq: Option<u64>,
        answer: impl Fn(&Logged) -> Option<T> + Send,
    ) -> Option<T> {
        let head = self.log.heads(&[conversation]).await.ok()?.into_iter().next().flatten();
        let end = head.map_or(0, |head| head.position.seq).min(before_seq.unwrap_or(u64::MAX));
        let mut step = FIRST_STEP;
        loop {
            let after_seq = end.saturating_sub(step);
            let entries = self.logged_after(conversation, after_seq).await.ok()?;
            let begins = after_seq == 0 || entries.first().is_some_and(|first| first.prev == 0);
            let logged = Logged { is_whole: begins && self.log_holds_all(conversation), entries };
            if let Some(answer) = answer(&logged) {
                return Some(answer);
            }
            if after_seq == 0 {
                return None;
            }
            step = step.saturating_mul(4);
        }
    }

    /// Every event of the log after `after_seq`, unavailable when that is too much.
    async fn logged_after(&self, conversation: ConversationId, after_seq: u64) -> Result<Vec<Entry>, ApiError> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let seen = entries.last().map_or(after_seq, |last| last.position.seq);
            let more = self.log.read(conversation, seen, BATCH).await?;
            let is_last = more.len() < BATCH;
            entries.extend(more);
            if is_last {
                return Ok(entries);
            }
            if entries.len() >= MAX_EVENTS {
                return Err(ApiError::unavailable());
            }
        }
    }
}

/// What the log holds of a conversation from some place to its end.
struct Logged {
    entries: Vec<Entry>,
    /// Whether that is everything that ever happened there.
    is_whole: bool,
}
