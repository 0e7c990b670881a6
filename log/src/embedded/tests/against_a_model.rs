//! Random histories of one log, compared after every step with the simplest thing that behaves alike.

use std::collections::HashMap;

use proptest::prelude::{Strategy, any, prop_oneof, proptest};
use proptest::test_runner::Config;
use types::EventId;

use super::*;
use crate::contract::user;

const CONSUMERS: [Consumer; 2] = [INGEST, ANALYTICS];

#[derive(Clone, Debug)]
enum Step {
    /// Append so many events at once, of these numbers; a number that was used before is a repetition.
    Append(Vec<(usize, usize)>),
    Read {
        conversation: usize,
        after: u64,
        limit: usize,
    },
    Fetch {
        consumer: usize,
        limit: usize,
    },
    Ack {
        consumer: usize,
        back: u64,
    },
    Resume {
        consumer: usize,
    },
    /// Let everything go that may go.
    Tidy,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let consumer = 0..CONSUMERS.len();
    prop_oneof![
        6 => proptest::collection::vec((0..4_usize, 0..400_usize), 1..40).prop_map(Step::Append),
        4 => (0..4_usize, 0..300_u64, 0..40_usize)
            .prop_map(|(conversation, after, limit)| Step::Read { conversation, after, limit }),
        3 => (consumer.clone(), 1..60_usize).prop_map(|(consumer, limit)| Step::Fetch { consumer, limit }),
        2 => (consumer.clone(), 0..5_u64).prop_map(|(consumer, back)| Step::Ack { consumer, back }),
        1 => consumer.prop_map(|consumer| Step::Resume { consumer }),
        1 => any::<bool>().prop_map(|tidy| if tidy { Step::Tidy } else { Step::Reopen }),
    ]
}

/// One entry as the model holds it; its `seq` is its index and one.
struct Stored {
    conversation: usize,
    number: usize,
    prev: u64,
}

/// What the log should be.
#[derive(Default)]
struct Model {
    stored: Vec<Stored>,
    numbers: HashMap<usize, u64>,
    heads: HashMap<usize, u64>,
    given: HashMap<usize, u64>,
    acked: HashMap<usize, u64>,
    /// What was the oldest entry when a consumer was first heard of: nothing later may be removed unread.
    known_since: HashMap<usize, u64>,
    /// How often it was tidied.
    tidied: u32,
}

struct Run {
    folder: TempDir,
    log: Option<Embedded>,
    conversations: Vec<ConversationId>,
    ids: Vec<EventId>,
    model: Model,
}

impl Run {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (me, peer) = (user(), user());
        let direct = [ConversationId::direct(me, peer), ConversationId::direct(me, me)];
        let conversations = [group().into(), group().into()].into_iter().chain(direct).collect();
        let ids = (0..400).map(|_| EventId::generate(Region::default())).collect();
        let log = Some(Embedded::open(forgetful(&folder)).unwrap());
        Self { folder, log, conversations, ids, model: Model::default() }
    }

    fn log(&self) -> &Embedded {
        self.log.as_ref().unwrap()
    }

    async fn take(&mut self, step: Step) {
        let oldest = self.log().running.shard.oldest();
        if let Step::Fetch { consumer, .. } | Step::Ack { consumer, .. } = step {
            self.model.known_since.entry(consumer).or_insert(oldest);
        }
        match step {
            Step::Append(events) => self.append(events).await,
            Step::Read { conversation, after, limit } => self.read(conversation, after, limit).await,
            Step::Fetch { consumer, limit } => self.fetch(consumer, limit).await,
            Step::Ack { consumer, back } => {
                let seq = self.model.given.get(&consumer).map_or(0, |given| given.saturating_sub(back));
                self.log().ack(CONSUMERS[consumer], seq).await.unwrap();
                let acked = self.model.acked.entry(consumer).or_default();
                *acked = seq.max(*acked);
            }
            Step::Resume { consumer } => {
                self.log().resume(CONSUMERS[consumer]).await.unwrap();
                let acked = self.model.acked.get(&consumer).copied().unwrap_or(0);
                self.model.given.insert(consumer, acked);
            }
            Step::Tidy => {
                tidy_much_later(self.log(), self.model.tidied);
                self.model.tidied += 1;
                self.model.numbers.clear();
            }
            Step::Reopen => {
                self.log = None;
                self.log = Some(Embedded::open(forgetful(&self.folder)).unwrap());
                self.model.given = self.model.acked.clone();
                // The clock says that all this was stored just now: what is still there is remembered again.
                let kept = (1..).zip(&self.model.stored).filter(|(seq, _)| *seq >= self.log().running.shard.oldest());
                self.model.numbers = kept.map(|(seq, stored)| (stored.number, seq)).collect();
            }
        }
        self.compare().await;
    }

    async fn append(&mut self, events: Vec<(usize, usize)>) {
        let mut receipts = Vec::new();
        for (conversation, number) in &events {
            let sent = event(self.conversations[*conversation]);
            receipts.push(self.log().append(crate::Append { id: self.ids[*number], ..sent }).await.unwrap());
        }
        for ((conversation, number), stored) in events.into_iter().zip(join_all(receipts).await) {
            let stored = stored.unwrap();
            let next = self.model.stored.len() as u64 + 1;
            let first = *self.model.numbers.entry(number).or_insert(next);
            assert_eq!((stored.position.seq, stored.duplicate), (first, first != next));
            if first == next {
                let prev = self.model.heads.insert(conversation, next).unwrap_or(0);
                self.model.stored.push(Stored { conversation, number, prev });
            }
        }
    }

    async fn read(&self, conversation: usize, after: u64, limit: usize) {
        let after = after.max(self.log().running.shard.oldest() - 1);
        let entries = self.log().read(self.conversations[conversation], after, limit).await.unwrap();
        let found: Vec<(u64, u64)> = entries.iter().map(|entry| (entry.position.seq, entry.prev)).collect();
        let all = (1_u64..).zip(&self.model.stored);
        let of_conversation = all.filter(|(seq, stored)| stored.conversation == conversation && *seq > after);
        let expected: Vec<_> = of_conversation.map(|(seq, stored)| (seq, stored.prev)).take(limit).collect();
        assert_eq!(found, expected);
    }

    async fn fetch(&mut self, consumer: usize, limit: usize) {
        let removed = self.log().running.shard.oldest() - 1;
        let given = self.model.given.get(&consumer).copied().unwrap_or(0).max(removed);
        if given == self.model.stored.len() as u64 {
            assert!(self.log().fetch(CONSUMERS[consumer], limit).now_or_never().is_none());
            return;
        }
        let read = seqs(&soon(self.log().fetch(CONSUMERS[consumer], limit)).await.unwrap());
        assert!((1..=limit).contains(&read.len()));
        assert_eq!(read, (given + 1..).take(read.len()).collect::<Vec<_>>());
        self.model.given.insert(consumer, *read.last().unwrap());
        self.model.acked.entry(consumer).or_default();
    }

    /// What is true after every step.
    async fn compare(&self) {
        let last = self.model.stored.len() as u64;
        let oldest = self.log().running.shard.oldest();
        let heads = self.log().heads(&self.conversations).await.unwrap();
        for (conversation, head) in heads.iter().enumerate() {
            let expected = self.model.heads.get(&conversation).copied().filter(|seq| *seq >= oldest);
            assert_eq!(head.map(|head| head.position.seq), expected);
        }
        for (index, consumer) in CONSUMERS.into_iter().enumerate() {
            let acked_seq = self.model.acked.get(&index).copied().unwrap_or(0);
            let lag = self.log().lag(consumer).await.unwrap();
            assert_eq!((lag.acked_seq, lag.events), (acked_seq, last - acked_seq.max(oldest - 1).min(last)));
            let needed = self.model.known_since.get(&index).map_or(u64::MAX, |since| *since.max(&(acked_seq + 1)));
            assert!(oldest <= needed, "what a consumer needs was removed");
        }
    }
}

proptest! {
    #![proptest_config(Config { cases: 24, ..Config::default() })]
    #[test]
    fn the_log_behaves_like_its_model(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new();
            for step in steps {
                run.take(step).await;
            }
        });
    }
}
