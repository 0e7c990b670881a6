//! Who may read and write where: asked of the directory once, then remembered, and forgotten at the notice of
//! a change. No query per message.

use std::sync::Arc;
use std::time::Duration;

use directory::Directory;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::time::Instant;
use types::{ConversationId, GroupId, UserId};

use crate::ApiError;

/// Answers that are remembered, at most.
const CAPACITY: u64 = 500_000;
/// Groups that have ended and are remembered, at most.
const ENDED: u64 = 100_000;
/// A notice may be lost, so an answer is not believed for longer than this while the directory can be asked.
const TIME_TO_LIVE: Duration = Duration::from_secs(60);
/// How long an answer stands while the directory cannot be asked: as long as an access token is taken, which nobody can
/// renew then either.
const OUTAGE: Duration = Duration::from_secs(15 * 60);
/// How long everybody who is known is spared the wait for a directory that has just failed to answer.
const RETRY: Duration = Duration::from_secs(5);

/// Whether a user is a member of a group, as the directory said.
#[derive(Clone, Copy)]
struct Known {
    is_member: bool,
    asked: Instant,
}

impl Known {
    fn now(is_member: bool) -> Self {
        Self { is_member, asked: Instant::now() }
    }
}

/// Who may read and write where.
pub(crate) struct Membership {
    directory: Arc<dyn Directory>,
    known: Cache<(GroupId, UserId), Known>,
    /// When the directory may be asked about those who are known, if it failed to answer.
    ask_again: Mutex<Option<Instant>>,
    /// Groups that ended so lately that members may be known: whatever `known` says, they have no members.
    ended: Cache<GroupId, ()>,
    /// Users that there are, deleted ones too.
    users: Cache<UserId, ()>,
    /// How many notices have come. A look-up that was under way when one came is used but not remembered.
    notices: Mutex<u64>,
}

impl Membership {
    pub(crate) fn new(directory: Arc<dyn Directory>) -> Self {
        let known = Cache::builder().max_capacity(CAPACITY).time_to_live(OUTAGE).build();
        let ended = Cache::builder()
            .max_capacity(ENDED)
            .time_to_live(OUTAGE + TIME_TO_LIVE)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        let users = Cache::builder().max_capacity(CAPACITY).build();
        Self { directory, known, ask_again: Mutex::default(), ended, users, notices: Mutex::new(0) }
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
        let ask = async { Ok(self.directory.role(group, user).await?.is_some()) };
        self.find((group, user), ask).await
    }

    /// What is known of a member, or what the directory says, or what it said last if it does not answer.
    async fn find(
        &self,
        member: (GroupId, UserId),
        ask: impl Future<Output = directory::Result<bool>> + Send,
    ) -> Result<bool, ApiError> {
        let known = self.known.get(&member).filter(|known| known.asked.elapsed() < OUTAGE);
        if let Some(known) = known.filter(|known| known.asked.elapsed() < TIME_TO_LIVE || !self.may_ask_again()) {
            return Ok(known.is_member);
        }
        let notices = *self.notices.lock();
        let is_member = match (ask.await, known) {
            (Ok(is_member), _) => is_member,
            (Err(error), None) => return Err(error.into()),
            (Err(error), Some(known)) => {
                if self.ask_again.lock().replace(Instant::now() + RETRY).is_none() {
                    tracing::warn!(%error, "the directory cannot be asked; memberships stand as they are known");
                }
                return Ok(known.is_member);
            }
        };
        *self.ask_again.lock() = None;
        let still = self.notices.lock();
        if *still == notices {
            self.known.insert(member, Known::now(is_member));
        }
        Ok(is_member)
    }

    /// Whether the directory is worth asking about somebody who is known. After a failure one in a while finds out.
    fn may_ask_again(&self) -> bool {
        let mut ask_again = self.ask_again.lock();
        let is_time = ask_again.is_none_or(|moment| moment <= Instant::now());
        if is_time && ask_again.is_some() {
            *ask_again = Some(Instant::now() + RETRY);
        }
        is_time
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
        self.known.insert((group, user), Known::now(is_member));
    }

    /// Remembers what the directory was asked for beside [`Membership::is_member`], unless a notice has come since
    /// [`Membership::version`] was `version`: it may tell of something newer than the answer.
    pub(crate) fn learn(&self, group: GroupId, user: UserId, is_member: bool, version: u64) {
        let notices = self.notices.lock();
        if *notices == version {
            self.known.insert((group, user), Known::now(is_member));
        }
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

#[cfg(test)]
mod tests {
    use types::Region;

    use super::*;

    async fn membership() -> (Membership, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let directory = directory::open(&directory::Config::default(), folder.path()).await.unwrap();
        (Membership::new(directory), folder)
    }

    fn member() -> (GroupId, UserId) {
        (GroupId::generate(Region::default()), UserId::generate(Region::default()))
    }

    async fn says(is_member: bool) -> directory::Result<bool> {
        Ok(is_member)
    }

    async fn away() -> directory::Result<bool> {
        Err(directory::Error::Unavailable("it is away".into()))
    }

    async fn not_asked() -> directory::Result<bool> {
        panic!("the directory was asked")
    }

    #[tokio::test]
    async fn what_is_known_stands_while_the_directory_is_away() {
        let (membership, _folder) = membership().await;
        let (one, other) = (member(), member());
        for known in [one, other] {
            assert!(membership.find(known, says(true)).await.unwrap());
            assert!(membership.find(known, not_asked()).await.unwrap());
        }
        tokio::time::pause();
        tokio::time::advance(TIME_TO_LIVE).await;
        assert!(membership.find(one, away()).await.unwrap());
        assert!(membership.find(other, not_asked()).await.unwrap(), "nobody else waits for it meanwhile");
        tokio::time::advance(RETRY).await;
        assert!(!membership.find(one, says(false)).await.unwrap(), "it is back");
        assert!(!membership.find(other, says(false)).await.unwrap());
    }

    #[tokio::test]
    async fn an_answer_that_a_notice_has_overtaken_is_not_remembered() {
        let (membership, _folder) = membership().await;
        let (group, user) = member();
        let version = membership.version();
        membership.set(group, user, false);
        membership.learn(group, user, true, version);
        assert!(!membership.find((group, user), not_asked()).await.unwrap());
        membership.learn(group, user, true, membership.version());
        assert!(membership.find((group, user), not_asked()).await.unwrap());
    }

    #[tokio::test]
    async fn what_is_known_for_too_long_does_not_stand() {
        let (membership, _folder) = membership().await;
        let known = member();
        assert!(membership.find(known, says(true)).await.unwrap());
        tokio::time::pause();
        tokio::time::advance(OUTAGE).await;
        assert!(membership.find(known, away()).await.is_err());
    }

    #[tokio::test]
    async fn who_is_not_known_is_not_let_in_while_the_directory_is_away() {
        let (membership, _folder) = membership().await;
        assert!(membership.find(member(), away()).await.is_err());
        assert!(membership.find(member(), says(true)).await.unwrap());
    }
}
