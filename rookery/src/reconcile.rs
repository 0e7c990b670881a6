//! Compares counts with history: every message is in both, once.
//!
//! History cannot list its conversations. So each one that has counts is compared, and then each one that a user of
//! the directory has and that has none. What is left out: conversations without counts whose users are all
//! deleted or have left.

use std::collections::{HashMap, HashSet};

use analytics::{Filter, Ranked};
use anyhow::{Context, bail};
use edge::Seams;
use history::{Order, Page};
use types::{ConversationId, Timestamp, UserId};

/// The most conversations, and the most users, that are compared at once. It bounds the memory.
const MOST: usize = 1_000_000;
/// Counts that are read at once.
const RANKED_AT_ONCE: usize = 10_000;
/// Messages, users or peers that are read at once.
const READ_AT_ONCE: usize = 500;

/// Which messages are compared.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From this moment on.
    pub start: Option<Timestamp>,
    /// Before this moment.
    pub end: Timestamp,
}

impl Bounds {
    fn hold(&self, at: Timestamp) -> bool {
        self.start.is_none_or(|start| start <= at) && at < self.end
    }
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Conversations that have messages, by one of the two.
    pub conversations: u64,
    /// Users who have sent messages, by one of the two.
    pub users: u64,
    /// Messages in history.
    pub messages: u64,
    /// Conversations and users whose numbers differ.
    pub differences: u64,
}

/// Compares, and tells each difference as it is found.
///
/// # Errors
/// When a store cannot be read, or there is too much to compare at once.
pub async fn reconcile(seams: &Seams, bounds: Bounds, tell: impl FnMut(String)) -> anyhow::Result<Compared> {
    let mut comparison =
        Comparison { seams, bounds, tell, seen: HashSet::new(), sent: HashMap::new(), compared: Compared::default() };
    comparison.conversations_with_counts().await?;
    comparison.conversations_of_users().await?;
    comparison.users().await?;
    Ok(comparison.compared)
}

/// A comparison that is under way.
struct Comparison<'a, F> {
    seams: &'a Seams,
    bounds: Bounds,
    tell: F,
    /// Conversations that were compared.
    seen: HashSet<ConversationId>,
    /// Messages in history, by sender.
    sent: HashMap<UserId, u64>,
    compared: Compared,
}

impl<F: FnMut(String)> Comparison<'_, F> {
    async fn conversations_with_counts(&mut self) -> anyhow::Result<()> {
        let analytics = self.seams.analytics.clone();
        let mut offset = 0;
        loop {
            let filter = self.filter();
            let page = analytics.top_conversations(&filter, offset, RANKED_AT_ONCE).await.context("counts")?;
            for Ranked { key, messages } in &page {
                self.compare(*key, *messages).await?;
            }
            if page.len() < RANKED_AT_ONCE {
                return Ok(());
            }
            offset += page.len() as u64;
        }
    }

    /// Groups and direct conversations of all users: those that were not compared yet have no counts.
    async fn conversations_of_users(&mut self) -> anyhow::Result<()> {
        let directory = self.seams.directory.clone();
        let mut after: Option<String> = None;
        loop {
            let users = directory.search_users("", after.as_deref(), READ_AT_ONCE).await.context("users")?;
            for user in &users {
                self.groups_of(user.id).await?;
                self.direct_conversations_of(user.id).await?;
            }
            match users.last() {
                Some(last) if users.len() == READ_AT_ONCE => after = Some(last.username.clone()),
                _ => return Ok(()),
            }
        }
    }

    async fn groups_of(&mut self, user: UserId) -> anyhow::Result<()> {
        for group in self.seams.directory.groups_of(user).await.context("groups")? {
            self.compare(group.into(), 0).await?;
        }
        Ok(())
    }

    async fn direct_conversations_of(&mut self, user: UserId) -> anyhow::Result<()> {
        let history = self.seams.history.clone();
        let mut after = None;
        loop {
            let peers = history.peers(user, after, READ_AT_ONCE).await.context("peers")?;
            for peer in &peers {
                self.compare(ConversationId::direct(user, *peer), 0).await?;
            }
            if peers.len() < READ_AT_ONCE {
                return Ok(());
            }
            after = peers.last().copied();
        }
    }

    /// Compares a conversation, unless it was compared before.
    async fn compare(&mut self, conversation: ConversationId, counted: u64) -> anyhow::Result<()> {
        if !self.seen.insert(conversation) {
            return Ok(());
        }
        if self.seen.len() > MOST {
            bail!("more than {MOST} conversations: compare a shorter time at once");
        }
        let in_history = self.count_in_history(conversation).await?;
        if counted > 0 || in_history > 0 {
            self.compared.conversations += 1;
        }
        self.compared.messages += in_history;
        self.tell_difference("conversation", &conversation.to_string(), counted, in_history);
        Ok(())
    }

    /// Messages of a conversation in history, also noted by sender.
    async fn count_in_history(&mut self, conversation: ConversationId) -> anyhow::Result<u64> {
        let (mut messages, mut after_seq) = (0, None);
        loop {
            let page = Page {
                before_seq: None,
                after_seq,
                since: self.bounds.start,
                sender: None,
                order: Order::Asc,
                limit: READ_AT_ONCE,
            };
            let read = self.seams.history.messages(conversation, &page).await.context("history")?;
            // Nothing was said after it was stored, so what was stored before the start was said before it too. What
            // was stored after the end may have been said long before.
            for message in read.iter().filter(|message| self.bounds.hold(message.content.said_at(message.created_at))) {
                messages += 1;
                *self.sent.entry(message.sender).or_default() += 1;
            }
            if self.sent.len() > MOST {
                bail!("more than {MOST} users: compare a shorter time at once");
            }
            if read.len() < READ_AT_ONCE {
                return Ok(messages);
            }
            after_seq = read.last().map(|message| message.seq);
        }
    }

    async fn users(&mut self) -> anyhow::Result<()> {
        let analytics = self.seams.analytics.clone();
        let mut sent = std::mem::take(&mut self.sent);
        let mut offset = 0;
        loop {
            let page = analytics.top_users(&self.filter(), offset, RANKED_AT_ONCE).await.context("counts")?;
            for Ranked { key, messages } in &page {
                self.compared.users += 1;
                self.tell_difference("user", &key.to_string(), *messages, sent.remove(key).unwrap_or(0));
            }
            if page.len() < RANKED_AT_ONCE {
                break;
            }
            offset += page.len() as u64;
        }
        // In order, so that two runs tell the same.
        let mut uncounted: Vec<_> = sent.into_iter().collect();
        uncounted.sort_unstable();
        for (user, in_history) in uncounted {
            self.compared.users += 1;
            self.tell_difference("user", &user.to_string(), 0, in_history);
        }
        Ok(())
    }

    fn tell_difference(&mut self, kind: &str, id: &str, counted: u64, in_history: u64) {
        if counted != in_history {
            self.compared.differences += 1;
            (self.tell)(format!("{kind} {id}: {counted} counted, {in_history} in history"));
        }
    }

    fn filter(&self) -> Filter {
        Filter { start: self.bounds.start, end: Some(self.bounds.end), region: None, include_direct: true }
    }
}

#[cfg(test)]
mod tests;
