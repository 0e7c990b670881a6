//! A history that is too simple to be wrong: a list of events, from which every answer is made anew.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::future::join_all;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use types::{Body, Content, ConversationId, Entry, Event, EventId, Position, Region, Timestamp, UserId};

use super::{EPOCH, group, user};
use crate::{End, History, Message, Order, Page, Tail};

const CONVERSATIONS: usize = 3;
const SENDERS: usize = 3;
const START_MILLIS: i64 = 1_760_000_000_000;
/// A pause in which nothing happens.
const WEEK_MILLIS: i64 = 7 * 24 * 60 * 60 * 1_000;

/// What happens, how it is handed over, and what is asked then.
#[derive(Clone, Debug)]
pub(super) struct Case {
    steps: Vec<Step>,
    batches: Vec<Batch>,
    questions: Vec<Question>,
}

#[derive(Clone, Debug)]
struct Step {
    conversation: usize,
    sender: usize,
    /// How much later than the step before.
    millis: i64,
    /// How many places after the step before.
    places: u64,
    what: What,
}

/// What a step does, or tries to. The numbers name a step of any conversation, earlier or later.
#[derive(Clone, Debug)]
enum What {
    Say,
    Edit(usize),
    Delete(usize),
    /// Says something under the id of another step.
    Reuse(usize),
    OfLater,
    Unreadable,
    Garbage,
}

/// So many new entries, and among them some that were handed over before.
#[derive(Clone, Debug)]
struct Batch {
    new: usize,
    again_from: usize,
    again: usize,
    /// Whether the repeated ones stand behind the new ones, last one first.
    behind: bool,
}

#[derive(Clone, Debug)]
struct Question {
    conversation: usize,
    before_seq: Option<u64>,
    after_seq: Option<u64>,
    since_millis: Option<i64>,
    sender: Option<usize>,
    order: Order,
    limit: usize,
}

impl Case {
    pub(super) fn any() -> impl Strategy<Value = Self> {
        let what = prop_oneof![
            6 => Just(What::Say),
            3 => any::<usize>().prop_map(What::Edit),
            1 => any::<usize>().prop_map(What::Delete),
            1 => any::<usize>().prop_map(What::Reuse),
            1 => Just(What::OfLater),
            1 => prop_oneof![Just(What::Unreadable), Just(What::Garbage)],
        ];
        let millis = prop_oneof![7 => 0_i64..3, 1 => Just(WEEK_MILLIS)];
        let step = (0..CONVERSATIONS, 0..SENDERS, millis, 1_u64..4, what).prop_map(
            |(conversation, sender, millis, places, what)| Step { conversation, sender, millis, places, what },
        );
        let batch = (1_usize..14, any::<usize>(), 0_usize..6, any::<bool>())
            .prop_map(|(new, again_from, again, behind)| Batch { new, again_from, again, behind });
        let order = prop_oneof![Just(Order::Asc), Just(Order::Desc)];
        let seq = || option::of(0_u64..140);
        let since = (0_i64..8, 0_i64..80).prop_map(|(weeks, millis)| weeks * WEEK_MILLIS + millis);
        let bounds = (seq(), seq(), option::weighted(0.3, since), option::weighted(0.4, 0..SENDERS));
        let question =
            (0..CONVERSATIONS, bounds, order, 0_usize..25).prop_map(|(conversation, bounds, order, limit)| {
                let (before_seq, after_seq, since_millis, sender) = bounds;
                Question { conversation, before_seq, after_seq, since_millis, sender, order, limit }
            });
        (vec(step, 1..60), vec(batch, 1..8), vec(question, 20)).prop_map(|(steps, batches, questions)| Self {
            steps,
            batches,
            questions,
        })
    }
}

/// Carries the case through in new conversations, and compares every answer with the model's.
pub(super) async fn check(history: &dyn History, case: Case) {
    let people: Vec<_> = (0..SENDERS).map(|_| user()).collect();
    let conversations = [group(), group(), ConversationId::direct(people[0], people[1])];
    let entries = log(&case.steps, &conversations, &people);

    let mut stored = 0;
    for batch in case.batches.iter().cycle() {
        if stored == entries.len() {
            break;
        }
        let end = entries.len().min(stored + batch.new);
        history.store(&mixed(&entries, stored..end, batch)).await.unwrap();
        stored = end;
        compare_tails(history, &conversations, &entries[..stored]).await;
    }
    // Together, for a store may be far away.
    let ids = conversations.iter().map(|conversation| compare_ids(history, *conversation, &entries));
    join_all(ids).await;
    let pages = case.questions.iter().map(|question| {
        let what = (entries.as_slice(), question);
        compare_pages(history, &conversations, &people, what)
    });
    join_all(pages).await;
}

async fn compare_ids(history: &dyn History, conversation: ConversationId, entries: &[Entry]) {
    let model = Model::of(conversation, entries);
    let ids = entries.iter().filter_map(id_of).map(async |id| {
        assert_eq!(history.message(conversation, id).await.unwrap(), model.message(id), "message {id}");
        assert_eq!(history.event(conversation, id).await.unwrap(), model.event(id), "event {id}");
    });
    join_all(ids).await;
}

async fn compare_tails(history: &dyn History, conversations: &[ConversationId], entries: &[Entry]) {
    let tails: Vec<_> = conversations.iter().map(|conversation| Model::of(*conversation, entries).tail()).collect();
    assert_eq!(history.tails(conversations).await.unwrap(), tails);
    let ends: Vec<_> =
        tails.into_iter().map(|tail| tail.map(|Tail { position, at, .. }| End { position, at })).collect();
    assert_eq!(history.ends(conversations).await.unwrap(), ends);
    assert_eq!(history.ends(&conversations[..1]).await.unwrap(), ends[..1]);
}

async fn compare_pages(
    history: &dyn History,
    conversations: &[ConversationId],
    people: &[UserId],
    (entries, question): (&[Entry], &Question),
) {
    let conversation = conversations[question.conversation];
    let page = Page {
        before_seq: question.before_seq,
        after_seq: question.after_seq,
        since: question.since_millis.map(|millis| Timestamp::from_millis(START_MILLIS + millis)),
        sender: question.sender.map(|sender| people[sender]),
        order: question.order,
        limit: question.limit,
    };
    let model = Model::of(conversation, entries);
    assert_eq!(history.messages(conversation, &page).await.unwrap(), model.page(&page), "{page:?}");
    let (after_seq, limit) = (question.after_seq.unwrap_or_default(), question.limit);
    let before = model.events.iter().map(|event| event.position.seq).filter(|seq| *seq <= after_seq).max();
    assert_eq!(history.last_seq(conversation, after_seq).await.unwrap(), before.unwrap_or(0));
    let events: Vec<_> = model.events.into_iter().filter(|event| event.position.seq > after_seq).take(limit).collect();
    assert_eq!(history.events(conversation, after_seq, limit).await.unwrap(), events);
}

/// The steps as a log would store them.
fn log(steps: &[Step], conversations: &[ConversationId], people: &[UserId]) -> Vec<Entry> {
    let ids: Vec<_> = steps.iter().map(|_| EventId::generate(Region::default())).collect();
    let (mut seq, mut millis, mut prev) = (0, START_MILLIS, [0; CONVERSATIONS]);
    let entry = |(number, step): (usize, &Step)| {
        seq += step.places;
        millis += step.millis;
        Entry {
            conversation: conversations[step.conversation],
            position: Position { epoch: EPOCH, seq },
            prev: std::mem::replace(&mut prev[step.conversation], seq),
            at: Timestamp::from_millis(millis),
            payload: payload(step, number, &ids, people[step.sender]),
            trace: None,
        }
    };
    steps.iter().enumerate().map(entry).collect()
}

fn payload(step: &Step, number: usize, ids: &[EventId], sender: UserId) -> Bytes {
    let other = |number: usize| ids[number % ids.len()];
    let text = format!("text {number}");
    let say = |text| Body::Message(Content { text, ..Content::default() });
    let (id, body) = match step.what {
        What::Say => (ids[number], say(text)),
        What::Edit(message) => (ids[number], Body::Edit { message: other(message), text }),
        What::Delete(message) => (ids[number], Body::Delete { message: other(message) }),
        What::Reuse(id) => (other(id), say(text)),
        What::OfLater => (ids[number], Body::Unknown { kind: "of_later".into() }),
        What::Unreadable => return format!(r#"{{"id":"{}","kind":"message","text":7}}"#, ids[number]).into(),
        What::Garbage => return Bytes::from_static(b"{no JSON"),
    };
    Event { id, sender, body }.encode()
}

fn mixed(entries: &[Entry], new: std::ops::Range<usize>, batch: &Batch) -> Vec<Entry> {
    let from = batch.again_from % new.end;
    let again = &entries[from..new.end.min(from + batch.again)];
    if batch.behind {
        return entries[new].iter().chain(again.iter().rev()).cloned().collect();
    }
    again.iter().chain(&entries[new]).cloned().collect()
}

fn id_of(entry: &Entry) -> Option<EventId> {
    let json: serde_json::Value = serde_json::from_slice(&entry.payload).ok()?;
    json.get("id")?.as_str()?.parse().ok()
}

/// One conversation.
struct Model {
    events: Vec<Entry>,
    messages: Vec<Message>,
}

impl Model {
    fn of(conversation: ConversationId, entries: &[Entry]) -> Self {
        let events: Vec<_> = entries.iter().filter(|entry| entry.conversation == conversation).cloned().collect();
        let (mut used, mut messages) = (BTreeSet::new(), Vec::new());
        for entry in &events {
            let is_new = id_of(entry).is_some_and(|id| used.insert(id));
            if let (true, Ok(event)) = (is_new, Event::decode(&entry.payload)) {
                happen(&mut messages, entry, event);
            }
        }
        Self { events, messages }
    }

    fn tail(&self) -> Option<Tail> {
        let last = self.events.last()?;
        Some(Tail { position: last.position, at: last.at, last_message: self.messages.last().cloned() })
    }

    fn message(&self, id: EventId) -> Option<Message> {
        self.messages.iter().find(|message| message.id == id).cloned()
    }

    fn event(&self, id: EventId) -> Option<Entry> {
        self.events.iter().find(|event| id_of(event) == Some(id)).cloned()
    }

    fn page(&self, page: &Page) -> Vec<Message> {
        let holds = |message: &&Message| {
            page.before_seq.is_none_or(|seq| message.seq < seq)
                && page.after_seq.is_none_or(|seq| message.seq > seq)
                && page.since.is_none_or(|since| message.created_at >= since)
                && page.sender.is_none_or(|sender| message.sender == sender)
        };
        let mut messages: Vec<_> = self.messages.iter().filter(holds).cloned().collect();
        if page.order == Order::Desc {
            messages.reverse();
        }
        messages.truncate(page.limit);
        messages
    }
}

fn happen(messages: &mut Vec<Message>, entry: &Entry, event: Event) {
    let Event { id, sender, body } = event;
    let mut change = |target: EventId, content: Option<String>| {
        let Some(message) = messages.iter_mut().find(|message| message.id == target && !message.deleted) else {
            return;
        };
        message.updated_at = entry.at;
        match content {
            Some(text) => message.content.text = text,
            None => (message.content, message.deleted) = (message.content.withdrawn(), true),
        }
    };
    match body {
        Body::Message(content) => messages.push(Message {
            id,
            conversation: entry.conversation,
            seq: entry.position.seq,
            sender,
            content,
            created_at: entry.at,
            updated_at: entry.at,
            deleted: false,
        }),
        Body::Edit { message, text } => change(message, Some(text)),
        Body::Delete { message } => change(message, None),
        _ => {}
    }
}
