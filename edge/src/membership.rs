//! Who may read and write where: asked of the directory once, then remembered, and forgotten at the notice of
//! a change. No query per message.

use std::sync::Arc;
use std::time::Duration;

use directory::Directory;
use moka::sync::Cache;
use parking_lot::Mutex;
use types::{ConversationId, GroupId, UserId};

use crate::ApiError;

/// Answers that are remembered, at most.
const CAPACITY: u64 = 500_000;
/// A notice may be lost, so an answer is not believed for longer than this.
const TIME_TO_LIVE: Duration = Duration::from_secs(60);

/// Who may read and write where.
pub(crate) struct Membership {
    directory: Arc<dyn Directory>,
    /// Whether the user is a member of the group.
    known: Cache<(GroupId, UserId), bool>,
    /// How many notices have come. A look-up that was under way when one came is used but not remembered.
    notices: Mutex<u64>,
}

impl Membership {
    pub(crate) fn new(directory: Arc<dyn Directory>) -> Self {
        let known = Cache::builder().max_capacity(CAPACITY).time_to_live(TIME_TO_LIVE).build();
        Self { directory, known, notices: Mutex::new(0) }
    }

    /// Passes a member and gives everybody else the same [`ApiError::not_found`].
    pub(crate) async fn require(&self, user: UserId, conversation: ConversationId) -> Result<(), ApiError> {
        let is_member = match conversation {
            ConversationId::Direct(first, second) => user == first || user == second,
            ConversationId::Group(group) => self.is_member(user, group).await?,
        };
        if is_member { Ok(()) } else { Err(ApiError::not_found()) }
    }

    /// Whether `user` is a member of `group`.
    pub(crate) async fn is_member(&self, user: UserId, group: GroupId) -> Result<bool, ApiError> {
        if let Some(known) = self.known.get(&(group, user)) {
            return Ok(known);
        }
        let notices = *self.notices.lock();
        let is_member = self.directory.role(group, user).await?.is_some();
        let still = self.notices.lock();
        if *still == notices {
            self.known.insert((group, user), is_member);
        }
        Ok(is_member)
    }

    /// Takes note of a change, from a notice or from the answer to one's own command.
    pub(crate) fn set(&self, group: GroupId, user: UserId, is_member: bool) {
        let mut notices = self.notices.lock();
        *notices += 1;
        self.known.insert((group, user), is_member);
    }

    /// Forgets everything: notices may have been lost.
    pub(crate) fn clear(&self) {
        let mut notices = self.notices.lock();
        *notices += 1;
        self.known.invalidate_all();
    }
}
