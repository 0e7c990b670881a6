//! Users, groups, members, sessions.

use async_trait::async_trait;
use directory::{
    Attachment, Command, Credentials, Directory, Error, Group, Lease, Member, MemberRole, OutboxRow, Outcome, Refusal,
    Result, Session, Upload, User, Version,
};
use types::{AttachmentId, ConversationId, EventId, GroupId, SessionId, Timestamp, UserId};

use super::Late;

#[async_trait]
impl Directory for Late<dyn Directory> {
    async fn execute(&self, command: &Command) -> Result<std::result::Result<Outcome, Refusal>> {
        self.there(Error::Unavailable)?.execute(command).await
    }

    async fn version(&self) -> Result<Version> {
        self.there(Error::Unavailable)?.version().await
    }

    fn catch_up(&self, version: Version) {
        // One that is not open yet has answered no command either, and asks for its version itself before it reads.
        if let Ok(directory) = self.there(Error::Unavailable) {
            directory.catch_up(version);
        }
    }

    async fn lease(&self) -> Result<Option<Lease>> {
        self.there(Error::Unavailable)?.lease().await
    }

    async fn outbox(&self, skip: usize, limit: usize) -> Result<Vec<OutboxRow>> {
        self.there(Error::Unavailable)?.outbox(skip, limit).await
    }

    async fn relayed(&self, rows: &[EventId]) -> Result<()> {
        self.there(Error::Unavailable)?.relayed(rows).await
    }

    async fn users(&self, ids: &[UserId]) -> Result<Vec<Option<User>>> {
        self.there(Error::Unavailable)?.users(ids).await
    }

    async fn credentials(&self, login: &str) -> Result<Option<Credentials>> {
        self.there(Error::Unavailable)?.credentials(login).await
    }

    async fn search_users(&self, query: &str, after: Option<&str>, limit: usize) -> Result<Vec<User>> {
        self.there(Error::Unavailable)?.search_users(query, after, limit).await
    }

    async fn groups(&self, ids: &[GroupId]) -> Result<Vec<Option<Group>>> {
        self.there(Error::Unavailable)?.groups(ids).await
    }

    async fn groups_of(&self, user: UserId) -> Result<Vec<GroupId>> {
        self.there(Error::Unavailable)?.groups_of(user).await
    }

    async fn role(&self, group: GroupId, user: UserId) -> Result<Option<MemberRole>> {
        self.there(Error::Unavailable)?.role(group, user).await
    }

    async fn members(&self, group: GroupId, after: Option<UserId>, limit: usize) -> Result<Vec<Member>> {
        self.there(Error::Unavailable)?.members(group, after, limit).await
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>> {
        self.there(Error::Unavailable)?.session(id).await
    }

    async fn sessions(&self, user: UserId, now: Timestamp) -> Result<Vec<Session>> {
        self.there(Error::Unavailable)?.sessions(user, now).await
    }

    async fn revoked_since(&self, since: Timestamp) -> Result<Vec<(UserId, SessionId)>> {
        self.there(Error::Unavailable)?.revoked_since(since).await
    }

    async fn attachment(&self, id: AttachmentId) -> Result<Option<Attachment>> {
        self.there(Error::Unavailable)?.attachment(id).await
    }

    async fn upload(&self, id: AttachmentId) -> Result<Option<Upload>> {
        self.there(Error::Unavailable)?.upload(id).await
    }

    async fn sent_in(&self, attachment: AttachmentId) -> Result<Vec<ConversationId>> {
        self.there(Error::Unavailable)?.sent_in(attachment).await
    }

    async fn condemned(&self, after: Option<AttachmentId>, limit: usize) -> Result<Vec<AttachmentId>> {
        self.there(Error::Unavailable)?.condemned(after, limit).await
    }
}
