use std::sync::Arc;

use directory::{Command, NewUser};
use tempfile::TempDir;
use types::event::{Image, Video};
use types::{GroupId, Region};

use super::*;

struct World {
    posting: Arc<Posting>,
    log: Arc<dyn Log>,
    history: Arc<dyn History>,
    directory: Arc<dyn Directory>,
    _data: TempDir,
}

impl World {
    async fn start(duplicate_window_seconds: u32) -> Self {
        let data = tempfile::tempdir().unwrap();
        let retention_hours = log::Config::default().retention_hours();
        let config = log::Config::Embedded { path: "log".into(), retention_hours, duplicate_window_seconds };
        let log = log::open(&config, data.path(), Region::default()).await.unwrap();
        let directory = directory::open(&directory::Config::default(), data.path()).await.unwrap();
        let history = history::open(&history::Config::default(), data.path()).await.unwrap();
        let membership = Arc::new(Membership::new(directory.clone()));
        let key = crate::auth::SigningKey::open(&data.path().join("key.pem")).unwrap();
        let tokens = Arc::new(crate::auth::Tokens::new(&crate::config::AuthConfig::default(), key));
        let commands = crate::commands::Commands::new(log.clone(), directory.clone(), membership.clone(), tokens);
        let stores = crate::attachments::Stores {
            blobs: blobs::open(&blobs::Config::default(), data.path()).await.unwrap(),
            directory: directory.clone(),
            commands: Arc::new(commands),
            membership: membership.clone(),
        };
        let attachments = Attachments::new(&crate::config::AttachmentsConfig::default(), Region::default(), stores);
        let stores = Stores {
            log: log.clone(),
            history: history.clone(),
            directory: directory.clone(),
            membership,
            attachments: Arc::new(attachments),
            timeline: Arc::new(Timeline::new(log.clone(), history.clone())),
        };
        Self { posting: Arc::new(Posting::new(stores, 20)), log, history, directory, _data: data }
    }

    async fn user(&self, name: &str) -> UserId {
        let user = NewUser {
            id: UserId::generate(Region::default()),
            username: name.into(),
            name: name.into(),
            email: format!("{name}@example.org"),
            password_hash: String::new(),
            at: Timestamp::now(),
        };
        let id = user.id;
        self.directory.execute(&Command::Register { user, session: None }).await.unwrap().unwrap();
        id
    }

    async fn group(&self, owner: UserId, members: Vec<UserId>) -> ConversationId {
        let group = GroupId::generate(Region::default());
        let command = Command::CreateGroup { group, name: "g".into(), owner, members, at: Timestamp::now() };
        self.directory.execute(&command).await.unwrap().unwrap();
        group.into()
    }

    async fn said(&self, conversation: ConversationId) -> Vec<Entry> {
        self.log.read(conversation, 0, 1_000).await.unwrap()
    }
}

fn text(text: &str) -> Content {
    Content { text: text.into(), ..Content::default() }
}

fn draft(id: EventId, said: &str) -> Draft {
    Draft { id: Some(id), content: text(said), attachment: None }
}

/// An id that was born so long ago.
fn id_of_age(age: Duration) -> EventId {
    let mut bytes = *EventId::generate(Region::default()).as_bytes();
    let born = Timestamp::now().minus(age).as_millis().to_be_bytes();
    bytes[..6].copy_from_slice(&born[2..]);
    EventId::from_bytes(bytes).unwrap()
}

#[tokio::test]
async fn a_resent_message_is_answered_as_the_first_time() {
    let world = World::start(120).await;
    let ada = world.user("ada").await;
    let room = world.group(ada, vec![]).await;
    let id = EventId::generate(Region::default());
    let first = world.posting.send(ada, room, draft(id, "hi")).await.unwrap();
    let again = world.posting.send(ada, room, draft(id, "hi")).await.unwrap();
    assert_eq!((first.duplicate, again.duplicate), (false, true));
    assert_eq!(first.message, again.message);
    assert_eq!(world.said(room).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_sent_a_hundred_times_at_once_is_stored_once() {
    let world = World::start(120).await;
    let ada = world.user("ada").await;
    let room = world.group(ada, vec![]).await;
    let id = EventId::generate(Region::default());
    let sends = (0..100).map(|_| world.posting.send(ada, room, draft(id, "hi")));
    let posted = futures_util::future::join_all(sends).await;
    let firsts = posted.iter().filter(|posted| !posted.as_ref().unwrap().duplicate).count();
    assert_eq!((firsts, world.said(room).await.len()), (1, 1));
}

#[tokio::test]
async fn an_old_id_is_known_when_the_log_has_forgotten_it() {
    // The log remembers ids for a second only: a stand-in for an id that is resent after days.
    let world = World::start(1).await;
    let (ada, bob) = (world.user("ada").await, world.user("bob").await);
    let room = world.group(ada, vec![bob]).await;
    for is_stored in [false, true] {
        let id = id_of_age(Duration::from_secs(86_400));
        let first = world.posting.send(ada, room, draft(id, "hi")).await.unwrap();
        assert!(!first.duplicate);
        if is_stored {
            world.history.store(&world.said(room).await).await.unwrap();
        }
        let before = world.said(room).await.len();
        let again = world.posting.send(ada, room, draft(id, "hi")).await.unwrap();
        assert_eq!((again.message, again.duplicate), (first.message, true), "stored: {is_stored}");
        for (sender, said) in [(ada, "ho"), (bob, "hi")] {
            let error = world.posting.send(sender, room, draft(id, said)).await.unwrap_err();
            assert_eq!(error.code(), "id_taken");
        }
        assert_eq!(world.said(room).await.len(), before);
    }
}

#[tokio::test]
async fn an_id_is_looked_up_unless_the_log_certainly_remembers_it() {
    for (window, young, old) in [(120, 55, 65), (40, 9, 11), (600, 290, 310)] {
        let world = World::start(window).await;
        let now = Timestamp::now();
        let is_old = |seconds| world.posting.may_be_forgotten(id_of_age(Duration::from_secs(seconds)), now);
        assert_eq!((is_old(young), is_old(old)), (false, true), "{window}");
    }
}

#[tokio::test]
async fn an_id_of_another_kind_or_place_is_taken() {
    let world = World::start(120).await;
    let ada = world.user("ada").await;
    let (room, other) = (world.group(ada, vec![]).await, world.group(ada, vec![]).await);
    let id = EventId::generate(Region::default());
    let message = world.posting.send(ada, room, draft(id, "hi")).await.unwrap().message;
    let elsewhere = world.posting.send(ada, other, draft(id, "hi")).await.unwrap_err();
    assert_eq!(elsewhere.code(), "id_taken");
    world.posting.edit(ada, room, message.id, "ho".into()).await.unwrap();
    let edit = Event::decode(&world.said(room).await.pop().unwrap().payload).unwrap();
    let error = world.posting.send(ada, room, draft(edit.id, "ho")).await.unwrap_err();
    assert_eq!(error.code(), "id_taken");
}

#[tokio::test]
async fn a_message_to_a_place_that_is_not_ones_own_is_not_found() {
    let world = World::start(120).await;
    let (ada, eve) = (world.user("ada").await, world.user("eve").await);
    let room = world.group(ada, vec![]).await;
    let nobody = UserId::generate(Region::default());
    for conversation in [
        room,
        ConversationId::direct(ada, ada),
        ConversationId::direct(eve, nobody),
        GroupId::generate(Region::default()).into(),
    ] {
        let draft = Draft { id: None, content: text("hi"), attachment: None };
        let error = world.posting.send(eve, conversation, draft).await.unwrap_err();
        assert_eq!(error.code(), "not_found");
        assert!(world.said(conversation).await.is_empty());
    }
    let draft = Draft { id: None, content: text("hi"), attachment: None };
    world.posting.send(eve, ConversationId::direct(eve, ada), draft).await.unwrap();
}

#[tokio::test]
async fn an_edited_message_is_given_as_it_is_then() {
    let world = World::start(120).await;
    let ada = world.user("ada").await;
    let room = world.group(ada, vec![]).await;
    let id = EventId::generate(Region::default());
    let sent = world.posting.send(ada, room, draft(id, "hi")).await.unwrap().message;
    let edited = world.posting.edit(ada, room, id, "ho".into()).await.unwrap();
    let expected = Message { content: text("ho"), updated_at: edited.updated_at, ..sent };
    assert_eq!(edited, expected);
    assert!(edited.updated_at >= edited.created_at);
    let error = world.posting.edit(ada, room, id, String::new()).await.unwrap_err();
    assert_eq!(error.code(), "invalid", "an empty text is no edit");
}

#[tokio::test]
async fn deleting_twice_is_one_event() {
    let world = World::start(120).await;
    let (ada, bob) = (world.user("ada").await, world.user("bob").await);
    let room = world.group(ada, vec![bob]).await;
    let id = EventId::generate(Region::default());
    world.posting.send(bob, room, draft(id, "hi")).await.unwrap();
    let others = EventId::generate(Region::default());
    world.posting.send(ada, room, draft(others, "hi")).await.unwrap();
    assert_eq!(world.posting.delete(bob, room, others).await.unwrap_err().code(), "forbidden");
    world.posting.delete(ada, room, id).await.unwrap();
    world.posting.delete(bob, room, id).await.unwrap();
    assert_eq!(world.said(room).await.len(), 3);
    assert_eq!(world.posting.edit(bob, room, id, "ho".into()).await.unwrap_err().code(), "message_deleted");
    let direct = ConversationId::direct(ada, bob);
    let note = EventId::generate(Region::default());
    world.posting.send(bob, direct, draft(note, "hi")).await.unwrap();
    assert_eq!(world.posting.delete(ada, direct, note).await.unwrap_err().code(), "forbidden", "nobody owns it");
}

#[tokio::test]
async fn a_mark_is_not_beyond_the_last_event() {
    let world = World::start(120).await;
    let ada = world.user("ada").await;
    let room = world.group(ada, vec![]).await;
    assert_eq!(world.posting.read(ada, room, 7).await.unwrap(), 0);
    let id = EventId::generate(Region::default());
    let seq = world.posting.send(ada, room, draft(id, "hi")).await.unwrap().message.seq;
    assert_eq!(world.posting.read(ada, room, seq + 7).await.unwrap(), seq);
    assert_eq!(world.posting.read(ada, room, 0).await.unwrap(), seq, "a mark does not go back");
}

#[test]
fn contents_are_checked_field_by_field() {
    let image = |url: &str| Some(Image { url: url.into(), width: 1, height: 1 });
    let video = |url: &str| Some(Video { url: url.into(), length_seconds: 1, source: "youtube".into() });
    let good = "https://example.org/a.png";
    for content in [
        text("hi\n\tthere"),
        text("hi\r\nthere"),
        text(&"ä".repeat(20)),
        Content { image: image(good), ..Content::default() },
        Content { video: video(good), ..text("look") },
        Content { mentions: vec![UserId::generate(Region::default()); 50], ..text("all") },
    ] {
        assert!(content::check(&content, false, 20).is_ok(), "{content:?}");
    }
    for (content, pointer) in [
        (text(""), "/text"),
        (text(" \n"), "/text"),
        (text(&"ä".repeat(21)), "/text"),
        (text("a\u{0}"), "/text"),
        (text("a\u{7f}"), "/text"),
        (text("a\u{1b}"), "/text"),
        (Content { image: image("ftp://example.org"), ..Content::default() }, "/image/url"),
        (Content { video: video("javascript:alert(1)"), ..Content::default() }, "/video/url"),
        (Content { image: image(good), video: video(good), ..Content::default() }, "/video"),
        (Content { mentions: vec![UserId::generate(Region::default()); 51], ..text("all") }, "/mentions"),
    ] {
        let error = content::check(&content, false, 20).unwrap_err();
        assert_eq!(error.pointers(), [pointer], "{content:?}");
    }
    assert!(content::check(&text(""), true, 20).is_ok());
    let two = Content { image: image(good), ..Content::default() };
    assert_eq!(content::check(&two, true, 20).unwrap_err().pointers(), ["/attachment"]);
}
