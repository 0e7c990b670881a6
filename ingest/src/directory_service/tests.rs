//! The service over the embedded log and directory.

mod faulty;
mod several;
mod trouble;

use std::time::Duration;

use blobs::Blobs;
use directory::{Group, NewSession, NewUser, SecretHash};
use faulty::FaultyLog;
use history::History;
use log::{Append, Delivery};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use types::{Body, ConversationId, Event, EventId, GroupId, Region, Timestamp};

use super::*;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The stores of one process. The log certainly remembers no id beyond the end of the process.
struct Stores {
    log: Arc<FaultyLog>,
    directory: Arc<dyn Directory>,
    history: Arc<dyn History>,
    blobs: Arc<dyn Blobs>,
    folder: TempDir,
}

/// A service that serves.
struct Running {
    task: JoinHandle<Result<()>>,
    shutdown: CancellationToken,
}

impl Stores {
    async fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap()).await
    }

    async fn open(folder: TempDir) -> Self {
        Self::open_with(folder, &directory::Config::default()).await
    }

    async fn open_with(folder: TempDir, directory: &directory::Config) -> Self {
        let config = log::Config::Embedded { path: "log".into(), retention_hours: 72, duplicate_window_seconds: 0 };
        let log = log::open(&config, folder.path(), Region::default()).await.unwrap();
        let directory = directory::open(directory, folder.path()).await.unwrap();
        let history = history::open(&history::Config::default(), folder.path()).await.unwrap();
        let blobs = blobs::open(&blobs::Config::default(), folder.path()).await.unwrap();
        Self { log: Arc::new(FaultyLog::over(log)), directory, history, blobs, folder }
    }

    /// The stores as the next process finds them.
    async fn reopened(self) -> Self {
        self.log.close().await;
        let Self { log, directory, history, blobs, folder } = self;
        drop((log, directory, history, blobs));
        Self::open(folder).await
    }

    fn start(&self) -> Running {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(self.seams(), shutdown.clone()));
        Running { task, shutdown }
    }

    fn seams(&self) -> Seams {
        let (log, history, directory) = (self.log.clone(), self.history.clone(), self.directory.clone());
        Seams { log, history, directory, blobs: self.blobs.clone() }
    }

    /// Asks the service, once it serves.
    async fn ask(&self, command: &Command) -> Answer {
        Answer::decode(&self.request(command.encode()).await).unwrap()
    }

    async fn request(&self, payload: bytes::Bytes) -> bytes::Bytes {
        let asking = async {
            loop {
                match self.log.request(SERVICE, payload.clone(), PATIENCE).await {
                    Ok(answer) => return answer,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap()
    }

    /// Carries a command out behind the service's back, as if the process had ended right after the commit.
    async fn commit(&self, command: &Command) -> Outcome {
        self.directory.execute(command).await.unwrap().unwrap()
    }

    async fn register<const N: usize>(&self) -> [UserId; N] {
        let mut users = Vec::new();
        for _ in 0..N {
            let user = new_user();
            users.push(user.id);
            self.commit(&Command::Register { user, session: None }).await;
        }
        users.try_into().unwrap()
    }

    async fn told(&self, group: GroupId) -> Vec<Body> {
        let entries = self.log.read(group.into(), 0, 10_000).await.unwrap();
        entries.iter().map(|entry| Event::decode(&entry.payload).unwrap().body).collect()
    }

    /// A feed of topics, to wait on.
    async fn feed(&self, topics: &[Topic]) -> log::Feed {
        let feed = self.log.feed().await.unwrap();
        for topic in topics {
            feed.topics().subscribe(*topic).await.unwrap();
        }
        feed
    }

    async fn is_outbox_empty(&self) -> bool {
        self.directory.outbox(0, 1).await.unwrap().is_empty()
    }
}

impl Running {
    async fn stop(self) -> Result<()> {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap()
    }
}

fn new_user() -> NewUser {
    let id = UserId::generate(Region::default());
    let unique = id.to_string();
    NewUser {
        id,
        username: unique[4..].to_owned(),
        name: String::new(),
        email: format!("{unique}@example.org"),
        password_hash: "$".into(),
        at: Timestamp::now(),
    }
}

fn create(owner: UserId, members: &[UserId]) -> (GroupId, Command) {
    let group = GroupId::generate(Region::default());
    let members = members.to_vec();
    (group, Command::CreateGroup { group, name: "Tea".into(), owner, members, at: Timestamp::now() })
}

fn remove(group: GroupId, by: UserId, user: UserId) -> Command {
    Command::RemoveMember { group, by, user, at: Timestamp::now() }
}

fn add(group: GroupId, by: UserId, user: UserId) -> Command {
    Command::AddMembers { group, by, users: vec![user], at: Timestamp::now() }
}

fn added(users: &[UserId]) -> Vec<Body> {
    users.iter().map(|user| Body::MemberAdded { user: *user }).collect()
}

fn done(answer: Answer) -> Outcome {
    let Answer::Done { outcome, .. } = answer else { panic!("{answer:?}") };
    outcome
}

fn refusal(answer: Answer) -> Refusal {
    let Answer::Refused { refusal, .. } = answer else { panic!("{answer:?}") };
    refusal
}

/// Deliveries of a feed, until there are so many.
async fn deliveries(feed: &mut log::Feed, count: usize) -> Vec<Delivery> {
    let mut batch = Vec::new();
    while batch.len() < count {
        let missing = count - batch.len();
        tokio::time::timeout(PATIENCE, feed.next_batch(&mut batch, missing)).await.unwrap().unwrap();
    }
    batch
}

/// As many notices, with the topics to which they were sent; events between them are passed over.
async fn notices(feed: &mut log::Feed, count: usize) -> Vec<(Topic, Notice)> {
    let mut notices = Vec::new();
    while notices.len() < count {
        if let Delivery::Notice { topic, notice } = deliveries(feed, 1).await.remove(0) {
            notices.push((topic, Notice::decode(&notice).unwrap()));
        }
    }
    notices
}

/// Waits until the group has so many events.
async fn events(feed: &mut log::Feed, count: usize) {
    let mut seen = 0;
    while seen < count {
        let batch = deliveries(feed, 1).await;
        seen += batch.iter().filter(|delivery| matches!(delivery, Delivery::Event { .. })).count();
    }
}

#[tokio::test]
async fn the_events_of_a_command_are_in_the_log_in_order_before_its_answer() {
    let stores = Stores::new().await;
    let service = stores.start();
    let [ada, bob, carl] = stores.register().await;
    let (group, command) = create(bob, &[carl, ada]);
    let outcome = done(stores.ask(&command).await);
    assert_eq!(stores.told(group).await, added(&[bob, carl, ada]));
    assert!(stores.is_outbox_empty().await);
    assert_eq!(outcome.group.map(|Group { id, members_count, .. }| (id, members_count)), Some((group, 3)));
    let rename = Command::RenameGroup { group, by: bob, name: "Coffee".into(), at: Timestamp::now() };
    done(stores.ask(&rename).await);
    done(stores.ask(&remove(group, bob, ada)).await);
    let tail = [Body::GroupUpdated { name: "Coffee".into() }, Body::MemberRemoved { user: ada }];
    assert_eq!(stores.told(group).await[3..], tail);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_repeated_command_gives_the_same_answer_and_no_second_event() {
    let stores = Stores::new().await;
    let service = stores.start();
    let [ada] = stores.register().await;
    let (group, command) = create(ada, &[]);
    let (one, other) = tokio::join!(stores.ask(&command), stores.ask(&command));
    let (one, other) = (done(one), done(other));
    assert!(one.repeated != other.repeated);
    assert_eq!(one.group, other.group);
    assert!(done(stores.ask(&command).await).repeated);
    assert_eq!(stores.told(group).await, added(&[ada]));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn members_and_edges_are_told_once_the_event_is_stored() {
    let stores = Stores::new().await;
    let [ada, bob] = stores.register().await;
    let (group, command) = create(ada, &[]);
    stores.commit(&command).await;
    let service = stores.start();
    done(stores.ask(&command).await);

    let mut feed = stores.feed(&[Topic::User(bob), Topic::Directory]).await;
    done(stores.ask(&add(group, ada, bob)).await);
    let seq = stores.log.heads(&[group.into()]).await.unwrap()[0].unwrap().position.seq;
    let notice = Notice::MemberAdded { group, user: bob, seq };
    assert_eq!(notices(&mut feed, 2).await, [(Topic::User(bob), notice.clone()), (Topic::Directory, notice)]);

    let command = remove(group, ada, bob);
    let told = async {
        let told = notices(&mut feed, 2).await;
        assert_eq!(stores.told(group).await.last(), Some(&Body::MemberRemoved { user: bob }));
        told
    };
    let (answer, told) = tokio::join!(stores.ask(&command), told);
    done(answer);
    let notice = Notice::MemberRemoved { group, user: bob };
    assert_eq!(told, [(Topic::User(bob), notice.clone()), (Topic::Directory, notice)]);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn ended_sessions_and_changed_users_are_told() {
    let stores = Stores::new().await;
    let service = stores.start();
    let [ada] = stores.register().await;
    let at = Timestamp::now();
    let session = NewSession {
        id: SessionId::generate(Region::default()),
        user: ada,
        refresh_hash: SecretHash([1; 32]),
        client: "a test".into(),
        expires_at: at.plus(Duration::from_secs(60)),
        at,
        verified: None,
    };
    let id = session.id;
    let mut feed = stores.feed(&[Topic::User(ada), Topic::Directory]).await;
    done(stores.ask(&Command::OpenSession { session: session.clone() }).await);
    let reuse = Command::RotateSession {
        session: id,
        presented: SecretHash([9; 32]),
        next: SecretHash([2; 32]),
        expires_at: session.expires_at,
        at,
    };
    assert_eq!(refusal(stores.ask(&reuse).await), Refusal::SessionReused);
    let ended = Notice::SessionRevoked { user: ada, session: id };
    assert_eq!(notices(&mut feed, 2).await, [(Topic::User(ada), ended.clone()), (Topic::Directory, ended)]);

    let id = SessionId::generate(Region::default());
    done(stores.ask(&Command::OpenSession { session: NewSession { id, ..session } }).await);
    done(stores.ask(&Command::RevokeSession { user: ada, session: id, at }).await);
    let ended = Notice::SessionRevoked { user: ada, session: id };
    assert_eq!(notices(&mut feed, 2).await, [(Topic::User(ada), ended.clone()), (Topic::Directory, ended)]);

    done(stores.ask(&Command::DeleteUser { user: ada, at }).await);
    assert_eq!(notices(&mut feed, 1).await, [(Topic::Directory, Notice::UserUpdated { user: ada })]);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_refusal_and_nonsense_are_answered_and_the_service_goes_on() {
    let stores = Stores::new().await;
    let service = stores.start();
    let [ada] = stores.register().await;
    let nobody = UserId::generate(Region::default());
    let (_, command) = create(ada, &[nobody]);
    assert_eq!(refusal(stores.ask(&command).await), Refusal::UnknownUser);
    let deep = "[".repeat(100_000);
    for nonsense in ["", "{}", "\u{0}", r#"{"command":"drop_everything"}"#, &deep] {
        let answer = stores.request(bytes::Bytes::copy_from_slice(nonsense.as_bytes())).await;
        assert_eq!(Answer::decode(&answer), Some(Answer::Unavailable));
    }
    let (_, command) = create(ada, &[]);
    done(stores.ask(&command).await);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn many_commands_at_once_are_each_answered_and_told_once() {
    let stores = Stores::new().await;
    let service = stores.start();
    let [ada, bob] = stores.register().await;
    let commands: Vec<_> = (0..3 * IN_FLIGHT).map(|_| create(ada, &[bob])).collect();
    let answers = futures_util::future::join_all(commands.iter().map(|(_, command)| stores.ask(command))).await;
    for (answer, (group, _)) in answers.into_iter().zip(&commands) {
        assert_eq!(done(answer).group.map(|group| group.id), Some(*group));
        assert_eq!(stores.told(*group).await, added(&[ada, bob]));
    }
    assert!(stores.is_outbox_empty().await);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_service_that_ends_answers_what_it_has_begun() {
    let stores = Stores::new().await;
    let [ada] = stores.register().await;
    let service = stores.start();
    let (warm, command) = create(ada, &[]);
    done(stores.ask(&command).await);
    let (group, command) = create(ada, &[]);
    // Held up by the log, so it is certainly under way when the end is asked for.
    stores.log.refuse_appends(usize::MAX);
    let asked = stores.log.request(SERVICE, command.encode(), PATIENCE);
    let ended = async {
        stores.log.refused().await;
        service.stop().await
    };
    let (answer, ended) = tokio::join!(asked, ended);
    done(Answer::decode(&answer.unwrap()).unwrap());
    ended.unwrap();
    assert_eq!(stores.directory.groups_of(ada).await.unwrap(), [warm, group]);
}

#[tokio::test]
async fn a_closed_log_ends_the_service_with_an_error() {
    let stores = Stores::new().await;
    let service = stores.start();
    let [ada] = stores.register().await;
    let (_, command) = create(ada, &[]);
    done(stores.ask(&command).await);
    stores.log.close().await;
    let ended = tokio::time::timeout(PATIENCE, service.task).await.unwrap().unwrap();
    assert!(matches!(ended, Err(Error::Log(_))));
}
