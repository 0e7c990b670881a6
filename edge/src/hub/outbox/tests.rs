use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Wake;

use types::{Entry, Position, Region, Timestamp};

use super::*;

/// Counts how often a task was woken.
#[derive(Default)]
struct Alarm(AtomicUsize);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A task with its outbox.
struct Task {
    outbox: Outbox,
    alarm: Arc<Alarm>,
    waker: Waker,
}

impl Task {
    fn new(limit_bytes: usize) -> Self {
        let alarm = Arc::new(Alarm::default());
        Self { outbox: Outbox::new(limit_bytes), waker: Arc::clone(&alarm).into(), alarm }
    }

    fn take(&self, written: Written) -> (Taken, Vec<Bytes>) {
        let mut chunks = VecDeque::new();
        let taken = self.outbox.take(&Context::from_waker(&self.waker), written, &mut chunks);
        (taken, chunks.into())
    }

    /// Takes all and says that it was written.
    fn drain(&self) -> Vec<Bytes> {
        let (_, chunks) = self.take(Written::default());
        let bytes = chunks.iter().map(Bytes::len).sum();
        self.take(Written { bytes, chunks: chunks.len() });
        chunks
    }

    fn woken(&self) -> usize {
        self.alarm.0.load(Ordering::SeqCst)
    }
}

fn group() -> GroupId {
    GroupId::generate(Region::default())
}

fn burst(conversation: ConversationId, seqs: &[u64]) -> Burst {
    let entries: Vec<Entry> = seqs
        .iter()
        .map(|seq| Entry {
            conversation,
            position: Position { seq: *seq, ..Position::default() },
            prev: seq - 1,
            at: Timestamp::default(),
            payload: "{}".into(),
            trace: None,
        })
        .collect();
    Burst::of(entries.iter())
}

#[test]
fn chunks_come_out_in_order_and_only_a_sleeper_is_woken() {
    let task = Task::new(1_000);
    assert_eq!(task.take(Written::default()), (Taken::Nothing, vec![]));
    for chunk in ["a", "b", "c"] {
        assert!(task.outbox.push(chunk.into()));
    }
    assert_eq!(task.woken(), 1, "one wake for what comes together");
    assert_eq!(task.take(Written::default()), (Taken::Chunks, vec!["a".into(), "b".into(), "c".into()]));
}

#[test]
fn what_is_taken_counts_until_it_is_written() {
    let task = Task::new(2 * (CHUNK_BYTES + 10));
    assert!(task.outbox.push(vec![0; 10].into()));
    assert!(task.outbox.push(vec![0; 10].into()));
    let (taken, chunks) = task.take(Written::default());
    assert_eq!((taken, chunks.len()), (Taken::Chunks, 2));
    task.take(Written { bytes: 10, chunks: 1 });
    assert!(task.outbox.push(vec![0; 10].into()), "what was written makes room");
    assert!(!task.outbox.push(Bytes::from_static(b"x")), "what was not written still counts");
}

#[test]
fn a_slow_reader_is_told_to_come_back_and_keeps_no_memory() {
    let task = Task::new(1_000);
    task.take(Written::default());
    while task.outbox.push(vec![0; 100].into()) {}
    assert_eq!(task.woken(), 2);
    let (taken, chunks) = task.take(Written::default());
    let Taken::Ending(Ending::Close { code, flush, .. }) = taken else { panic!("{taken:?}") };
    assert_eq!((code, flush, chunks.len()), (4408, false, 0));
    assert!(task.outbox.take_rest().is_empty());
    assert!(!task.outbox.push("more".into()));
}

#[test]
fn a_chunk_beyond_the_limit_is_sent_when_nothing_else_waits() {
    let task = Task::new(1_000);
    assert!(task.outbox.push(vec![0; 2_000].into()));
    assert_eq!(task.drain().len(), 1);
    assert!(task.outbox.push(vec![0; 2_000].into()));
    assert!(!task.outbox.push(Bytes::from_static(b"x")));
}

#[test]
fn an_empty_outbox_holds_nothing_after_a_burst() {
    let task = Task::new(1 << 20);
    (0..1_000).for_each(|_| assert!(task.outbox.push("chunk".into())));
    assert_eq!(task.drain().len(), 1_000);
    let state = task.outbox.state.lock();
    assert_eq!((state.queue.capacity(), state.waiting_bytes), (0, 0));
}

#[test]
fn a_graceful_end_lets_what_waits_go_first() {
    let task = Task::new(1_000);
    task.outbox.push("last".into());
    let ending = Ending::Close { code: 1001, reason: String::new(), flush: true };
    task.outbox.end(ending.clone());
    task.outbox.end(Ending::Close { code: 1002, reason: String::new(), flush: false });
    assert_eq!(task.take(Written::default()).0, Taken::Ending(ending), "the first ending stands");
    assert_eq!(task.outbox.take_rest(), ["last"]);
    task.outbox.end(Ending::Cut);
    assert_eq!(task.take(Written::default()).0, Taken::Ending(Ending::Cut), "but a cut cuts");
}

#[test]
fn live_events_wait_behind_a_gate_and_come_once() {
    let task = Task::new(100_000);
    let (gated, other): (ConversationId, ConversationId) = (group().into(), group().into());
    task.outbox.gate(gated);
    assert!(!task.outbox.doubt(gated));
    task.outbox.deliver(gated, &burst(gated, &[7, 8]));
    task.outbox.deliver(other, &burst(other, &[9]));
    task.outbox.deliver(gated, &burst(gated, &[10, 12]));
    assert_eq!(task.drain(), [burst(other, &[9]).bytes], "only the other conversation's come");
    assert!(task.outbox.replay(gated, burst(gated, &[5, 7, 8, 10])));
    assert!(task.outbox.release(gated, 10, false));
    assert_eq!(task.drain(), [burst(gated, &[5, 7, 8, 10]).bytes, burst(gated, &[12]).after(11)]);
    task.outbox.deliver(gated, &burst(gated, &[13]));
    assert_eq!(task.drain().len(), 1, "after that they come as they are");
    assert_eq!(task.outbox.state.lock().waiting_bytes, 0);
    assert!(task.outbox.state.lock().rare.is_none());
}

#[test]
fn what_the_log_was_faster_with_than_its_feed_does_not_come_twice() {
    let task = Task::new(100_000);
    let conversation = group().into();
    task.outbox.gate(conversation);
    assert!(task.outbox.replay(conversation, burst(conversation, &[5, 7, 8])));
    assert!(task.outbox.release(conversation, 8, false));
    assert_eq!(task.drain().len(), 1);
    for late in [&[5][..], &[7, 8]] {
        assert!(task.outbox.deliver(conversation, &burst(conversation, late)));
    }
    assert_eq!(task.drain(), Vec::<Bytes>::new());
    assert!(task.outbox.deliver(conversation, &burst(conversation, &[8, 9])));
    assert_eq!(task.drain(), [burst(conversation, &[8, 9]).after(8)]);
    assert!(task.outbox.state.lock().rare.is_none());
    task.outbox.gate(conversation);
    assert!(task.outbox.release(conversation, 9, true));
    assert!(task.outbox.state.lock().rare.is_none(), "a feed that has passed needs no watching");
}

#[test]
fn what_a_gate_holds_is_bounded_too() {
    let task = Task::new(1_000);
    let conversation = group().into();
    task.outbox.gate(conversation);
    let burst = burst(conversation, &[1]);
    let held = std::iter::repeat_with(|| task.outbox.deliver(conversation, &burst)).take_while(|is_in| *is_in).count();
    assert_eq!(held, 1_000 / (burst.bytes.len() + CHUNK_BYTES));
    assert!(matches!(task.take(Written::default()).0, Taken::Ending(Ending::Close { code: 4408, .. })));
}

#[test]
fn nothing_is_replayed_once_access_is_lost() {
    let task = Task::new(10_000);
    let conversation = group().into();
    task.outbox.gate(conversation);
    task.outbox.deliver(conversation, &burst(conversation, &[4]));
    task.outbox.discard(conversation);
    assert!(!task.outbox.replay(conversation, burst(conversation, &[3])));
    assert!(!task.outbox.release(conversation, 3, false));
    assert_eq!(task.take(Written::default()), (Taken::Nothing, vec![]));
    assert_eq!(task.outbox.state.lock().waiting_bytes, 0);
}

#[test]
fn a_group_is_joined_once_and_too_many_end_the_connection() {
    let task = Task::new(10_000);
    let one = Join { group: group(), after_seq: None };
    let other = Join { group: group(), after_seq: Some(5) };
    task.take(Written::default());
    assert!(!task.outbox.has_joins());
    let added = Join { after_seq: Some(9), ..one };
    for join in [one, other, added, one] {
        task.outbox.ask_to_join(join);
    }
    assert!(task.woken() > 0);
    assert!(task.outbox.has_joins());
    assert_eq!(task.outbox.next_join(), Some(added));
    assert!(task.outbox.has_joins());
    assert_eq!(task.outbox.next_join(), Some(other));
    assert!(!task.outbox.has_joins());
    assert_eq!(task.outbox.next_join(), None);
    (0..=MAX_JOINS).for_each(|_| task.outbox.ask_to_join(Join { group: group(), after_seq: Some(0) }));
    assert!(task.outbox.is_ending());
}

#[test]
fn a_long_poll_hears_where_and_keeps_nothing() {
    let task = Task::new(1_000);
    task.outbox.only_hear();
    let ctx = &mut Context::from_waker(&task.waker);
    assert!(task.outbox.poll_heard(ctx).is_pending());
    let conversation = group().into();
    for _ in 0..100 {
        assert!(task.outbox.deliver(conversation, &burst(conversation, &[1])));
        assert!(task.outbox.push("typing".into()));
    }
    assert!(task.woken() > 0);
    assert_eq!(task.outbox.poll_heard(ctx), Poll::Ready(BTreeSet::from([conversation])));
    assert!(task.outbox.poll_heard(ctx).is_pending());
    task.outbox.end(Ending::Cut);
    assert_eq!(task.outbox.poll_heard(ctx), Poll::Ready(BTreeSet::new()));
}

#[test]
fn live_events_wait_until_the_client_has_said_from_where() {
    let task = Task::new(100_000);
    let (one, other): (ConversationId, ConversationId) = (group().into(), group().into());
    task.outbox.listen_first();
    task.outbox.push("hello".into());
    task.outbox.deliver(one, &burst(one, &[7]));
    task.outbox.deliver(other, &burst(other, &[8]));
    assert_eq!(task.drain(), ["hello"]);
    task.outbox.speak([one]);
    assert_eq!(task.drain(), [burst(other, &[8]).bytes]);
    assert!(task.outbox.replay(one, burst(one, &[5, 7])));
    assert!(task.outbox.release(one, 7, true));
    assert_eq!(task.drain(), [burst(one, &[5, 7]).bytes]);
    task.outbox.deliver(one, &burst(one, &[9]));
    assert_eq!(task.drain(), [burst(one, &[9]).bytes]);
    let state = task.outbox.state.lock();
    assert_eq!((state.waiting_bytes, state.rare.is_none()), (0, true));
}

#[test]
fn a_replay_before_the_client_has_spoken_brings_nothing_twice() {
    let task = Task::new(100_000);
    let conversation = group().into();
    task.outbox.listen_first();
    task.outbox.deliver(conversation, &burst(conversation, &[7]));
    task.outbox.gate(conversation);
    task.outbox.deliver(conversation, &burst(conversation, &[8]));
    assert!(task.outbox.replay(conversation, burst(conversation, &[5, 7])));
    assert!(task.outbox.release(conversation, 7, true));
    task.outbox.speak([]);
    assert_eq!(task.drain(), [burst(conversation, &[5, 7]).bytes, burst(conversation, &[8]).bytes]);
}

#[test]
fn much_does_not_wait_for_the_client_to_speak() {
    let task = Task::new(2_000);
    let conversation = group().into();
    let burst = burst(conversation, &[7]);
    task.outbox.listen_first();
    while task.drain().is_empty() {
        assert!(task.outbox.deliver(conversation, &burst));
    }
}

#[test]
fn what_waits_for_the_client_to_speak_is_lost_with_the_access_and_sent_at_a_graceful_end() {
    let task = Task::new(100_000);
    let (lost, kept): (ConversationId, ConversationId) = (group().into(), group().into());
    task.outbox.listen_first();
    task.outbox.deliver(lost, &burst(lost, &[7]));
    task.outbox.deliver(kept, &burst(kept, &[8]));
    task.outbox.discard(lost);
    task.outbox.end(Ending::Close { code: 1001, reason: String::new(), flush: true });
    assert_eq!(task.outbox.take_rest(), [burst(kept, &[8]).bytes]);
}

#[test]
fn what_is_held_back_does_not_stop_a_replay() {
    let task = Task::new(10_000);
    let (one, other): (ConversationId, ConversationId) = (group().into(), group().into());
    task.outbox.listen_first();
    task.outbox.resume();
    let fill = |conversation| {
        let burst = burst(conversation, &[7]);
        (0..2_500 / burst.bytes.len()).for_each(|_| assert!(task.outbox.deliver(conversation, &burst)));
    };
    task.outbox.gate(one);
    fill(one);
    assert!(task.outbox.is_low(), "it waits for the replay");
    fill(other);
    assert!(task.outbox.is_low(), "it waits for the client to speak");
    task.outbox.speak([other]);
    assert!(task.outbox.is_low(), "now it waits for the replay too");
    task.outbox.release(one, 0, true);
    assert!(!task.outbox.is_low(), "now it waits to be written");
    task.drain();
    assert!(task.outbox.is_low());
    task.outbox.discard(other);
    let state = task.outbox.state.lock();
    assert_eq!((state.waiting_bytes, state.rare.is_none()), (0, true));
}
