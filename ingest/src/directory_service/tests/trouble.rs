//! Processes that die between two steps, and a log that does not take what it is given.

use super::*;

#[tokio::test]
async fn events_of_a_crash_before_the_append_follow_at_the_next_start() {
    let stores = Stores::new().await;
    let [ada, bob] = stores.register().await;
    let (group, command) = create(ada, &[bob]);
    stores.commit(&command).await;
    let mut feed = stores.feed(&[Topic::User(bob)]).await;
    let service = stores.start();
    let told = notices(&mut feed, 1).await;
    let seq = stores.log.heads(&[group.into()]).await.unwrap()[0].unwrap().position.seq;
    assert_eq!(told, [(Topic::User(bob), Notice::MemberAdded { group, user: bob, seq })]);
    assert_eq!(stores.told(group).await, added(&[ada, bob]));
    service.stop().await.unwrap();
}

/// Stores what others say in a group.
async fn chatter(stores: &Stores, conversation: ConversationId, count: usize) {
    let mut receipts = Vec::new();
    for _ in 0..count {
        let id = EventId::generate(Region::default());
        let sender = UserId::generate(Region::default());
        let payload = Event { id, sender, body: Body::Delete { message: id } }.encode();
        receipts.push(stores.log.append(Append { conversation, id, payload, trace: None }).await.unwrap());
    }
    for stored in futures_util::future::join_all(receipts).await {
        stored.unwrap();
    }
}

#[tokio::test]
async fn events_of_a_crash_after_the_append_are_told_once_though_the_log_has_forgotten_their_ids() {
    let stores = Stores::new().await;
    let [ada, bob, carl] = stores.register().await;
    let (group, command) = create(ada, &[bob, carl]);
    chatter(&stores, group.into(), 700).await;
    let rows = stores.commit(&command).await.events;
    // The first two got into the log, and none out of the outbox.
    for row in &rows[..2] {
        let append = Append { conversation: row.conversation, id: row.id, payload: row.payload.clone(), trace: None };
        stores.log.append(append).await.unwrap().await.unwrap();
    }
    let bobs_seq = stores.log.heads(&[group.into()]).await.unwrap()[0].unwrap().position.seq;
    chatter(&stores, group.into(), 1_500).await;
    let stores = stores.reopened().await;

    let mut feed = stores.feed(&[Topic::User(bob), Topic::User(carl)]).await;
    let service = stores.start();
    let told = notices(&mut feed, 2).await;
    assert_eq!(told[0], (Topic::User(bob), Notice::MemberAdded { group, user: bob, seq: bobs_seq }));
    let memberships: Vec<_> =
        stores.told(group).await.into_iter().filter(|body| !matches!(body, Body::Delete { .. })).collect();
    assert_eq!(memberships, added(&[ada, bob, carl]));
    done(stores.ask(&command).await);
    assert!(stores.is_outbox_empty().await);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_receipt_that_is_lost_repeats_no_event() {
    let stores = Stores::new().await;
    let [ada, bob] = stores.register().await;
    let service = stores.start();
    let (group, command) = create(ada, &[bob]);
    stores.log.lose_receipts(1);
    let outcome = done(stores.ask(&command).await);
    assert!(!outcome.repeated);
    assert_eq!(stores.told(group).await, added(&[ada, bob]));
    assert!(stores.is_outbox_empty().await);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn later_news_of_a_member_never_overtakes_earlier() {
    let stores = Stores::new().await;
    let [ada, bob] = stores.register().await;
    let (group, command) = create(ada, &[]);
    stores.commit(&command).await;
    for command in [add(group, ada, bob), remove(group, ada, bob), add(group, ada, bob)] {
        stores.commit(&command).await;
    }
    let mut feed = stores.feed(&[Topic::Group(group)]).await;
    // Two appends fail and the third does not: the first word of bob must still come before the second.
    stores.log.refuse_appends(2);
    let service = stores.start();
    events(&mut feed, 4).await;
    let of_bob: Vec<_> = stores.told(group).await.into_iter().filter(|body| *body != added(&[ada])[0]).collect();
    let [once, twice] = [Body::MemberAdded { user: bob }, Body::MemberRemoved { user: bob }];
    assert_eq!(of_bob, [once.clone(), twice, once]);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn while_the_log_takes_nothing_commands_are_answered_and_told_later() {
    let stores = Stores::new().await;
    let [ada] = stores.register().await;
    let service = stores.start();
    stores.log.refuse_appends(usize::MAX);
    let (group, command) = create(ada, &[]);
    done(stores.ask(&command).await);
    assert_eq!(stores.told(group).await, []);
    assert!(!stores.is_outbox_empty().await);
    let mut feed = stores.feed(&[Topic::Group(group)]).await;
    stores.log.refuse_appends(0);
    events(&mut feed, 1).await;
    assert_eq!(stores.told(group).await, added(&[ada]));
    service.stop().await.unwrap();
}

/// A new group of a shard.
fn create_in(stores: &Stores, shards: std::ops::Range<u16>, owner: UserId, members: &[UserId]) -> (GroupId, Command) {
    loop {
        let (group, command) = create(owner, members);
        if shards.contains(&ConversationId::from(group).shard(stores.log.layout().shards)) {
            return (group, command);
        }
    }
}

#[tokio::test]
async fn a_shard_that_is_away_holds_up_its_own_events_and_no_others() {
    let stores = Stores::new().await;
    let [ada, bob] = stores.register().await;
    let (away, command) = create_in(&stores, 0..1, ada, &[bob]);
    stores.commit(&command).await;
    // More than are looked at together.
    for _ in 0..relay::BATCH {
        stores.commit(&create_in(&stores, 0..1, ada, &[]).1).await;
    }
    stores.commit(&remove(away, ada, bob)).await;
    let (here, command) = create_in(&stores, 1..4, ada, &[bob]);
    stores.commit(&command).await;
    stores.log.lose_shard(0);
    let mut feed = stores.feed(&[Topic::User(bob)]).await;
    let service = stores.start();
    let (_, told) = notices(&mut feed, 1).await.remove(0);
    assert!(matches!(told, Notice::MemberAdded { group, .. } if group == here), "{told:?}");
    let command = remove(here, ada, bob);
    let (answer, told) = tokio::join!(stores.ask(&command), notices(&mut feed, 1));
    done(answer);
    assert_eq!(told, [(Topic::User(bob), Notice::MemberRemoved { group: here, user: bob })]);

    let mut feed = stores.feed(&[Topic::Group(away)]).await;
    stores.log.find_shard();
    events(&mut feed, 3).await;
    let mut expected = added(&[ada, bob]);
    expected.push(Body::MemberRemoved { user: bob });
    assert_eq!(stores.told(away).await, expected);
    let (_, command) = create(ada, &[]);
    done(stores.ask(&command).await);
    assert!(stores.is_outbox_empty().await);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn what_the_log_will_never_take_does_not_hold_up_the_rest() {
    let stores = Stores::new().await;
    let [ada] = stores.register().await;
    let (group, command) = create(ada, &[]);
    stores.commit(&command).await;
    let name = "x".repeat(log::MAX_PAYLOAD_BYTES);
    stores.commit(&Command::RenameGroup { group, by: ada, name, at: Timestamp::now() }).await;
    let service = stores.start();
    let (other, command) = create(ada, &[]);
    done(stores.ask(&command).await);
    assert_eq!(stores.told(group).await, added(&[ada]));
    assert_eq!(stores.told(other).await, added(&[ada]));
    assert!(stores.is_outbox_empty().await);
    service.stop().await.unwrap();
}
