//! What a user may still see of a conversation whose events were read: a removal may be among them, of which the feed has
//! not told yet.

use types::{Body, ConversationId, Entry, UserId};

use super::Live;
use crate::ApiError;
use crate::hub::change_of_members;

/// Whether the event ends this user's access.
pub(crate) fn is_removal(entry: &Entry, user: UserId) -> bool {
    matches!(change_of_members(&entry.payload), Some(Body::MemberRemoved { user: removed }) if removed == user)
}

impl Live {
    /// Whether a user is a member of one of its conversations now. Direct ones have no others.
    pub(crate) async fn is_member(&self, user: UserId, conversation: ConversationId) -> Result<bool, ApiError> {
        let ConversationId::Group(group) = conversation else { return Ok(true) };
        self.hub.is_member(user, group).await
    }

    /// Cuts what was read of one of a user's conversations to what the user may see: everything, as long as it is a
    /// member, and else what lies before its removal and the removal itself. A removal that is not among the events
    /// lies before them, or has not come into the log.
    pub(crate) async fn cut(
        &self,
        user: UserId,
        conversation: ConversationId,
        entries: &mut Vec<Entry>,
    ) -> Result<(), ApiError> {
        // Asked after they were read: whatever was said after a removal comes after it.
        if entries.is_empty() || self.is_member(user, conversation).await? {
            return Ok(());
        }
        let removal = entries.iter().rposition(|entry| is_removal(entry, user));
        entries.truncate(removal.map_or(0, |index| index + 1));
        Ok(())
    }
}
