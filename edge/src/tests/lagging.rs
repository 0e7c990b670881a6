//! An edge whose directory reads from a copy that lags: it must see what it had carried out, and what it is told of.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::log::Topic;
use async_trait::async_trait;
use directory::{
    Attachment, Command, Credentials, Directory, Group, Lease, Member, MemberRole, OutboxRow, Outcome, Refusal, Result,
    Session, Upload, User, Version,
};
use parking_lot::Mutex;
use serde_json::json;
use types::{AttachmentId, ConversationId, EventId, GroupId, Notice, SessionId, Timestamp, UserId};

use crate::tests::harness::{App, PASSWORD};

/// Shows nothing at all unless it has caught up with the last command.
struct Lagging {
    directory: Arc<dyn Directory>,
    version: AtomicU64,
    caught_up: AtomicU64,
    /// Credentials as they were read first, if they are to be read so for ever.
    first: Option<Mutex<HashMap<String, Option<Credentials>>>>,
}

impl Lagging {
    fn over(directory: Arc<dyn Directory>) -> Arc<dyn Directory> {
        Arc::new(Self::new(directory, None))
    }

    /// As a log-in sees the directory that reads now and asks for its session later.
    fn with_first_credentials(directory: Arc<dyn Directory>) -> Arc<dyn Directory> {
        Arc::new(Self::new(directory, Some(Mutex::default())))
    }

    fn new(directory: Arc<dyn Directory>, first: Option<Mutex<HashMap<String, Option<Credentials>>>>) -> Self {
        Self { directory, version: AtomicU64::new(0), caught_up: AtomicU64::new(0), first }
    }

    fn is_behind(&self) -> bool {
        self.caught_up.load(Ordering::SeqCst) < self.version.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Directory for Lagging {
    async fn execute(&self, command: &Command) -> Result<std::result::Result<Outcome, Refusal>> {
        let done = self.directory.execute(command).await;
        self.version.fetch_add(1, Ordering::SeqCst);
        done
    }

    async fn version(&self) -> Result<Version> {
        Ok(Version(self.version.load(Ordering::SeqCst)))
    }

    fn catch_up(&self, version: Version) {
        self.caught_up.fetch_max(version.0, Ordering::SeqCst);
    }

    async fn lease(&self) -> Result<Option<Lease>> {
        self.directory.lease().await
    }

    async fn outbox(&self, skip: usize, limit: usize) -> Result<Vec<OutboxRow>> {
        self.directory.outbox(skip, limit).await
    }

    async fn relayed(&self, rows: &[EventId]) -> Result<()> {
        self.directory.relayed(rows).await
    }

    async fn users(&self, ids: &[UserId]) -> Result<Vec<Option<User>>> {
        if self.is_behind() { Ok(vec![None; ids.len()]) } else { self.directory.users(ids).await }
    }

    async fn credentials(&self, login: &str) -> Result<Option<Credentials>> {
        if self.is_behind() {
            return Ok(None);
        }
        let now = self.directory.credentials(login).await?;
        let Some(first) = &self.first else { return Ok(now) };
        Ok(first.lock().entry(login.to_owned()).or_insert(now).clone())
    }

    async fn search_users(&self, query: &str, after: Option<&str>, limit: usize) -> Result<Vec<User>> {
        if self.is_behind() { Ok(vec![]) } else { self.directory.search_users(query, after, limit).await }
    }

    async fn groups(&self, ids: &[GroupId]) -> Result<Vec<Option<Group>>> {
        if self.is_behind() { Ok(vec![None; ids.len()]) } else { self.directory.groups(ids).await }
    }

    async fn groups_of(&self, user: UserId) -> Result<Vec<GroupId>> {
        if self.is_behind() { Ok(vec![]) } else { self.directory.groups_of(user).await }
    }

    async fn role(&self, group: GroupId, user: UserId) -> Result<Option<MemberRole>> {
        if self.is_behind() { Ok(None) } else { self.directory.role(group, user).await }
    }

    async fn members(&self, group: GroupId, after: Option<UserId>, limit: usize) -> Result<Vec<Member>> {
        if self.is_behind() { Ok(vec![]) } else { self.directory.members(group, after, limit).await }
    }

    async fn session(&self, id: SessionId) -> Result<Option<Session>> {
        if self.is_behind() { Ok(None) } else { self.directory.session(id).await }
    }

    async fn sessions(&self, user: UserId, now: Timestamp) -> Result<Vec<Session>> {
        if self.is_behind() { Ok(vec![]) } else { self.directory.sessions(user, now).await }
    }

    async fn revoked_since(&self, since: Timestamp) -> Result<Vec<(UserId, SessionId)>> {
        self.directory.revoked_since(since).await
    }

    async fn attachment(&self, id: AttachmentId) -> Result<Option<Attachment>> {
        if self.is_behind() { Ok(None) } else { self.directory.attachment(id).await }
    }

    async fn upload(&self, id: AttachmentId) -> Result<Option<Upload>> {
        if self.is_behind() { Ok(None) } else { self.directory.upload(id).await }
    }

    async fn sent_in(&self, attachment: AttachmentId) -> Result<Vec<ConversationId>> {
        if self.is_behind() { Ok(vec![]) } else { self.directory.sent_in(attachment).await }
    }

    async fn condemned(&self, after: Option<AttachmentId>, limit: usize) -> Result<Vec<AttachmentId>> {
        self.directory.condemned(after, limit).await
    }
}

#[tokio::test]
async fn whoever_changes_something_sees_it_in_the_next_answer() {
    let app = App::start_over(Lagging::over).await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    assert_eq!(app.get(&ada, "/v1/users/me").await.expect(200)["username"], "ada");
    let group = app.group("engines", &[&ada]).await;
    let members = format!("/v1/conversations/{group}/members");
    app.get(&bob, &members).await.refusal(404);
    app.post(&ada, &members, json!({"users": [bob.id]})).await.expect(200);
    assert_eq!(app.get(&bob, &members).await.expect(200)["items"].as_array().map(Vec::len), Some(2));
    app.login("bob", "a wrong password").await.refusal(401);
    assert_eq!(app.get(&bob, "/v1/sessions").await.expect(200)["items"].as_array().map(Vec::len), Some(1));
    // A refusal has its reason too, which may be a change that this edge has not heard of.
    let name = json!({"username": "carol", "email": "bob@example.org", "password": PASSWORD});
    app.call(http::Method::POST, "/v1/auth/register", None, Some(name)).await.refusal(409);
    app.get(&bob, "/v1/users/me").await.expect(200);
}

#[tokio::test]
async fn a_change_by_another_edge_is_seen_from_its_notice_on() {
    let app = App::start_over(Lagging::over).await;
    let ada = app.register("ada").await;
    let user: UserId = ada.id.parse().unwrap();
    // Carried out for another edge; this one has not heard of it.
    let update = json!({"command": "update_user", "user": user, "name": "Lady Ada", "at": Timestamp::now()});
    app.edge.directory.execute(&serde_json::from_value(update).unwrap()).await.unwrap().unwrap();
    let version = app.edge.directory.version().await.unwrap().0;
    app.get(&ada, "/v1/users/me").await.refusal(404);
    app.log.notify(Topic::Directory, Notice::DirectoryChanged { version }.encode()).await.unwrap();
    let seen = async {
        while app.get(&ada, "/v1/users/me").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen).await.unwrap();
    assert_eq!(app.get(&ada, "/v1/users/me").await.expect(200)["name"], "Lady Ada");
}

#[tokio::test]
async fn a_log_in_that_began_before_the_password_was_changed_does_not_survive_it() {
    let app = App::start_over(Lagging::with_first_credentials).await;
    let ada = app.register("ada").await;
    app.login("ada", PASSWORD).await.expect(200);
    let change = json!({"password": "another horse", "current_password": PASSWORD});
    app.patch(&ada, "/v1/users/me", change).await.expect(200);
    assert_eq!(app.login("ada", PASSWORD).await.refusal(401), "wrong_credentials");
    let list = app.get(&ada, "/v1/sessions").await.expect(200);
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
    // So does a change of the password that began before.
    let change = json!({"password": "a third horse", "current_password": PASSWORD});
    app.patch(&ada, "/v1/users/me", change).await.refusal(403);
}

#[tokio::test]
async fn a_log_in_that_began_before_the_user_was_deleted_fails() {
    let app = App::start_over(Lagging::with_first_credentials).await;
    let ada = app.register("ada").await;
    app.login("ada", PASSWORD).await.expect(200);
    app.delete(&ada, "/v1/users/me").await.expect(204);
    assert_eq!(app.login("ada", PASSWORD).await.refusal(401), "wrong_credentials");
}
