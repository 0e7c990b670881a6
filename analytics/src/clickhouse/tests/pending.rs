//! What a recorder leaves behind that ends between two steps, and how the next one settles it.

use super::ranges::{Note, Noted, Pending, new_owner};
use super::*;

impl Scene {
    /// Notes a range as pending, as a recorder does that then ends.
    async fn begin(&self, range: &Range<'_>) -> (Noted, Pending) {
        let noted = self.store.notes.read(0).await.unwrap();
        let pending = Pending::of(range, &new_owner()).unwrap();
        let note = Note { pending: Some(pending.clone()), ..noted.note.clone() };
        (self.store.notes.write(&noted, note).await.unwrap().unwrap(), pending)
    }

    async fn record_on(&self, facts: &[Fact]) {
        let after = self.store.recorded_seq(0).await.unwrap();
        self.store.record(range(after, facts[facts.len() - 1].seq, facts)).await.unwrap();
        assert_eq!(self.store.total(&everything()).await.unwrap(), facts.len() as u64);
        assert_eq!(self.number("SELECT uniqExact(seq) FROM facts").await, facts.len() as u64);
    }
}

fn is_out_of_step(result: Result<()>, recorded: u64) -> bool {
    matches!(result, Err(Error::OutOfStep { recorded_seq, .. }) if recorded_seq == recorded)
}

#[tokio::test]
async fn a_range_whose_rows_are_there_is_recorded() {
    let scene = Scene::new().await;
    let facts = facts(1, 20);
    let (_, pending) = scene.begin(&range(0, 10, &facts)).await;
    scene.store.insert(0, &facts[..10], &pending.token).await.unwrap();
    assert_eq!(scene.store.recorded_seq(0).await.unwrap(), 10);
    assert!(is_out_of_step(scene.store.record(range(0, 7, &facts)).await, 10));
    // Whoever began it learns that it has succeeded, although another one noted it.
    assert!(scene.store.notes.read(0).await.unwrap().note.is_success(&pending.owner, 10));
    scene.record_on(&facts).await;
    scene.end().await;
}

#[tokio::test]
async fn a_range_whose_rows_are_not_there_is_settled_with_any_cut() {
    for through in [4, 10, 15] {
        let scene = Scene::new().await;
        let facts = facts(1, 20);
        let (noted, pending) = scene.begin(&range(0, 10, &facts)).await;
        assert_eq!(scene.store.recorded_seq(0).await.unwrap(), 0);
        let settled = scene.store.record(range(0, through, &facts)).await;
        // A range that goes beyond the pending one finds that one recorded.
        assert!(if through <= 10 { settled.is_ok() } else { is_out_of_step(settled, 10) });
        assert_eq!(scene.store.recorded_seq(0).await.unwrap(), through.min(10));
        // The first recorder was only slow: its insert is void now, and so is its note.
        scene.store.insert(0, &facts[..10], &pending.token).await.unwrap();
        assert!(scene.store.notes.write(&noted, Note::recorded(10, &pending.owner)).await.unwrap().is_none());
        scene.record_on(&facts).await;
        scene.end().await;
    }
}

#[tokio::test]
async fn a_slow_recorder_and_one_that_settles_agree_on_whose_rows_are_there() {
    let scene = Scene::new().await;
    let facts = facts(1, 2000);
    let mut settled = [0, 0];
    for round in 0..40 {
        let after = scene.store.recorded_seq(0).await.unwrap();
        let (noted, pending) = scene.begin(&range(after, after + 10, &facts)).await;
        // It goes on only now, and knows as little of the other one as the other one of it.
        let slow = async {
            tokio::time::sleep(Duration::from_micros(round * 350)).await;
            scene.store.insert(0, range(after, after + 10, &facts).facts, &pending.token).await.unwrap();
            scene.store.notes.write(&noted, Note::recorded(after + 10, &pending.owner)).await.unwrap();
        };
        let other = scene.store.record(range(after, after + 4, &facts));
        // Each has been through before the other one begins, and then they meet wherever chance will have it.
        let other = match round {
            0 => (slow.await, other.await).1,
            1 => (other.await, slow.await).0,
            _ => tokio::join!(slow, other).1,
        };
        settled[usize::from(other.is_ok())] += 1;
        let recorded = scene.store.recorded_seq(0).await.unwrap();
        assert_eq!(scene.store.total(&everything()).await.unwrap(), recorded, "every place holds a message");
    }
    assert!(settled.iter().all(|count| *count > 0), "each was the faster one at times: {settled:?}");
    scene.end().await;
}

#[tokio::test]
async fn a_range_without_facts_ends_within_a_pending_one() {
    let scene = Scene::new().await;
    let facts = facts(11, 30);
    let (_, pending) = scene.begin(&range(0, 20, &facts)).await;
    scene.store.record(range(0, 5, &facts)).await.unwrap();
    assert_eq!(scene.store.recorded_seq(0).await.unwrap(), 5);
    scene.store.insert(0, &facts[..10], &pending.token).await.unwrap();
    assert_eq!(scene.store.recorded_seq(0).await.unwrap(), 20);
    scene.record_on(&facts).await;
    scene.end().await;
}

#[tokio::test]
async fn a_token_without_rows_is_given_up_and_its_rows_are_inserted_anew() {
    let scene = Scene::new().await;
    let facts = facts(1, 20);
    let (_, pending) = scene.begin(&range(0, 10, &facts)).await;
    // As after a server was killed that had noted the token and not yet put the part in its place.
    scene.store.insert(0, &facts[..10], &pending.token).await.unwrap();
    scene.execute("ALTER TABLE facts DELETE WHERE 1 SETTINGS mutations_sync = 2").await;
    scene.store.insert(0, &facts[..10], &pending.token).await.unwrap();
    assert_eq!(scene.number("SELECT count() FROM facts").await, 0, "the server knows the token");

    scene.store.record(range(0, 10, &facts)).await.unwrap();
    assert_eq!(scene.store.total(&everything()).await.unwrap(), 10);
    scene.record_on(&facts).await;
    scene.end().await;
}

#[tokio::test]
async fn an_insert_that_the_server_carries_out_is_known_by_its_token() {
    let scene = Scene::new().await;
    let slow = scene.store.client.query("SELECT sleepEachRow(0.2) FROM numbers(10) SETTINGS max_block_size = 1");
    let slow = slow.with_setting("insert_deduplication_token", "ours");
    let running = tokio::spawn(async move { slow.fetch_all::<u8>().await });
    while !scene.store.is_under_way("ours").await.unwrap() {
        assert!(!running.is_finished(), "it was not seen while it ran");
    }
    assert!(!scene.store.is_under_way("another").await.unwrap());
    running.await.unwrap().unwrap();
    assert!(!scene.store.is_under_way("ours").await.unwrap());
    scene.end().await;
}

#[tokio::test]
async fn rows_that_no_one_noted_are_damage() {
    let scene = Scene::new().await;
    let facts = facts(1, 20);
    scene.store.record(range(0, 10, &facts)).await.unwrap();
    scene.store.insert(0, &facts[10..], "out of the blue").await.unwrap();
    let error = scene.store.recorded_seq(0).await.unwrap_err();
    assert!(matches!(&error, Error::Damaged(text) if text.contains("up to 20")), "{error}");

    let doubled = Scene::new().await;
    let (_, pending) = doubled.begin(&range(0, 10, &facts)).await;
    for token in [&pending.token, "another"] {
        doubled.store.insert(0, &facts[..10], token).await.unwrap();
    }
    for result in [doubled.store.recorded_seq(0).await.map(drop), doubled.store.record(range(0, 10, &facts)).await] {
        assert!(matches!(result, Err(Error::Damaged(_))), "{result:?}");
    }
    scene.end().await;
    doubled.end().await;
}

#[tokio::test]
async fn an_insert_that_comes_late_is_refused() {
    let scene = Scene::new().await;
    let deadline_ms = Timestamp::now().as_millis() - 2_000;
    let late = scene.store.insert_until(deadline_ms, 0, &facts(1, 3), "late").await;
    assert!(matches!(&late, Err(Error::Unavailable(text)) if text.contains("late")), "{late:?}");
    assert_eq!(scene.number("SELECT count() FROM facts").await, 0);
    scene.end().await;
}

#[tokio::test]
async fn a_range_is_one_part() {
    let scene = Scene::new().await;
    let moments = crate::MAX_FACTS as u64;
    let facts = facts(1, moments);
    scene.execute("SYSTEM STOP MERGES facts").await;
    scene.store.record(range(0, moments, &facts)).await.unwrap();
    let parts = scene.number("SELECT count() FROM system.parts WHERE database = currentDatabase() AND table = 'facts'");
    assert_eq!(parts.await, 1, "seventy days in one part");
    scene.end().await;
}
