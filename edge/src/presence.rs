//! Who may see whether somebody is there: whoever shares a conversation with it. How presence itself travels is in
//! `hub/attendance.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use directory::Directory;
use futures_util::{StreamExt, TryStreamExt, stream};
use moka::sync::Cache;
use types::{ConversationId, GroupId, UserId};

use crate::ApiError;
use crate::hub::MAX_WATCHED;
use crate::membership::Membership;
use crate::timeline::Timeline;

/// Pairs that are remembered, at most.
const CAPACITY: u64 = 100_000;
/// How long a pair is remembered.
const TIME_TO_LIVE: Duration = Duration::from_secs(15);
/// Users whose groups are asked for at the same time.
const AT_ONCE: usize = 8;

/// Who shares a conversation with whom.
pub(crate) struct Sharing {
    directory: Arc<dyn Directory>,
    timeline: Arc<Timeline>,
    membership: Arc<Membership>,
    /// Whether the two share a conversation, and the version of the memberships by which it was found out.
    known: Cache<(UserId, UserId), (u64, bool)>,
}

impl Sharing {
    pub(crate) fn new(directory: Arc<dyn Directory>, timeline: Arc<Timeline>, membership: Arc<Membership>) -> Self {
        let known = Cache::builder().max_capacity(CAPACITY).time_to_live(TIME_TO_LIVE).build();
        Self { directory, timeline, membership, known }
    }

    /// Those of `users` whose presence `viewer` may see, each once: itself, those to whom it wrote or who wrote to it,
    /// and the members of its groups.
    ///
    /// # Errors
    /// 422 for more than [`MAX_WATCHED`] users.
    pub(crate) async fn seen_by(&self, viewer: UserId, users: Vec<UserId>) -> Result<Vec<UserId>, ApiError> {
        if users.len() > MAX_WATCHED {
            return Err(ApiError::invalid("users", format!("must be at most {MAX_WATCHED} users")));
        }
        let users: BTreeSet<UserId> = users.into_iter().collect();
        let version = self.membership.version();
        let (mut seen, mut unknown) = (Vec::new(), Vec::new());
        for user in users {
            match self.known.get(&(viewer, user)).filter(|(of, _)| *of == version) {
                Some((_, true)) => seen.push(user),
                Some((_, false)) => {}
                None => unknown.push(user),
            }
        }
        if !unknown.is_empty() {
            let found = self.look(viewer, &unknown).await?;
            for (user, shares) in &found {
                self.known.insert((viewer, *user), (version, *shares));
            }
            seen.extend(found.into_iter().filter(|(_, shares)| *shares).map(|(user, _)| user));
        }
        seen.sort_unstable();
        Ok(seen)
    }

    async fn look(&self, viewer: UserId, users: &[UserId]) -> Result<Vec<(UserId, bool)>, ApiError> {
        let direct: Vec<ConversationId> = users.iter().map(|user| ConversationId::direct(viewer, *user)).collect();
        let newest = self.timeline.newest(&direct).await?;
        let (mut found, mut others) = (Vec::new(), Vec::new());
        for (user, newest) in users.iter().zip(newest) {
            if newest > 0 || *user == viewer {
                found.push((*user, true));
            } else {
                others.push(*user);
            }
        }
        if others.is_empty() {
            return Ok(found);
        }
        let own: BTreeSet<GroupId> = self.directory.groups_of(viewer).await?.into_iter().collect();
        let asking = others
            .into_iter()
            .map(|user| async move { self.directory.groups_of(user).await.map(|groups| (user, groups)) });
        let groups: Vec<(UserId, Vec<GroupId>)> = stream::iter(asking).buffer_unordered(AT_ONCE).try_collect().await?;
        let shares = |groups: Vec<GroupId>| groups.iter().any(|group| own.contains(group));
        found.extend(groups.into_iter().map(|(user, groups)| (user, shares(groups))));
        Ok(found)
    }
}
