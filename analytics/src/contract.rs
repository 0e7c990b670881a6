//! What every analytics store must do, checked against counts made by hand.
//!
//! `contract_tests!(open, close)` makes a test of each check; `open` opens the store that lives at a path, or makes
//! it, and `close` takes away what lies elsewhere when the test has ended well.

mod model;
mod races;

use std::path::Path;
use std::sync::Arc;

use types::{ConversationId, GroupId, Region, Timestamp, UserId};

use crate::{Analytics, Bucket, Error, Fact, Filter, Range, Ranked};
use model::{DAY_MS, Draw, HOUR_MS, Model};
pub(crate) use races::{
    a_call_that_was_given_up_counts_once_or_not_at_all, recorders_with_other_cuts_race_and_count_each_fact_once,
};

/// Makes a test of every check of the contract, on the store that `$open` opens.
macro_rules! contract_tests {
    ($open:path, $close:path; $($check:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let place = tempfile::tempdir().unwrap();
                let opener = crate::contract::Opener::new(place.path(), |path| Box::pin($open(path)));
                crate::contract::$check(opener).await;
                $close(place.path()).await;
            }
        )*
    };
    ($open:path, $close:path) => {
        crate::contract::contract_tests! { $open, $close;
            a_new_store_has_recorded_nothing
            every_answer_agrees_with_a_count_by_hand
            pages_of_a_ranking_make_up_the_whole
            equal_counts_stand_in_the_order_of_their_texts
            a_range_takes_its_start_and_leaves_its_end
            a_range_that_ends_before_it_begins_is_empty
            activity_goes_on_where_its_limit_cut_it_off
            a_range_out_of_step_records_nothing
            a_range_recorded_twice_counts_once
            of_many_recorders_of_one_range_exactly_one_wins
            a_range_without_facts_moves_its_shard_on
            shards_do_not_wait_for_each_other
            a_store_opened_again_has_kept_everything
            no_answer_sees_half_a_range
            a_range_over_whole_days_and_their_edges_is_seen_at_once
            recorders_with_other_cuts_race_and_count_each_fact_once
            a_call_that_was_given_up_counts_once_or_not_at_all
            a_range_of_too_many_facts_is_refused
        }
    };
}
pub(crate) use contract_tests;

/// Opens a store, again and again in the same place.
pub(crate) struct Opener<'a> {
    place: &'a Path,
    open: fn(&Path) -> Opening<'_>,
}

type Opening<'a> = std::pin::Pin<Box<dyn Future<Output = Arc<dyn Analytics>> + Send + 'a>>;

impl<'a> Opener<'a> {
    pub(crate) fn new(place: &'a Path, open: fn(&Path) -> Opening<'_>) -> Self {
        Self { place, open }
    }

    async fn open(&self) -> Arc<dyn Analytics> {
        (self.open)(self.place).await
    }
}

fn everything() -> Filter {
    Filter { include_direct: true, ..Filter::default() }
}

fn between(start: i64, end: i64) -> Filter {
    Filter { start: Some(Timestamp::from_millis(start)), end: Some(Timestamp::from_millis(end)), ..everything() }
}

/// A message in a group at each of these moments, the first with the `seq` 1.
fn facts_at(moments: &[i64]) -> Vec<Fact> {
    let sender = UserId::generate(Region::default());
    let conversation = GroupId::generate(Region::default()).into();
    let fact = |(seq, at): (u64, &i64)| Fact {
        seq,
        at: Timestamp::from_millis(*at),
        region: sender.region(),
        conversation,
        sender,
    };
    (1..).zip(moments).map(fact).collect()
}

async fn record(store: &dyn Analytics, shard: u16, after_seq: u64, facts: &[Fact]) -> crate::Result<()> {
    let through_seq = facts.last().map_or(after_seq, |fact| fact.seq);
    store.record(Range { shard, after_seq, through_seq, facts }).await
}

pub(crate) async fn a_new_store_has_recorded_nothing(opener: Opener<'_>) {
    let store = opener.open().await;
    assert_eq!(store.recorded_seq(0).await.unwrap(), 0);
    assert_eq!(store.total(&everything()).await.unwrap(), 0);
    assert!(store.top_users(&everything(), 0, 5).await.unwrap().is_empty());
    assert!(store.top_conversations(&everything(), 0, 5).await.unwrap().is_empty());
    assert!(store.activity(&everything(), Bucket::Day, 5).await.unwrap().is_empty());
}

pub(crate) async fn every_answer_agrees_with_a_count_by_hand(opener: Opener<'_>) {
    let store = opener.open().await;
    let mut draw = Draw::seeded(1);
    let mut model = Model::default();
    // Asked early, in the middle and late: what a store does with old facts must not show.
    for (rounds, questions) in [(20, 40), (520, 100), (100, 60)] {
        for _ in 0..rounds {
            let (shard, facts) = draw.range(&model);
            let after = model.recorded_seq(shard);
            record(&*store, shard, after, &facts).await.unwrap();
            model.record(shard, facts);
        }
        for _ in 0..questions {
            agree(&*store, &model, &draw.filter()).await;
        }
    }
    for shard in 0..Draw::SHARDS {
        assert_eq!(store.recorded_seq(shard).await.unwrap(), model.recorded_seq(shard));
    }
}

async fn agree(store: &dyn Analytics, model: &Model, filter: &Filter) {
    assert_eq!(store.total(filter).await.unwrap(), model.total(filter), "total of {filter:?}");
    let users = store.top_users(filter, 0, 1000).await.unwrap();
    assert_eq!(users, model.top_users(filter), "users of {filter:?}");
    let conversations = store.top_conversations(filter, 0, 1000).await.unwrap();
    assert_eq!(conversations, model.top_conversations(filter), "conversations of {filter:?}");
    for (bucket, step_ms) in [(Bucket::Hour, HOUR_MS), (Bucket::Day, DAY_MS)] {
        let activity = store.activity(filter, bucket, 10_000).await.unwrap();
        assert_eq!(activity, model.activity(filter, step_ms), "{bucket:?} of {filter:?}");
    }
}

pub(crate) async fn pages_of_a_ranking_make_up_the_whole(opener: Opener<'_>) {
    let store = opener.open().await;
    let (mut draw, mut model) = (Draw::seeded(2), Model::default());
    for _ in 0..40 {
        let (shard, facts) = draw.range(&model);
        record(&*store, shard, model.recorded_seq(shard), &facts).await.unwrap();
        model.record(shard, facts);
    }
    let filter = everything();
    let whole = model.top_users(&filter);
    let mut pages = Vec::new();
    while pages.len() < whole.len() {
        let page = store.top_users(&filter, pages.len() as u64, 7).await.unwrap();
        assert!(!page.is_empty() && page.len() <= 7);
        pages.extend(page);
    }
    assert_eq!(pages, whole);
    assert!(store.top_users(&filter, whole.len() as u64, 7).await.unwrap().is_empty());
    assert!(store.top_conversations(&filter, u64::MAX, usize::MAX).await.unwrap().is_empty());
    assert!(store.top_conversations(&filter, 0, 0).await.unwrap().is_empty());
}

pub(crate) async fn equal_counts_stand_in_the_order_of_their_texts(opener: Opener<'_>) {
    let store = opener.open().await;
    // Ids that differ in all their bytes, not only in those behind the time of their birth.
    let users: Vec<_> = Draw::seeded(5).users().collect();
    // A group may even bear the same number as a user: `x` comes before `x~y`.
    let twin = GroupId::from_bytes(*users[1].as_bytes()).unwrap();
    let mut conversations: Vec<ConversationId> = vec![GroupId::generate(Region::default()).into(), twin.into()];
    conversations.extend(
        [(3, 2), (1, 2), (0, 3), (4, 5), (6, 7)].map(|(one, other)| ConversationId::direct(users[one], users[other])),
    );
    let fact = facts_at(&[5])[0];
    let in_conversation = |(seq, id): (u64, &ConversationId)| Fact { seq, conversation: *id, ..fact };
    let facts: Vec<_> = (1..).zip(&conversations).map(in_conversation).collect();
    record(&*store, 0, 0, &facts).await.unwrap();

    conversations.sort_by_key(ToString::to_string);
    let ranked = store.top_conversations(&everything(), 0, 10).await.unwrap();
    assert_eq!(ranked.iter().map(|ranked| ranked.key).collect::<Vec<_>>(), conversations);

    let first = conversations.len() as u64;
    let of_user = |(seq, sender): (u64, &UserId)| Fact { seq, sender: *sender, ..fact };
    let facts: Vec<_> = (first + 1..).zip(&users[1..]).map(of_user).collect();
    record(&*store, 0, first, &facts).await.unwrap();
    let mut expected = users[1..].to_vec();
    expected.sort_by_key(ToString::to_string);
    let ranked = store.top_users(&everything(), 1, 100).await.unwrap();
    assert_eq!(ranked.iter().map(|ranked| ranked.key).collect::<Vec<_>>(), expected);
}

pub(crate) async fn a_range_takes_its_start_and_leaves_its_end(opener: Opener<'_>) {
    let store = opener.open().await;
    let (start, end) = (7 * DAY_MS, 9 * DAY_MS);
    record(&*store, 0, 0, &facts_at(&[start - 1, start, end - 1, end])).await.unwrap();
    assert_eq!(store.total(&between(start, end)).await.unwrap(), 2);
    assert_eq!(store.top_users(&between(start, end), 0, 5).await.unwrap()[0].messages, 2);
    assert_eq!(store.total(&between(start + 1, end + 1)).await.unwrap(), 2);
    assert_eq!(store.total(&between(start, start + 1)).await.unwrap(), 1);
    assert_eq!(store.total(&Filter { end: None, ..between(end, end) }).await.unwrap(), 1);
    assert_eq!(store.total(&Filter { start: None, ..between(start, start) }).await.unwrap(), 1);
}

pub(crate) async fn a_range_that_ends_before_it_begins_is_empty(opener: Opener<'_>) {
    let store = opener.open().await;
    record(&*store, 0, 0, &facts_at(&[5, DAY_MS, 3 * DAY_MS])).await.unwrap();
    for (start, end) in [(5, 5), (6, 5), (4 * DAY_MS, 0), (DAY_MS, DAY_MS)] {
        let filter = between(start, end);
        assert_eq!(store.total(&filter).await.unwrap(), 0);
        assert!(store.top_users(&filter, 0, 5).await.unwrap().is_empty());
        assert!(store.activity(&filter, Bucket::Hour, 5).await.unwrap().is_empty());
    }
}

pub(crate) async fn activity_goes_on_where_its_limit_cut_it_off(opener: Opener<'_>) {
    let store = opener.open().await;
    let hour = |number: i64| number * HOUR_MS;
    let moments = [hour(1) + 5, hour(1) + 6, hour(4), hour(30) + 1, hour(30) + 2, hour(55)];
    record(&*store, 0, 0, &facts_at(&moments)).await.unwrap();
    let step = |at, messages| Ranked { key: Timestamp::from_millis(at), messages };

    let first = store.activity(&everything(), Bucket::Hour, 2).await.unwrap();
    assert_eq!(first, [step(hour(1), 2), step(hour(4), 1)]);
    let rest = Filter { start: Some(Timestamp::from_millis(hour(5))), ..everything() };
    let rest = store.activity(&rest, Bucket::Hour, 5).await.unwrap();
    assert_eq!(rest, [step(hour(30), 2), step(hour(55), 1)]);
    let days = store.activity(&between(hour(1) + 6, hour(30) + 2), Bucket::Day, 5).await.unwrap();
    assert_eq!(days, [step(0, 2), step(DAY_MS, 1)], "a step at either end counts what is in the range");
    assert!(store.activity(&everything(), Bucket::Day, 0).await.unwrap().is_empty());
}

pub(crate) async fn a_range_out_of_step_records_nothing(opener: Opener<'_>) {
    let store = opener.open().await;
    let facts = facts_at(&[1, 2, 3, 4]);
    assert_out_of_step(record(&*store, 0, 2, &facts[2..]).await, 2, 0);
    record(&*store, 0, 0, &facts[..2]).await.unwrap();
    assert_out_of_step(record(&*store, 0, 1, &facts[1..]).await, 1, 2);
    assert_out_of_step(record(&*store, 0, 3, &facts[3..]).await, 3, 2);
    assert_out_of_step(record(&*store, 0, 0, &facts).await, 0, 2);
    let backwards = Range { shard: 0, after_seq: 2, through_seq: 1, facts: &[] };
    assert_out_of_step(store.record(backwards).await, 2, 2);
    assert_eq!(store.total(&everything()).await.unwrap(), 2);
    assert_eq!(store.recorded_seq(0).await.unwrap(), 2);
}

fn assert_out_of_step(result: crate::Result<()>, after: u64, recorded: u64) {
    match result {
        Err(Error::OutOfStep { shard: 0, after_seq, recorded_seq }) => {
            assert_eq!((after_seq, recorded_seq), (after, recorded));
        }
        other => panic!("not out of step: {other:?}"),
    }
}

pub(crate) async fn a_range_recorded_twice_counts_once(opener: Opener<'_>) {
    let store = opener.open().await;
    let facts = facts_at(&[1, 2, DAY_MS]);
    record(&*store, 0, 0, &facts).await.unwrap();
    assert_out_of_step(record(&*store, 0, 0, &facts).await, 0, 3);
    assert_eq!(store.total(&everything()).await.unwrap(), 3);
    assert_eq!(store.top_users(&everything(), 0, 5).await.unwrap()[0].messages, 3);
}

pub(crate) async fn of_many_recorders_of_one_range_exactly_one_wins(opener: Opener<'_>) {
    let store = opener.open().await;
    let facts: Arc<[Fact]> = facts_at(&[1, 2, 3, 4, 5]).into();
    for (from, to) in [(0, 2), (2, 5)] {
        let recorders: Vec<_> = (0..16)
            .map(|_| {
                let (store, facts) = (store.clone(), facts.clone());
                tokio::spawn(async move { record(&*store, 0, from as u64, &facts[from..to]).await })
            })
            .collect();
        let mut won = 0;
        for recorder in recorders {
            match recorder.await.unwrap() {
                Ok(()) => won += 1,
                Err(error) => assert!(matches!(error, Error::OutOfStep { .. }), "{error}"),
            }
        }
        assert_eq!(won, 1);
        assert_eq!(store.total(&everything()).await.unwrap(), to as u64);
    }
}

pub(crate) async fn a_range_without_facts_moves_its_shard_on(opener: Opener<'_>) {
    let store = opener.open().await;
    store.record(Range { shard: 3, after_seq: 0, through_seq: 17, facts: &[] }).await.unwrap();
    assert_eq!(store.recorded_seq(3).await.unwrap(), 17);
    assert_eq!(store.total(&everything()).await.unwrap(), 0);
    store.record(Range { shard: 3, after_seq: 17, through_seq: 17, facts: &[] }).await.unwrap();
    assert_eq!(store.recorded_seq(3).await.unwrap(), 17);
}

pub(crate) async fn shards_do_not_wait_for_each_other(opener: Opener<'_>) {
    let store = opener.open().await;
    record(&*store, 0, 0, &facts_at(&[1, 2])).await.unwrap();
    record(&*store, 9, 0, &facts_at(&[1])).await.unwrap();
    assert_eq!(store.recorded_seq(0).await.unwrap(), 2);
    assert_eq!(store.recorded_seq(9).await.unwrap(), 1);
    assert_eq!(store.recorded_seq(1).await.unwrap(), 0);
    assert_eq!(store.total(&everything()).await.unwrap(), 3);
}

pub(crate) async fn a_store_opened_again_has_kept_everything(opener: Opener<'_>) {
    let (mut draw, mut model) = (Draw::seeded(3), Model::default());
    for _ in 0..4 {
        let store = opener.open().await;
        agree(&*store, &model, &everything()).await;
        for _ in 0..10 {
            let (shard, facts) = draw.range(&model);
            record(&*store, shard, model.recorded_seq(shard), &facts).await.unwrap();
            model.record(shard, facts);
        }
    }
    let store = opener.open().await;
    agree(&*store, &model, &everything()).await;
    assert_eq!(store.recorded_seq(0).await.unwrap(), model.recorded_seq(0));
}

pub(crate) async fn no_answer_sees_half_a_range(opener: Opener<'_>) {
    const LAST: i64 = 6_000;
    const FACTS: usize = 10;
    let store = opener.open().await;
    let recorder = tokio::spawn({
        let store = store.clone();
        async move {
            let facts = facts_at(&(1..=LAST).collect::<Vec<_>>());
            for range in facts.chunks(FACTS) {
                record(&*store, 0, range[0].seq - 1, range).await.unwrap();
            }
        }
    });
    let mut before = 0;
    while before < LAST as u64 {
        let total = store.total(&everything()).await.unwrap();
        let ranked = store.top_users(&everything(), 0, 5).await.unwrap();
        let ranked = ranked.first().map_or(0, |ranked| ranked.messages);
        let after = store.recorded_seq(0).await.unwrap();
        assert!(total.is_multiple_of(FACTS as u64) && ranked.is_multiple_of(FACTS as u64));
        assert!(before <= total && total <= ranked && ranked <= after, "{before} {total} {ranked} {after}");
        before = after;
    }
    recorder.await.unwrap();
}

pub(crate) async fn a_range_over_whole_days_and_their_edges_is_seen_at_once(opener: Opener<'_>) {
    const RANGES: u64 = 150;
    let store = opener.open().await;
    // Three facts: before, in and behind the whole day of the filter below.
    let moments = [10 * DAY_MS - 5, 10 * DAY_MS + 5, 11 * DAY_MS + 5];
    let recorder = tokio::spawn({
        let store = store.clone();
        async move {
            let fact = facts_at(&[0])[0];
            for after in (0..RANGES).map(|range| range * 3) {
                let at = |(seq, ms): (u64, i64)| Fact { seq: after + seq, at: Timestamp::from_millis(ms), ..fact };
                let facts: Vec<_> = (1..).zip(moments).map(at).collect();
                record(&*store, 0, after, &facts).await.unwrap();
            }
        }
    });
    let filter = between(10 * DAY_MS - 10, 11 * DAY_MS + 10);
    let mut seen = 0;
    while seen < RANGES * 3 {
        seen = store.total(&filter).await.unwrap();
        let ranked = store.top_users(&filter, 0, 5).await.unwrap();
        let ranked = ranked.first().map_or(0, |ranked| ranked.messages);
        let steps = store.activity(&filter, Bucket::Hour, 10).await.unwrap();
        let steps: u64 = steps.iter().map(|step| step.messages).sum();
        assert!(seen <= ranked && ranked <= steps, "{seen} {ranked} {steps}");
        assert!([seen, ranked, steps].iter().all(|count| count.is_multiple_of(3)), "{seen} {ranked} {steps}");
    }
    recorder.await.unwrap();
}

pub(crate) async fn a_range_of_too_many_facts_is_refused(opener: Opener<'_>) {
    let store = opener.open().await;
    let moments: Vec<_> = (0..=i64::try_from(crate::MAX_FACTS).unwrap()).collect();
    let facts = facts_at(&moments);
    let refused = record(&*store, 0, 0, &facts).await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    assert_eq!(store.recorded_seq(0).await.unwrap(), 0);
    record(&*store, 0, 0, &facts[..crate::MAX_FACTS]).await.unwrap();
    assert_eq!(store.total(&everything()).await.unwrap(), crate::MAX_FACTS as u64);
}
