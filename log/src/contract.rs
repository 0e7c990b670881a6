//! What every log must keep to, as tests. An implementation runs them all with [`suite`].

pub(crate) mod appends;
pub(crate) mod bus;
pub(crate) mod consumers;
pub(crate) mod feeds;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use types::{ConversationId, Entry, EventId, GroupId, Region, UserId};

use crate::{Append, Appended, Consumer, Delivery, Error, Feed, Log, Receipt, Topic};

/// Opens the log under test; called again, opens the same log anew. One log, empty at first, per test.
pub(crate) type Open = dyn Fn() -> BoxFuture<'static, Arc<dyn Log>>;

/// Makes each check a test of its own. `$fixture()` gives a closure that is an [`Open`].
macro_rules! suite {
    ($fixture:path) => {
        $crate::contract::suite! { $fixture,
            appends:
                every_event_has_a_later_position_than_the_one_before
                events_handed_over_one_after_the_other_stay_in_order
                prev_is_the_event_before_in_the_same_conversation
                moments_do_not_decrease
                a_payload_comes_back_byte_for_byte
                a_trace_context_is_carried_to_all_who_read
                a_payload_that_is_too_large_is_refused
                a_resent_event_is_stored_once
                an_event_sent_many_times_at_once_is_stored_once
                repetitions_handed_over_without_waiting_are_stored_once
                a_receipt_that_nobody_awaits_does_not_take_the_event_back
                an_event_is_in_the_next_read_once_its_receipt_resolved
                ends_are_those_of_the_shards
                heads_are_answered_in_the_order_of_the_question
                pages_of_a_conversation_make_the_whole
                closing_stores_what_was_handed_over_and_refuses_more
            ; feeds:
                a_feed_delivers_what_is_stored_after_subscribing_once_and_in_order
                a_direct_event_comes_once_for_each_user_listened_to
                a_feed_delivers_nothing_it_is_not_subscribed_to
                an_unsubscribed_topic_falls_silent
                a_batch_is_no_larger_than_asked_for
                giving_up_on_a_batch_loses_nothing
                every_feed_gets_every_event
            ; bus:
                a_notice_reaches_those_who_listen_and_nobody_else
                each_request_goes_to_one_of_those_who_serve
                a_request_that_nobody_serves_is_unavailable
                a_request_that_is_dropped_or_late_is_unavailable
                a_server_that_ends_is_not_asked_again
            ; consumers:
                a_consumer_reads_everything_in_order
                a_fetch_waits_for_the_next_event
                what_was_given_is_given_again_unless_acknowledged
                a_waiting_fetch_learns_of_a_resume
                giving_up_on_a_fetch_loses_nothing
                consumers_do_not_disturb_each_other
                progress_survives_the_process
                lag_counts_what_is_not_acknowledged
                what_cannot_be_is_refused
        }
    };
    ($fixture:path, $($module:ident: $($name:ident)*);*) => {
        $(
            mod $module {
                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $name() {
                        let open = $fixture();
                        $crate::contract::$module::$name(&open).await;
                    }
                )*
            }
        )*
    };
}
pub(crate) use suite;

/// The consumer of most checks.
const INGEST: Consumer = Consumer { group: "ingest", shard: 0 };
/// Longer than anything takes that is expected to come.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn group() -> GroupId {
    GroupId::generate(Region::default())
}

pub(crate) fn user() -> UserId {
    UserId::generate(Region::default())
}

/// A new event in the conversation. Its payload names its id.
pub(crate) fn event(conversation: impl Into<ConversationId>) -> Append {
    let id = EventId::generate(Region::default());
    Append { conversation: conversation.into(), id, payload: format!(r#"{{"id":"{id}"}}"#).into(), trace: None }
}

pub(crate) async fn append(log: &dyn Log, append: Append) -> Appended {
    hand_over(log, append).await.await.unwrap()
}

async fn hand_over(log: &dyn Log, append: Append) -> Receipt {
    log.append(append).await.unwrap()
}

pub(crate) fn seqs(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.position.seq).collect()
}

/// Fails the test instead of hanging it.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

pub(crate) async fn next_batch(feed: &mut Feed, limit: usize) -> Vec<Delivery> {
    let mut batch = Vec::new();
    soon(feed.next_batch(&mut batch, limit)).await.unwrap();
    batch
}

/// Reads the feed up to and with the event at `seq`, as topic and `seq` of each event.
pub(crate) async fn events_until(feed: &mut Feed, seq: u64) -> Vec<(Topic, u64)> {
    let mut events = Vec::new();
    while events.last().is_none_or(|(_, last)| *last < seq) {
        for delivery in next_batch(feed, 100).await {
            let Delivery::Event { topic, entry } = delivery else { panic!("no event: {delivery:?}") };
            events.push((topic, entry.position.seq));
        }
    }
    events
}

fn is_unavailable<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Unavailable(_)))
}
