//! Who may read and write where: asked of the directory once, then remembered, and forgotten at the notice of
//! a change. No query per message.

use std::sync::Arc;
use std::time::Duration;

use directory::Directory;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;
use types::{ConversationId, GroupId, UserId};

use crate::ApiError;

/// Answers that are remembered, at most.
const CAPACITY: u64 = 500_000;
/// Groups that have ended and are remembered, at most.
const ENDED: u64 = 100_000;
/// A notice may be lost, so an answer is not believed for longer than this.
const TIME_TO_LIVE: Duration = Duration::from_secs(60);

/// Who may read and write where.
pub(crate) struct Membership {
    directory: Arc<dyn Directory>,
    /// Whether the user is a member of the group.
    known: Cache<(GroupId, UserId), bool>,
    /// Groups that ended less than [`TIME_TO_LIVE`] ago: whatever `known` says, they have no members.
    ended: Cache<GroupId, ()>,
    /// Users that there are, deleted ones too.
    users: Cache<UserId, ()>,
    /// How many notices have come. A look-up that was under way when one came is used but not remembered.
    notices: Mutex<u64>,
}

impl Membership {
    pub(crate) fn new(directory: Arc<dyn Directory>) -> Self {
        let known = Cache::builder().max_capacity(CAPACITY).time_to_live(TIME_TO_LIVE).build();
        let ended = Cache::builder()
            .max_capacity(ENDED)
            .time_to_live(TIME_TO_LIVE * 2)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        let users = Cache::builder().max_capacity(CAPACITY).build();
        Self { directory, known, ended, users, notices: Mutex::new(0) }
    }

    /// Passes a member and gives everybody else the same [`ApiError::not_found`]. Of a direct conversation with
    /// oneself or with a user that there is, deleted or not, one is a member.
    pub(crate) async fn require(&self, user: UserId, conversation: ConversationId) -> Result<(), ApiError> {
        let is_member = match conversation {
            ConversationId::Direct(..) => match conversation.peer_of(user) {
                Some(peer) => self.is_user(peer).await?,
                None => false,
            },
            ConversationId::Group(group) => self.is_member(user, group).await?,
        };
        if is_member { Ok(()) } else { Err(ApiError::not_found()) }
    }

    /// Whether `user` is a member of `group`.
    pub(crate) async fn is_member(&self, user: UserId, group: GroupId) -> Result<bool, ApiError> {
        if self.ended.contains_key(&group) {
            return Ok(false);
        }
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

    /// Whether there is, or was, such a user. Ids are never given twice, so a yes holds for good.
    async fn is_user(&self, user: UserId) -> Result<bool, ApiError> {
        if self.users.contains_key(&user) {
            return Ok(true);
        }
        let found = self.directory.users(&[user]).await?;
        let is_user = matches!(found.first(), Some(Some(_)));
        if is_user {
            self.users.insert(user, ());
        }
        Ok(is_user)
    }

    /// Asks the directory again when next these users are looked for: something changed that is stored there.
    pub(crate) fn forget(&self, group: GroupId, users: impl IntoIterator<Item = UserId>) {
        let mut notices = self.notices.lock();
        *notices += 1;
        for user in users {
            self.known.invalidate(&(group, user));
        }
    }

    /// Another number whenever a membership may have changed: what was found out under the same number still holds, as
    /// far as this edge has heard.
    pub(crate) fn version(&self) -> u64 {
        *self.notices.lock()
    }

    /// Takes note of a change, from a notice.
    pub(crate) fn set(&self, group: GroupId, user: UserId, is_member: bool) {
        let mut notices = self.notices.lock();
        *notices += 1;
        self.known.insert((group, user), is_member);
    }

    /// Takes note that a group has ended.
    pub(crate) fn end(&self, group: GroupId) {
        let mut notices = self.notices.lock();
        *notices += 1;
        self.ended.insert(group, ());
    }

    /// Forgets everything: notices may have been lost.
    pub(crate) fn clear(&self) {
        let mut notices = self.notices.lock();
        *notices += 1;
        self.known.invalidate_all();
    }
}
