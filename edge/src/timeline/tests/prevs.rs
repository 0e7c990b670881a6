//! `prev` where the log does not know it.

use futures_util::FutureExt;

use super::*;

proptest! {
    #[test]
    fn what_the_log_has_let_go_of_is_no_hole_in_the_events(
        steps in steps(),
        silences in proptest::collection::vec(0..40_usize, 0..4),
        (stored, trimmed) in (0..=40_usize, 0..=40_usize),
        after in 0..90_u64,
        limit in 0..50_usize,
    ) {
        let conversation = group();
        let all = entries(conversation, &events(&steps, [user(), user()]));
        let stored = stored.min(all.len());
        let mut kept = all[trimmed.min(stored)..].to_vec();
        if let Some(first) = kept.first_mut() {
            first.prev = 0;
        }
        // After a long silence, ingest was not told what came before either.
        let mut told = all[..stored].to_vec();
        for silence in silences.into_iter().filter(|silence| *silence < stored) {
            told[silence].prev = 0;
        }
        let timeline = Timeline::new(PlainLog::kept_for(Duration::ZERO, &kept), PlainHistory::of(&told));
        run(async {
            let read = timeline.events(conversation, after, limit).await.unwrap();
            let expected: Vec<Entry> =
                all.iter().filter(|entry| entry.position.seq > after).take(limit).cloned().collect();
            prop_assert_eq!(&read, &expected);
            prop_assert!(is_whole(after, &read));
            // What comes live after a silence comes twice, once for each of its topics.
            let Some(next) = all.get(stored) else { return Ok(()) };
            let mut live = [0, 0].map(|prev| Entry { prev, ..next.clone() });
            timeline.complete_live_prevs(live.iter_mut()).await;
            prop_assert_eq!(&live, &[next.clone(), next.clone()]);
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn live_events_wait_a_moment_for_a_history_that_does_not_answer() {
    let mut all = entries(group(), &[message(user(), "1"), message(user(), "2")]);
    all[1].prev = 0;
    let log = || PlainLog::kept_for(Duration::ZERO, &all[1..]);
    let silent = Timeline::new(log(), Arc::new(AwayHistory { is_silent: true, ..AwayHistory::default() }));
    let (mut live, began) = (all[1].clone(), Instant::now());
    silent.complete_live_prevs(std::iter::once(&mut live)).await;
    assert_eq!((live.prev, began.elapsed()), (0, Duration::from_millis(50)), "it comes without");
    let away = Arc::new(AwayHistory::default());
    let timeline = Timeline::new(log(), away.clone());
    for _ in 0..3 {
        timeline.complete_live_prevs(std::iter::once(&mut live)).await;
    }
    assert_eq!(
        away.asked.load(std::sync::atomic::Ordering::Relaxed),
        1,
        "one who is away is not asked again and again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_history_that_does_not_answer_is_not_waited_for_again_at_once() {
    let mut all = entries(group(), &[message(user(), "1"), message(user(), "2")]);
    all[1].prev = 0;
    let history = Arc::new(AwayHistory { is_silent: true, ..AwayHistory::default() });
    let timeline = Timeline::new(PlainLog::kept_for(Duration::ZERO, &all[1..]), history.clone());
    let asked = || history.asked.swap(0, std::sync::atomic::Ordering::Relaxed);
    timeline.complete_live_prevs(std::iter::once(&mut all[1].clone())).await;
    assert_eq!(asked(), 1);
    let began = Instant::now();
    timeline.complete_live_prevs(std::iter::once(&mut all[1].clone())).await;
    assert_eq!((asked(), began.elapsed()), (0, Duration::ZERO));
    tokio::time::advance(Duration::from_secs(10)).await;
    timeline.complete_live_prevs(std::iter::once(&mut all[1].clone())).await;
    assert_eq!(asked(), 1, "it may answer again");
    timeline.messages(all[1].conversation, &NEWEST).now_or_never();
    assert_eq!(asked(), 1, "pages are not taken from the log alone");
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_history_does_not_tell_of_keeps_no_other_from_its_prev() {
    let (slow, damaged, told) = (group(), group(), group());
    let events = [message(user(), "1"), message(user(), "2")];
    let [slow, damaged, told] = [slow, damaged, told].map(|conversation| entries(conversation, &events));
    let stored = [&slow[..1], &damaged[..1], &told[..1]].concat();
    let history = PlainHistory::of(&stored);
    history.silent.lock().insert(slow[0].conversation);
    history.damaged.lock().insert(damaged[0].conversation);
    let timeline = Timeline::new(PlainLog::kept_for(Duration::ZERO, &[]), history);
    let mut live = [&slow[1], &damaged[1], &told[1]].map(|next| Entry { prev: 0, ..next.clone() });
    let logged = Told::default();
    let guard = tracing::subscriber::set_default(logged.clone());
    timeline.complete_live_prevs(live.iter_mut()).await;
    drop(guard);
    assert_eq!(live.map(|entry| entry.prev), [0, 0, told[0].position.seq]);
    let logged = logged.0.lock().clone();
    assert!(logged.contains(&damaged[0].conversation.to_string()), "{logged}");
}
