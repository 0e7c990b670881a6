//! What every history promises. Each check takes an open history, which others may be using, and works in
//! conversations of its own. An implementation runs them all:
//!
//! ```ignore
//! crate::contract::contract!(open);
//! ```
//!
//! where `open` gives a history, and whatever must live as long.

mod at_once;
mod falling;
mod model;
mod room;

use std::time::Duration;

use bytes::Bytes;
use proptest::test_runner::{Config, TestRunner};
use types::event::Image;
use types::{Body, Content, ConversationId, Epoch, EventId, GroupId, Position, Region, Timestamp, UserId};

pub(crate) use self::at_once::{
    conversations_may_be_stored_at_once, events_may_be_stored_twice_at_once, whoever_asks_after_a_store_sees_it,
    whoever_sees_the_tail_sees_everything_before_it,
};
pub(crate) use self::falling::the_order_is_the_logs_though_its_time_falls;
use self::model::Case;
pub(crate) use self::room::Room;
use crate::{Error, History, Message, Order, Page};

/// Makes a test of each check.
macro_rules! contract {
    ($open:path) => {
        crate::contract::contract!($open:
            stored_events_read_as_a_simple_model_says,
            an_edit_changes_the_message_and_keeps_its_place,
            an_edit_replaces_the_text_alone,
            a_deleted_message_keeps_its_place_without_content,
            an_imported_message_keeps_the_time_when_it_was_said,
            an_edit_after_a_deletion_changes_nothing,
            an_edit_before_its_message_changes_nothing,
            an_edit_finds_no_message_of_another_conversation,
            repeating_a_message_does_not_undo_its_edit,
            a_second_event_of_an_id_makes_no_second_message,
            one_id_in_two_conversations_is_two_messages,
            an_unknown_kind_is_kept_as_it_is_and_moves_the_tail,
            an_event_that_cannot_be_read_stops_nothing,
            an_event_of_another_log_at_a_stored_place_is_refused,
            an_event_of_another_log_before_the_tail_is_refused,
            events_go_on_in_a_later_log,
            a_conversation_without_events_is_empty_everywhere,
            long_pages_and_long_questions_are_answered,
            a_conversation_of_years_is_read_as_one,
            the_order_is_the_logs_though_its_time_falls,
            peers_come_in_order_and_once,
            notes_to_oneself_have_oneself_as_peer,
            a_read_mark_never_falls,
            read_marks_raised_at_once_end_at_the_greatest,
            conversations_may_be_stored_at_once,
            events_may_be_stored_twice_at_once,
            whoever_asks_after_a_store_sees_it,
            whoever_sees_the_tail_sees_everything_before_it,
        );
    };
    ($open:path: $($check:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let (history, _kept) = $open().await;
                crate::contract::$check(&*history).await;
            }
        )+
    };
}
pub(crate) use contract;

const EPOCH: Epoch = Epoch::new(7);

pub(crate) async fn stored_events_read_as_a_simple_model_says(history: &dyn History) {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        let mut runner = TestRunner::new(Config { cases: 96, ..Config::default() });
        let outcome = runner.run(&Case::any(), |case| {
            runtime.block_on(model::check(history, case));
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{error}"));
    });
}

pub(crate) async fn an_edit_changes_the_message_and_keeps_its_place(history: &dyn History) {
    let mut room = Room::new();
    let sent = room.say("first");
    room.say("second");
    let edited = room.edit(sent.id, "corrected");
    room.store(history).await;
    let message = history.message(room.conversation, sent.id).await.unwrap().unwrap();
    assert_eq!((message.seq, message.content.text.as_str()), (sent.seq, "corrected"));
    assert_eq!((message.created_at, message.updated_at), (sent.at, edited.at));
    assert_eq!(room.texts(history).await, ["corrected", "second"]);
}

pub(crate) async fn an_edit_replaces_the_text_alone(history: &dyn History) {
    let mut room = Room::new();
    let image = Image { url: "https://example.org/cat.png".into(), width: 640, height: 480 };
    let (reply_to, mentions) = (Some(EventId::generate(Region::default())), vec![user()]);
    let content = Content { text: "look".into(), image: Some(image), reply_to, mentions, ..Content::default() };
    let sent = room.add(Body::Message(content.clone()));
    room.edit(sent.id, "look here");
    room.store(history).await;
    let message = history.message(room.conversation, sent.id).await.unwrap().unwrap();
    assert_eq!(message.content, Content { text: "look here".into(), ..content });
}

pub(crate) async fn a_deleted_message_keeps_its_place_without_content(history: &dyn History) {
    let mut room = Room::new();
    let sent = room.say("a secret");
    room.store(history).await;
    let deleted = room.delete(sent.id);
    room.store(history).await;
    let message = history.message(room.conversation, sent.id).await.unwrap().unwrap();
    assert_eq!((message.deleted, message.content), (true, Content::default()));
    assert_eq!((message.seq, message.updated_at), (sent.seq, deleted.at));
    assert_eq!(room.texts(history).await, [""]);
    let tail = room.tail(history).await.unwrap();
    assert!(tail.last_message.unwrap().deleted);
}

pub(crate) async fn an_imported_message_keeps_the_time_when_it_was_said(history: &dyn History) {
    let mut room = Room::new();
    let said_at = Timestamp::from_millis(1_500_000_000_000);
    let content = Content { sent_at: Some(said_at), ..text("long ago") };
    let sent = room.add(Body::Message(content.clone()));
    room.store(history).await;
    let message = history.message(room.conversation, sent.id).await.unwrap().unwrap();
    assert_eq!((message.content.said_at(message.created_at), message.created_at), (said_at, sent.at));
    let page =
        Page { since: Some(sent.at), before_seq: None, after_seq: None, sender: None, order: Order::Asc, limit: 10 };
    assert_eq!(history.messages(room.conversation, &page).await.unwrap().len(), 1, "pages go by the log's time");
    room.edit(sent.id, "corrected");
    room.store(history).await;
    let message = history.message(room.conversation, sent.id).await.unwrap().unwrap();
    assert_eq!(message.content, Content { text: "corrected".into(), ..content });
    room.delete(sent.id);
    room.store(history).await;
    let message = history.message(room.conversation, sent.id).await.unwrap().unwrap();
    assert_eq!((message.deleted, message.content.text.as_str()), (true, ""));
    assert_eq!(message.content.said_at(message.created_at), said_at, "a deleted message keeps its place in time");
}

pub(crate) async fn an_edit_after_a_deletion_changes_nothing(history: &dyn History) {
    let mut room = Room::new();
    let sent = room.say("gone");
    let deleted = room.delete(sent.id);
    room.edit(sent.id, "back again");
    room.store(history).await;
    let message = history.message(room.conversation, sent.id).await.unwrap().unwrap();
    assert_eq!((message.deleted, message.content.text.as_str(), message.updated_at), (true, "", deleted.at));
}

pub(crate) async fn an_edit_before_its_message_changes_nothing(history: &dyn History) {
    let mut room = Room::new();
    let id = EventId::generate(Region::default());
    room.edit(id, "too early");
    room.add_as(id, Body::Message(text("as sent")));
    room.store(history).await;
    assert_eq!(room.texts(history).await, ["as sent"]);
}

pub(crate) async fn an_edit_finds_no_message_of_another_conversation(history: &dyn History) {
    let (mut room, mut other) = (Room::new(), Room::new());
    let sent = room.say("mine");
    room.store(history).await;
    other.edit(sent.id, "theirs");
    other.delete(sent.id);
    other.store(history).await;
    assert_eq!(room.texts(history).await, ["mine"]);
    assert_eq!(history.message(other.conversation, sent.id).await.unwrap(), None);
}

pub(crate) async fn repeating_a_message_does_not_undo_its_edit(history: &dyn History) {
    let mut room = Room::new();
    let sent = room.say("first");
    room.edit(sent.id, "second");
    room.edit(sent.id, "third");
    let entries = room.store(history).await;
    for again in [&entries[..1], &entries[..2], &entries[1..2], &entries] {
        history.store(again).await.unwrap();
        assert_eq!(room.texts(history).await, ["third"]);
    }
}

pub(crate) async fn a_second_event_of_an_id_makes_no_second_message(history: &dyn History) {
    let mut room = Room::new();
    let first = room.say("said once");
    room.store(history).await;
    let second = room.add_as(first.id, Body::Message(text("said twice")));
    let third = room.add_as(first.id, Body::Message(text("and in one batch")));
    room.store(history).await;
    assert_eq!(room.texts(history).await, ["said once"]);
    assert_eq!(history.event(room.conversation, first.id).await.unwrap().unwrap().position.seq, first.seq);
    let seqs: Vec<_> = room.events(history).await.iter().map(|event| event.position.seq).collect();
    assert_eq!(seqs, [first.seq, second.seq, third.seq]);
    assert_eq!(room.tail(history).await.unwrap().last_message.unwrap().seq, first.seq);
}

pub(crate) async fn one_id_in_two_conversations_is_two_messages(history: &dyn History) {
    let (mut room, mut other) = (Room::new(), Room::new());
    let sent = room.say("here");
    other.add_as(sent.id, Body::Message(text("there")));
    room.store(history).await;
    other.store(history).await;
    assert_eq!(room.texts(history).await, ["here"]);
    assert_eq!(other.texts(history).await, ["there"]);
}

pub(crate) async fn an_unknown_kind_is_kept_as_it_is_and_moves_the_tail(history: &dyn History) {
    let mut room = Room::new();
    room.say("known");
    let id = EventId::generate(Region::default());
    let payload = format!(r#"{{"id":"{id}","kind":"poll","sender":"{}","options":["a","b"]}}"#, room.sender);
    let seq = room.add_payload(payload.clone().into());
    room.store(history).await;
    assert_eq!(history.event(room.conversation, id).await.unwrap().unwrap().payload, payload);
    assert_eq!(room.tail(history).await.unwrap().position.seq, seq);
    assert_eq!(history.message(room.conversation, id).await.unwrap(), None);
    assert_eq!(room.texts(history).await, ["known"]);
}

pub(crate) async fn an_event_that_cannot_be_read_stops_nothing(history: &dyn History) {
    let mut room = Room::new();
    room.say("before");
    let seq = room.add_payload(Bytes::from_static(b"\xff{"));
    room.say("after");
    room.store(history).await;
    assert_eq!(room.texts(history).await, ["before", "after"]);
    let events = room.events(history).await;
    assert_eq!((events[1].position.seq, &events[1].payload[..]), (seq, &b"\xff{"[..]));
}

pub(crate) async fn an_event_of_another_log_at_a_stored_place_is_refused(history: &dyn History) {
    let mut room = Room::new();
    room.say("of the first log");
    let mut entries = room.store(history).await;
    entries[0].position.epoch = Epoch::new(EPOCH.number() + 1);
    let refused = history.store(&entries).await;
    assert!(matches!(refused, Err(Error::Damaged(_))), "{refused:?}");
    assert_eq!(room.texts(history).await, ["of the first log"]);
}

pub(crate) async fn an_event_of_another_log_before_the_tail_is_refused(history: &dyn History) {
    let mut room = Room::new();
    let sent = room.say("of the first log");
    room.seq += 5;
    room.say("of it too");
    let mut entries = room.store(history).await;
    entries.truncate(1);
    entries[0].position = Position { epoch: Epoch::new(EPOCH.number() + 1), seq: sent.seq + 2 };
    let refused = history.store(&entries).await;
    assert!(matches!(refused, Err(Error::Damaged(_))), "{refused:?}");
    assert_eq!(room.texts(history).await, ["of the first log", "of it too"]);
}

pub(crate) async fn events_go_on_in_a_later_log(history: &dyn History) {
    let mut room = Room::new();
    room.say("of the first log");
    room.store(history).await;
    room.epoch = Epoch::new(EPOCH.number() + 1);
    room.say("of the second");
    room.store(history).await;
    assert_eq!(room.tail(history).await.unwrap().position.epoch, room.epoch);
    let epochs: Vec<_> = room.events(history).await.iter().map(|event| event.position.epoch).collect();
    assert_eq!(epochs, [EPOCH, room.epoch]);
}

pub(crate) async fn a_conversation_without_events_is_empty_everywhere(history: &dyn History) {
    let room = Room::new();
    assert_eq!(room.tail(history).await, None);
    assert!(room.texts(history).await.is_empty());
    assert!(room.events(history).await.is_empty());
    let id = EventId::generate(Region::default());
    assert_eq!(history.event(room.conversation, id).await.unwrap(), None);
    assert_eq!(history.message(room.conversation, id).await.unwrap(), None);
    assert!(history.peers(room.sender, None, 10).await.unwrap().is_empty());
    assert_eq!(history.read_marks(room.sender, &[room.conversation]).await.unwrap(), [0]);
    history.store(&[]).await.unwrap();
}

pub(crate) async fn long_pages_and_long_questions_are_answered(history: &dyn History) {
    const MESSAGES: usize = 500;
    let mut room = Room::new();
    let texts: Vec<_> = (0..MESSAGES).map(|number| room.say(&number.to_string()).seq.to_string()).collect();
    room.store(history).await;
    let page = Page { limit: MESSAGES, ..PAGE };
    let messages = history.messages(room.conversation, &page).await.unwrap();
    assert_eq!(messages.iter().map(|message| message.seq.to_string()).collect::<Vec<_>>(), texts);
    let tails = history.tails(&vec![room.conversation; MESSAGES]).await.unwrap();
    assert_eq!(tails, vec![room.tail(history).await; MESSAGES]);
    let ends = history.ends(&vec![room.conversation; MESSAGES]).await.unwrap();
    assert!(ends.iter().all(|end| end.is_some_and(|end| end.position.seq == room.seq)));
}

pub(crate) async fn a_conversation_of_years_is_read_as_one(history: &dyn History) {
    const MESSAGES: usize = 60;
    let mut room = Room::new();
    let (mut sent, me, other) = (Vec::new(), room.sender, user());
    for number in 0..MESSAGES {
        room.later += Duration::from_secs(13 * 24 * 60 * 60);
        room.sender = if number % 25 == 10 { other } else { me };
        sent.push(room.say(&number.to_string()));
        if number == 40 {
            room.edit(sent[1].id, "edited after a year");
        }
        room.store(history).await;
    }
    let seqs = |messages: Vec<Message>| messages.iter().map(|message| message.seq).collect::<Vec<_>>();
    let ask = async |page: Page| seqs(history.messages(room.conversation, &page).await.unwrap());
    let all: Vec<_> = sent.iter().map(|sent| sent.seq).collect();
    assert_eq!(ask(PAGE).await, all);
    let newest = Page { order: Order::Desc, limit: 30, before_seq: Some(all[50]), ..PAGE };
    assert_eq!(ask(newest).await, all[20..50].iter().rev().copied().collect::<Vec<_>>());
    let since = Page { since: Some(sent[30].at), limit: 10, ..PAGE };
    assert_eq!(ask(since.clone()).await, all[30..40]);
    assert_eq!(ask(Page { order: Order::Desc, limit: 100, ..since }).await.len(), MESSAGES - 30);
    assert!(ask(Page { sender: Some(user()), ..PAGE }).await.is_empty());
    assert_eq!(ask(Page { sender: Some(other), ..PAGE }).await, [all[10], all[35]]);
    let last = Page { sender: Some(other), before_seq: Some(all[35]), order: Order::Desc, ..PAGE };
    assert_eq!(ask(last).await, [all[10]]);
    let edited = history.message(room.conversation, sent[1].id).await.unwrap().unwrap();
    assert_eq!(edited.content.text, "edited after a year");
    let events = history.events(room.conversation, all[3], 20).await.unwrap();
    assert_eq!(events.iter().map(|event| event.position.seq).collect::<Vec<_>>(), all[4..24]);
}

pub(crate) async fn peers_come_in_order_and_once(history: &dyn History) {
    let me = user();
    let mut peers: Vec<_> = (0..7).map(|_| user()).collect();
    for peer in peers.iter().rev() {
        let mut room = Room::of(ConversationId::direct(me, *peer));
        room.say("hello");
        room.say("hello again");
        room.store(history).await;
        room.say("and again");
        room.store(history).await;
        assert_eq!(history.peers(*peer, None, 10).await.unwrap(), [me]);
    }
    peers.sort_unstable();
    assert_eq!(history.peers(me, None, 10).await.unwrap(), peers);
    assert_eq!(history.peers(me, None, 3).await.unwrap(), peers[..3]);
    assert_eq!(history.peers(me, Some(peers[2]), 3).await.unwrap(), peers[3..6]);
    assert_eq!(history.peers(me, Some(peers[6]), 3).await.unwrap(), []);
}

pub(crate) async fn notes_to_oneself_have_oneself_as_peer(history: &dyn History) {
    let me = user();
    let mut room = Room::of(ConversationId::direct(me, me));
    room.say("remember the milk");
    room.store(history).await;
    assert_eq!(history.peers(me, None, 10).await.unwrap(), [me]);
}

pub(crate) async fn a_read_mark_never_falls(history: &dyn History) {
    let (me, other, conversations) = (user(), user(), [group(), group()]);
    assert_eq!(history.mark_read(me, conversations[0], 5).await.unwrap(), 5);
    assert_eq!(history.mark_read(me, conversations[0], 3).await.unwrap(), 5);
    assert_eq!(history.read_marks(me, &conversations).await.unwrap(), [5, 0]);
    assert_eq!(history.mark_read(me, conversations[0], 8).await.unwrap(), 8);
    assert_eq!(history.read_marks(me, &conversations).await.unwrap(), [8, 0]);
    assert_eq!(history.read_marks(other, &conversations).await.unwrap(), [0, 0]);
}

pub(crate) async fn read_marks_raised_at_once_end_at_the_greatest(history: &dyn History) {
    let (me, conversations) = (user(), [group(), group()]);
    // Up and down again, so that some come after a greater one.
    let raises = (1..=60_u64).chain((1..=60).rev()).map(|seq| {
        let conversation = conversations[usize::from(seq % 2 == 0)];
        async move { (seq, history.mark_read(me, conversation, seq).await.unwrap()) }
    });
    for (seq, mark) in futures_util::future::join_all(raises).await {
        assert!(mark >= seq, "{mark} after {seq}");
    }
    assert_eq!(history.read_marks(me, &conversations).await.unwrap(), [59, 60]);
}

pub(crate) fn user() -> UserId {
    UserId::generate(Region::default())
}

pub(crate) fn group() -> ConversationId {
    ConversationId::Group(GroupId::generate(Region::default()))
}

fn text(text: &str) -> Content {
    Content { text: text.into(), ..Content::default() }
}

/// All of a conversation, oldest first.
const PAGE: Page = Page { before_seq: None, after_seq: None, since: None, sender: None, order: Order::Asc, limit: 100 };
