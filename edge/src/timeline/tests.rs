use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use types::{Body, Event, GroupId, Region, Timestamp, UserId};

use super::*;
use crate::doubles::{AwayHistory, EPOCH, PlainHistory, PlainLog, entries, message, user};
use history::{End, Order};

mod prevs;

/// What may happen in a conversation. Indices name earlier messages, or later ones, which must change nothing.
#[derive(Clone, Debug)]
enum Step {
    Say(usize),
    Edit(usize),
    Delete(usize),
    Other,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..2_usize).prop_map(Step::Say),
        3 => (0..40_usize).prop_map(Step::Edit),
        1 => (0..40_usize).prop_map(Step::Delete),
        1 => Just(Step::Other),
    ];
    proptest::collection::vec(step, 0..40)
}

fn page(senders: [UserId; 2]) -> impl Strategy<Value = Page> {
    let bound = || proptest::option::of(0..90_u64);
    let since = proptest::option::of((0..45_i64).prop_map(|ms| Timestamp::from_millis(1_700_000_000_000 + ms)));
    let sender = proptest::option::of((0..2_usize).prop_map(move |index| senders[index]));
    (bound(), bound(), since, sender, any::<bool>(), 0..12_usize).prop_map(
        |(before_seq, after_seq, since, sender, is_asc, limit)| Page {
            before_seq,
            after_seq,
            since,
            sender,
            order: if is_asc { Order::Asc } else { Order::Desc },
            limit,
        },
    )
}

/// The events of these steps by two senders, with the ids of all messages.
fn events(steps: &[Step], senders: [UserId; 2]) -> Vec<Event> {
    let ids: Vec<EventId> = steps.iter().map(|_| EventId::generate(Region::default())).collect();
    let event = |(index, step): (usize, &Step)| {
        let named = |named: usize| ids[named % steps.len()];
        let (sender, body) = match *step {
            Step::Say(who) => return Event { id: ids[index], ..message(senders[who], &format!("say {index}")) },
            Step::Edit(at) => (senders[0], Body::Edit { message: named(at), text: format!("edit {index}") }),
            Step::Delete(at) => (senders[0], Body::Delete { message: named(at) }),
            Step::Other => (senders[1], Body::GroupUpdated { name: format!("name {index}") }),
        };
        Event { id: ids[index], sender, body }
    };
    steps.iter().enumerate().map(event).collect()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn group() -> ConversationId {
    GroupId::generate(Region::default()).into()
}

proptest! {
    #[test]
    fn every_read_is_as_if_all_were_stored(
        (steps, senders, page) in (steps(), Just([user(), user()])).prop_flat_map(
            |(steps, senders)| (Just(steps), Just(senders), page(senders))),
        stored in 0..=40_usize,
        trimmed in 0..=40_usize,
        after in 0..90_u64,
        limit in 0..50_usize,
    ) {
        let conversation = group();
        let events = events(&steps, senders);
        let all = entries(conversation, &events);
        let stored = stored.min(all.len());
        // The log may have let go only of what is stored.
        let log = PlainLog::of(&all[trimmed.min(stored)..]);
        let timeline = Timeline::new(log, PlainHistory::of(&all[..stored]));
        let whole = PlainHistory::of(&all);
        run(async {
            prop_assert_eq!(
                timeline.messages(conversation, &page).await.unwrap(),
                whole.messages(conversation, &page).await.unwrap()
            );
            for event in &events {
                prop_assert_eq!(
                    timeline.message(conversation, event.id).await.unwrap(),
                    whole.message(conversation, event.id).await.unwrap()
                );
                prop_assert_eq!(
                    timeline.event(conversation, event.id).await.unwrap(),
                    whole.event(conversation, event.id).await.unwrap()
                );
            }
            let asked = [conversation, group()];
            let tails = whole.tails(&asked).await.unwrap();
            let ends = tails.iter().map(|tail| tail.as_ref().map(|tail| End { position: tail.position, at: tail.at }));
            prop_assert_eq!(timeline.ends(&asked).await.unwrap(), ends.collect::<Vec<_>>());
            let latest: Vec<_> = tails.into_iter().map(|tail| timeline.whole(tail)).collect();
            prop_assert_eq!(timeline.latest(&asked).await.unwrap(), latest);
            let last_seq = all.last().map_or(0, |last| last.position.seq);
            prop_assert_eq!(timeline.newest(&asked).await.unwrap(), vec![last_seq, 0]);
            let read = timeline.events(conversation, after, limit).await.unwrap();
            prop_assert_eq!(&read, &whole.events(conversation, after, limit).await.unwrap());
            prop_assert_eq!(is_whole(after, &read), true);
            for entry in &all {
                let found = timeline.event_at(conversation, entry.position.seq).await.unwrap();
                prop_assert_eq!(found.as_ref(), Some(entry));
            }
            Ok(())
        })?;
    }
}

proptest! {
    #[test]
    fn while_history_is_away_the_log_answers_truly_or_not_at_all(
        (steps, senders, page) in (steps(), Just([user(), user()])).prop_flat_map(
            |(steps, senders)| (Just(steps), Just(senders), page(senders))),
        trimmed in 0..=40_usize,
    ) {
        let conversation = group();
        let events = events(&steps, senders);
        let all = entries(conversation, &events);
        let whole = PlainHistory::of(&all);
        run(async {
            // Kept for longer than the conversation is old: everything is there, and so is every answer.
            let young = Timeline::new(PlainLog::of(&all), Arc::new(AwayHistory::default()));
            let expected = whole.messages(conversation, &page).await.unwrap();
            prop_assert_eq!(&young.messages(conversation, &page).await.unwrap(), &expected);
            for event in &events {
                let expected = whole.message(conversation, event.id).await.unwrap();
                prop_assert_eq!(young.message(conversation, event.id).await.unwrap(), expected);
            }
            let latest = young.whole(whole.tails(&[conversation]).await.unwrap().remove(0));
            prop_assert_eq!(&young.latest(&[conversation]).await.unwrap()[0], &latest);
            // Some of it has left the log, which does not say so: what is answered is true all the same.
            let mut kept = all[trimmed.min(all.len())..].to_vec();
            if let Some(first) = kept.first_mut() {
                first.prev = 0;
            }
            let old = Timeline::new(PlainLog::kept_for(Duration::ZERO, &kept), Arc::new(AwayHistory::default()));
            if let Ok(answered) = old.messages(conversation, &page).await {
                prop_assert_eq!(&answered, &expected);
            }
            let known = old.latest(&[conversation]).await.unwrap().remove(0);
            prop_assert!(!known.is_whole || known.last_message.is_some(), "the log does not know that there is none");
            prop_assert!(known.position.is_none_or(|position| Some(position) == latest.position));
            prop_assert!(known.last_message.is_none() || known.last_message == latest.last_message);
            Ok(())
        })?;
    }
}

#[test]
fn while_history_is_away_the_newest_page_of_an_old_conversation_is_read() {
    let conversation = group();
    let sender = user();
    let events: Vec<Event> = (0..3 * BATCH).map(|index| message(sender, &index.to_string())).collect();
    let mut all = entries(conversation, &events).split_off(BATCH);
    all[0].prev = 0;
    let timeline = Timeline::new(PlainLog::kept_for(Duration::ZERO, &all), Arc::new(AwayHistory::default()));
    let page = Page { before_seq: None, after_seq: None, since: None, sender: None, order: Order::Desc, limit: 100 };
    let newest = run(timeline.messages(conversation, &page)).unwrap();
    assert_eq!((newest.len(), newest[0].content.text.as_str()), (100, "767"));
    let more = Page { limit: 3 * BATCH, ..page };
    assert!(run(timeline.messages(conversation, &more)).is_err(), "the oldest ones are nowhere to be read");
}

/// The same over the stores themselves: what was appended is read as if ingest had stored all of it.
async fn every_read_of_the_stores_is_as_if_all_were_stored(events: &[Event], stored: usize, pages: &[Page]) {
    let data = tempfile::tempdir().unwrap();
    let log = log::open(&log::Config::default(), data.path(), Region::default()).await.unwrap();
    let open = async |name: &str| history::open(&history::Config::default(), &data.path().join(name)).await.unwrap();
    let (partly, whole) = (open("partly").await, open("whole").await);
    let conversation = group();
    for event in events {
        let append = log::Append { conversation, id: event.id, payload: event.encode(), trace: None };
        log.append(append).await.unwrap().await.unwrap();
    }
    let all = log.read(conversation, 0, 1_000).await.unwrap();
    assert_eq!(all.len(), events.len());
    partly.store(&all[..stored.min(all.len())]).await.unwrap();
    whole.store(&all).await.unwrap();
    let timeline = Timeline::new(log, partly);
    for page in pages {
        let expected = whole.messages(conversation, page).await.unwrap();
        assert_eq!(timeline.messages(conversation, page).await.unwrap(), expected, "{page:?}");
    }
    let tail = whole.tails(&[conversation]).await.unwrap().remove(0);
    assert_eq!(timeline.latest(&[conversation]).await.unwrap(), [timeline.whole(tail)]);
    for event in events {
        let expected = whole.message(conversation, event.id).await.unwrap();
        assert_eq!(timeline.message(conversation, event.id).await.unwrap(), expected);
    }
    assert_eq!(timeline.events(conversation, 0, 1_000).await.unwrap(), all);
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(8))]
    #[test]
    fn every_read_of_the_embedded_stores_is_as_if_all_were_stored(
        (steps, senders, pages) in (steps(), Just([user(), user()])).prop_flat_map(
            |(steps, senders)| (Just(steps), Just(senders), proptest::collection::vec(page(senders), 1..12))),
        stored in 0..=40_usize,
    ) {
        run(every_read_of_the_stores_is_as_if_all_were_stored(&events(&steps, senders), stored, &pages));
    }
}

#[test]
fn a_tail_of_many_batches_is_read_to_its_end() {
    let conversation = group();
    let sender = user();
    let events: Vec<Event> = (0..3 * BATCH + 7).map(|index| message(sender, &index.to_string())).collect();
    let all = entries(conversation, &events);
    let timeline = Timeline::new(PlainLog::of(&all), PlainHistory::of(&all[..5]));
    let page = Page { before_seq: None, after_seq: None, since: None, sender: None, order: Order::Desc, limit: 3 };
    let newest = run(timeline.messages(conversation, &page)).unwrap();
    let texts: Vec<&str> = newest.iter().map(|message| message.content.text.as_str()).collect();
    assert_eq!(texts, ["774", "773", "772"]);
}

#[test]
fn a_hole_is_seen() {
    let conversation = group();
    let all = entries(conversation, &[message(user(), "1"), message(user(), "2"), message(user(), "3")]);
    assert!(is_whole(0, &all));
    assert!(is_whole(0, &[]));
    assert!(is_whole(3, &all[1..]), "a place of the shard need not be one of the conversation");
    assert!(!is_whole(0, &all[1..]), "the first is missing");
    assert!(!is_whole(0, &[all[0].clone(), all[2].clone()]), "the second is missing");
}

#[test]
fn an_unreadable_event_does_not_hide_the_others() {
    let conversation = group();
    let mut all = entries(conversation, &[message(user(), "1"), message(user(), "2")]);
    all[0].payload = "no event".into();
    let timeline = Timeline::new(PlainLog::of(&all), PlainHistory::of(&[]));
    let latest = run(timeline.latest(&[conversation])).unwrap().remove(0);
    assert_eq!(latest.position, Some(types::Position { epoch: EPOCH, seq: 4 }));
    assert_eq!(latest.last_message.unwrap().content.text, "2");
}

#[test]
fn what_is_wrong_with_an_unreadable_event_is_not_told_for_it_may_be_its_text() {
    let mut entry = entries(group(), &[message(user(), "1")]).remove(0);
    let id = EventId::generate(Region::default());
    entry.payload = format!(r#"{{"id":"{id}","kind":"message","sender":"{}","image":"a secret"}}"#, user()).into();
    let error = Event::decode(&entry.payload).unwrap_err();
    assert!(error.to_string().contains("a secret"), "{error}");
    let told = Told::default();
    tracing::subscriber::with_default(told.clone(), || assert!(fold::read(&entry).is_none()));
    let told = told.0.lock().clone();
    assert!(told.contains("unreadable event") && !told.contains("a secret"), "{told}");
}

/// What is logged.
#[derive(Clone, Default)]
struct Told(Arc<parking_lot::Mutex<String>>);

impl tracing::field::Visit for Told {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        *self.0.lock() += &format!("{field}={value:?} ");
    }
}

impl tracing::Subscriber for Told {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

const NEWEST: Page =
    Page { before_seq: None, after_seq: None, since: None, sender: None, order: Order::Desc, limit: 9 };

/// So many conversations with a message each.
fn many(number: usize) -> (Vec<ConversationId>, Vec<Entry>) {
    let conversations: Vec<_> = (0..number).map(|_| group()).collect();
    let all = conversations.iter().flat_map(|conversation| entries(*conversation, &[message(user(), "1")]));
    let all = all.collect();
    (conversations, all)
}

#[test]
fn the_order_of_many_conversations_costs_one_look_at_each() {
    use std::sync::atomic::Ordering::Relaxed;
    let (conversations, all) = many(300);
    let (log, history) = (PlainLog::of(&all), PlainHistory::of(&all));
    let timeline = Timeline::new(log.clone(), history.clone());
    let asked = || {
        let counts = [&log.heads_asked, &history.ends_asked, &history.tails_asked];
        counts.map(|count| count.swap(0, Relaxed))
    };
    log.is_ingested.store(true, Relaxed);
    assert!(run(timeline.ends(&conversations)).unwrap().iter().all(Option::is_some));
    assert_eq!(asked(), [0, 300, 0], "history has all that there is");
    log.is_ingested.store(false, Relaxed);
    assert!(run(timeline.ends(&conversations)).unwrap().iter().all(Option::is_some));
    assert_eq!(asked(), [300, 0, 0], "history may be behind");
    run(timeline.messages(conversations[0], &NEWEST)).unwrap();
    assert_eq!(asked(), [1, 1, 0], "where the log goes on does not depend on the last message");
}

#[test]
fn behind_a_slow_ingest_a_few_conversations_are_read_at_once() {
    let (conversations, all) = many(100);
    let log = PlainLog::of(&all);
    let timeline = Timeline::new(log.clone(), PlainHistory::of(&[]));
    let latest = run(timeline.latest(&conversations)).unwrap();
    assert!(latest.iter().all(|latest| latest.last_message.is_some()));
    assert_eq!(log.most_reading.load(std::sync::atomic::Ordering::Relaxed), 8);
}

#[test]
fn while_history_is_known_to_be_away_nobody_waits_for_it() {
    let (conversations, all) = many(2);
    let history = Arc::new(AwayHistory::default());
    let asked = || history.asked.swap(0, std::sync::atomic::Ordering::Relaxed);
    let timeline = Timeline::new(PlainLog::of(&all), history.clone());
    run(async {
        timeline.messages(conversations[0], &NEWEST).await.unwrap();
        assert_eq!(asked(), 1);
        timeline.messages(conversations[1], &NEWEST).await.unwrap();
        timeline.message(conversations[1], EventId::generate(Region::default())).await.unwrap();
        timeline.latest(&conversations).await.unwrap();
        assert_eq!(timeline.read_marks(user(), &conversations).await.unwrap(), None);
        assert_eq!(asked(), 0, "the log has what they want");
    });
    let old = Timeline::new(PlainLog::kept_for(Duration::ZERO, &all), history.clone());
    run(async {
        old.messages(conversations[0], &NEWEST).await.unwrap_err();
        assert_eq!(asked(), 1);
        old.messages(conversations[0], &NEWEST).await.unwrap_err();
        assert_eq!(asked(), 1, "whoever cannot do without it asks all the same");
    });
}

#[test]
fn while_history_is_away_nothing_new_is_an_answer() {
    let conversation = group();
    let all = entries(conversation, &[message(user(), "1"), message(user(), "2")]);
    let last_seq = all[1].position.seq;
    let quiet = |log| run(Timeline::new(log, Arc::new(AwayHistory::default())).events(conversation, last_seq, 10));
    assert_eq!(quiet(PlainLog::of(&all)).unwrap(), [], "the log holds all of it");
    assert_eq!(quiet(PlainLog::kept_for(Duration::ZERO, &all[1..])).unwrap(), [], "the log holds the last of it");
    assert!(quiet(PlainLog::kept_for(Duration::ZERO, &[])).is_err(), "there may have been more");
}
