use std::collections::VecDeque;
use std::task::{Context, Waker};

use directory::{Command, NewSession, NewUser, SecretHash};
use log::Delivery;
use types::notice::Status;
use types::{Notice, Region};

use super::outbox::{Taken, Written};
use super::*;
use crate::auth::SigningKey;
use crate::config::AuthConfig;
use crate::doubles::{PlainHistory, entries, message, user};

fn caller(expires_at: Timestamp) -> Caller {
    Caller {
        user: UserId::generate(Region::default()),
        session: SessionId::generate(Region::default()),
        roles: Vec::new(),
        expires_at,
    }
}

/// A connection that is in no room.
pub(crate) fn connection() -> Arc<Connection> {
    Arc::new(Connection::new(1, &caller(Timestamp::MAX), 0, 1_000))
}

/// What a connection's task would find to do.
fn found(connection: &Connection) -> (Taken, Vec<bytes::Bytes>) {
    let mut chunks = VecDeque::new();
    let taken = connection.outbox.take(&Context::from_waker(Waker::noop()), Written::default(), &mut chunks);
    (taken, chunks.into())
}

/// A hub, and the log that it listens to.
async fn hub(data: &tempfile::TempDir) -> (Arc<Hub>, Arc<dyn Log>) {
    hub_that_looks(data, LOOK_EVERY).await
}

/// One that looks so often for sessions that have ended.
async fn hub_that_looks(data: &tempfile::TempDir, look_every: Duration) -> (Arc<Hub>, Arc<dyn Log>) {
    let log = log::open(&log::Config::default(), data.path(), Region::default()).await.unwrap();
    let directory = directory::open(&directory::Config::default(), data.path()).await.unwrap();
    (start(data, log.clone(), (directory, PlainHistory::of(&[])), look_every).await, log)
}

async fn start(
    data: &tempfile::TempDir,
    log: Arc<dyn Log>,
    (directory, history): (Arc<dyn Directory>, Arc<PlainHistory>),
    look_every: Duration,
) -> Arc<Hub> {
    let key = SigningKey::open(&data.path().join("key.pem")).unwrap();
    let parts = Parts {
        timeline: Arc::new(Timeline::new(log.clone(), history)),
        log,
        membership: Arc::new(Membership::new(directory.clone())),
        directory,
        tokens: Arc::new(Tokens::new(&AuthConfig::default(), key)),
        look_every,
        limits: HubLimits { connections_per_user: 2, outbox_bytes: 1_000, heartbeat_seconds: 30 },
    };
    Hub::start(parts, CancellationToken::new()).await.unwrap()
}

#[tokio::test]
async fn a_connection_ends_with_its_token() {
    let data = tempfile::tempdir().unwrap();
    let (hub, _log) = hub(&data).await;
    let soon = Timestamp::now().plus(Duration::from_secs(10));
    let presence = hub.join(&caller(soon), Listening::ForFrames).await.unwrap();
    assert!((36..=40).contains(&hub.until_next_look(&presence.connection)), "it is looked at when its token expires");
    let expired = hub.join(&caller(Timestamp::now()), Listening::ForFrames).await.unwrap();
    hub.look(&expired.connection, 1);
    let (Taken::Ending(Ending::Close { code, .. }), _) = found(&expired.connection) else { panic!() };
    assert_eq!(code, SIGNED_OUT);
}

#[tokio::test]
async fn a_silent_connection_is_pinged_once_and_then_sent_away() {
    let data = tempfile::tempdir().unwrap();
    let (hub, _log) = hub(&data).await;
    let presence = hub.join(&caller(Timestamp::MAX), Listening::ForFrames).await.unwrap();
    let connection = &presence.connection;
    hub.look(connection, 29 * BEATS_PER_SECOND);
    assert_eq!(found(connection), (Taken::Nothing, vec![]));
    hub.look(connection, 30 * BEATS_PER_SECOND);
    assert_eq!(found(connection), (Taken::Chunks, vec![frame::ping()]));
    hub.look(connection, 31 * BEATS_PER_SECOND);
    assert_eq!(found(connection), (Taken::Nothing, vec![]), "one ping is enough");
    connection.hear(40 * BEATS_PER_SECOND);
    hub.look(connection, 70 * BEATS_PER_SECOND);
    assert_eq!(found(connection), (Taken::Chunks, vec![frame::ping()]), "it was heard, so it is asked anew");
    hub.look(connection, 100 * BEATS_PER_SECOND);
    assert!(matches!(found(connection).0, Taken::Ending(Ending::Close { code: GOING_AWAY, .. })));
}

#[tokio::test]
async fn of_connections_that_come_at_once_one_is_told_of() {
    let data = tempfile::tempdir().unwrap();
    let (hub, log) = hub(&data).await;
    let ada = caller(Timestamp::MAX);
    let (user, presence) = (Topic::User(ada.user), Topic::Presence(ada.user));
    let mut feed = log.feed().await.unwrap();
    feed.topics().subscribe(presence).await.unwrap();
    let connections = [(); 2].map(|()| Arc::new(Connection::new(hub.next_number(), &ada, 0, 1_000)));
    for connection in connections.iter().rev() {
        hub.rooms.enter(user, connection, usize::MAX).await.unwrap();
    }
    for connection in &connections {
        hub.has_come(connection).await;
    }
    log.notify(presence, Notice::PresenceAsked { user: ada.user }.encode()).await.unwrap();
    let (mut told, mut batch) = (Vec::new(), Vec::new());
    while told.last().is_none_or(|notice| matches!(notice, Notice::Presence { .. })) {
        feed.next_batch(&mut batch, 1).await.unwrap();
        let notices = batch.drain(..).filter_map(|delivery| match delivery {
            Delivery::Notice { notice, .. } => Notice::decode(&notice),
            _ => None,
        });
        told.extend(notices);
    }
    assert!(matches!(told[..], [Notice::Presence { status: Status::Online, .. }, _]), "{told:?}");
}

#[tokio::test]
async fn a_connection_that_does_not_end_in_time_is_cut() {
    let data = tempfile::tempdir().unwrap();
    let (hub, _log) = hub(&data).await;
    let presence = hub.join(&caller(Timestamp::MAX), Listening::ForFrames).await.unwrap();
    let connection = &presence.connection;
    connection.outbox.end(signed_out("test"));
    hub.look(connection, 3);
    assert_ne!(found(connection).0, Taken::Ending(Ending::Cut), "its task has not seen it yet");
    hub.give_grace(connection);
    let now = hub.now();
    hub.look(connection, now + GRACE_BEATS - 1);
    assert_ne!(found(connection).0, Taken::Ending(Ending::Cut));
    hub.look(connection, now + GRACE_BEATS);
    assert_eq!(found(connection).0, Taken::Ending(Ending::Cut));
}

#[tokio::test]
async fn when_something_is_lost_everybody_comes_back() {
    let data = tempfile::tempdir().unwrap();
    let (hub, _log) = hub(&data).await;
    let presence = hub.join(&caller(Timestamp::MAX), Listening::ForFrames).await.unwrap();
    hub.start_anew();
    let (Taken::Ending(Ending::Close { code, reason, .. }), _) = found(&presence.connection) else { panic!() };
    assert_eq!(code, GOING_AWAY);
    assert!(reason.contains(r#""resume":true"#) && reason.len() <= 123, "{reason}");
    assert!(!hub.is_closed(), "new connections are taken");
}

#[tokio::test]
async fn a_live_event_names_the_one_before_it_that_only_history_has() {
    let data = tempfile::tempdir().unwrap();
    let log = log::open(&log::Config::default(), data.path(), Region::default()).await.unwrap();
    let directory = directory::open(&directory::Config::default(), data.path()).await.unwrap();
    // Its id says that it is older than what the log has kept.
    let group = GroupId::generate(Region::default()).to_string();
    let group: GroupId = format!("018bcfe5-6800{}", &group[13..]).parse().unwrap();
    let long_ago = entries(group.into(), &[message(user(), "long ago")]);
    let hub = start(&data, log.clone(), (directory, PlainHistory::of(&long_ago)), LOOK_EVERY).await;
    let presence = hub.join(&caller(Timestamp::MAX), Listening::ForFrames).await.unwrap();
    presence.connection.outbox.speak([]);
    hub.rooms.enter(Topic::Group(group), &presence.connection, usize::MAX).await.unwrap();
    let elsewhere = GroupId::generate(Region::default());
    for (group, text) in [(elsewhere, "1"), (elsewhere, "2"), (elsewhere, "3"), (group, "now")] {
        let event = message(user(), text);
        let append = log::Append { conversation: group.into(), id: event.id, payload: event.encode(), trace: None };
        log.append(append).await.unwrap().await.unwrap();
    }
    let told = std::cell::RefCell::new(String::new());
    until("the event comes", || {
        let chunks = found(&presence.connection).1;
        told.borrow_mut().extend(chunks.iter().map(|chunk| String::from_utf8_lossy(chunk)));
        told.borrow().contains("now")
    })
    .await;
    assert!(told.borrow().contains(&format!(r#""prev":{},"#, long_ago[0].position.seq)), "{told:?}");
}

#[tokio::test]
async fn a_closed_hub_takes_no_connections() {
    let data = tempfile::tempdir().unwrap();
    let (hub, _log) = hub(&data).await;
    hub.close();
    assert_eq!(hub.join(&caller(Timestamp::MAX), Listening::ForFrames).await.err().unwrap().code(), "unavailable");
}

/// A user who is signed in, and its access token.
async fn signed_in(hub: &Hub) -> (Caller, String) {
    let Caller { user: id, session, .. } = caller(Timestamp::MAX);
    let at = Timestamp::now();
    let (username, name, email) = ("ada".to_owned(), "Ada".to_owned(), "ada@example.org".to_owned());
    let user = NewUser { id, username, name, email, password_hash: String::new(), at };
    let refresh_hash = SecretHash([1; 32]);
    let expires_at = at.plus(Duration::from_secs(3_600));
    let (id, user_id, client) = (session, id, "a test".to_owned());
    let session = NewSession { id, user: user_id, refresh_hash, client, expires_at, at, verified: None };
    let register = Command::Register { user, session: Some(session) };
    let user = hub.directory.execute(&register).await.unwrap().unwrap().user.unwrap();
    let token = hub.tokens.issue(&user, id).unwrap();
    (hub.tokens.verify(&token).unwrap(), token)
}

/// Ends a session as another edge does whose notice is lost.
async fn end_untold(hub: &Hub, caller: &Caller) {
    let end = Command::RevokeSession { user: caller.user, session: caller.session, at: Timestamp::now() };
    hub.directory.execute(&end).await.unwrap().unwrap();
}

/// Waits for what other tasks bring about, and not for ever.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect(what);
}

async fn until_refused(hub: &Hub, token: &str) {
    until("the token is refused", || hub.tokens.verify(token).is_err()).await;
}

#[tokio::test]
async fn a_session_ends_though_no_notice_tells_of_it() {
    let data = tempfile::tempdir().unwrap();
    let (hub, _log) = hub_that_looks(&data, Duration::from_millis(1)).await;
    let (ada, token) = signed_in(&hub).await;
    let presence = hub.join(&ada, Listening::ForFrames).await.unwrap();
    end_untold(&hub, &ada).await;
    until_refused(&hub, &token).await;
    // Its token is refused first, then its sockets are closed, by a task that may be at it still.
    until("the socket is closed", || {
        matches!(found(&presence.connection).0, Taken::Ending(Ending::Close { code: SIGNED_OUT, .. }))
    })
    .await;
}

#[tokio::test]
async fn a_session_that_ends_after_its_token_was_looked_at_opens_nothing() {
    let data = tempfile::tempdir().unwrap();
    let (hub, _log) = hub_that_looks(&data, Duration::MAX).await;
    let (ada, _token) = signed_in(&hub).await;
    // Told of before the connection is there to be closed.
    hub.revoked(ada.user, ada.session);
    let joined = hub.join(&ada, Listening::ForFrames).await;
    assert_eq!(joined.err().map(|error| error.code()), Some("unauthenticated"));
    assert!(hub.rooms.of_user(ada.user).is_empty());
}

#[tokio::test]
async fn when_something_is_lost_sessions_are_looked_for_at_once() {
    let data = tempfile::tempdir().unwrap();
    let (hub, _log) = hub_that_looks(&data, Duration::MAX).await;
    let (ada, token) = signed_in(&hub).await;
    end_untold(&hub, &ada).await;
    hub.start_anew();
    until_refused(&hub, &token).await;
}

#[tokio::test]
async fn a_session_that_ended_before_the_edge_began_is_refused_from_the_start() {
    let data = tempfile::tempdir().unwrap();
    let (other, log) = hub(&data).await;
    let (ada, token) = signed_in(&other).await;
    end_untold(&other, &ada).await;
    let hub = start(&data, log, (other.directory.clone(), PlainHistory::of(&[])), Duration::MAX).await;
    assert_eq!(hub.tokens.verify(&token).unwrap_err().code(), "unauthenticated");
}

#[tokio::test]
async fn a_membership_whose_notice_was_lost_is_joined_from_before_the_interruption() {
    let data = tempfile::tempdir().unwrap();
    let (hub, _log) = hub_that_looks(&data, Duration::MAX).await;
    let (ada, token) = signed_in(&hub).await;
    let presence = hub.join(&ada, Listening::ForFrames).await.unwrap();
    let group = GroupId::generate(Region::default());
    let (owner, at) = (ada.user, Timestamp::now());
    hub.progress.reach(0, 5);
    let create = Command::CreateGroup { group, name: "Tea".into(), owner, members: Vec::new(), at };
    hub.directory.execute(&create).await.unwrap().unwrap();
    hub.interrupted();
    hub.progress.reach(0, 9);
    assert_eq!(hub.position().seqs, [5], "what lies behind may be missing");
    until("the group is to be joined", || presence.connection.outbox.has_joins()).await;
    assert_eq!(presence.connection.outbox.next_join(), Some(Join { group, after_seq: Some(5) }));

    end_untold(&hub, &ada).await;
    hub.interrupted();
    until_refused(&hub, &token).await;
}
