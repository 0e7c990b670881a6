//! While history is away: what has changed is answered as changed, and what is not known is told to be so.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};
use types::{GroupId, Region, Timestamp};

use crate::doubles::{AwayHistory, PlainHistory};
use crate::tests::harness::{App, Person, texts};

async fn without_history() -> App {
    App::start_on(Arc::new(AwayHistory::default())).await
}

/// What history alone knows is `null`.
#[track_caller]
fn is_open(conversation: &Value) {
    let open = ["unread", "mentions", "read"].map(|field| &conversation[field]);
    assert!(open.iter().all(|field| field.is_null()), "{conversation}");
}

/// A group of the past, whose id a client made then. That a client may.
fn old_id() -> String {
    let young = GroupId::generate(Region::default()).to_string();
    let millis = Timestamp::now().as_millis() - 30 * 24 * 60 * 60 * 1_000;
    let millis = format!("{millis:012x}");
    format!("{}-{}{}", &millis[..8], &millis[8..], &young[13..])
}

#[tokio::test]
async fn a_group_that_was_made_is_described_without_history() {
    let app = without_history().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    for (number, (path, body)) in [
        ("/v1/conversations", json!({"kind": "group", "name": "engines", "members": [bob.id]})),
        ("/v1/conversations", json!({"kind": "group", "name": "engines", "members": [bob.id], "id": old_id()})),
        ("/groups", json!({"name": "engines", "members": [bob.id]})),
        ("/chatrooms", json!({"name": "engines", "user_ids": [bob.id]})),
        ("/conversations", json!({"name": "engines", "participants": [bob.id]})),
    ]
    .into_iter()
    .enumerate()
    {
        let made = app.post(&ada, path, body).await.expect(201);
        let made = made.get("data").unwrap_or(&made);
        assert_eq!((&made["name"], &made["members_count"]), (&json!("engines"), &json!(2)), "{path}");
        assert_eq!((&made["unread"], &made["mentions"], &made["read"]), (&json!(0), &json!(0), &json!({"seq": 0})));
        assert!(made["position"]["seq"].is_u64() && made["last_message"].is_null(), "{made}");
        let groups = app.edge.directory.groups_of(ada.id.parse().unwrap()).await.unwrap();
        assert_eq!(groups.len(), number + 1, "{path} made one");
    }
}

#[tokio::test]
async fn a_group_sent_again_while_history_is_away_is_the_same_group() {
    let app = without_history().await;
    let ada = app.register("ada").await;
    let body = json!({"kind": "group", "id": GroupId::generate(Region::default()), "name": "engines"});
    let made = app.post(&ada, "/v1/conversations", body.clone()).await.expect(201);
    let again = app.post(&ada, "/v1/conversations", body).await.expect(200);
    assert_eq!((&again["id"], &again["name"]), (&made["id"], &made["name"]));
    is_open(&again);
}

#[tokio::test]
async fn a_group_that_was_changed_is_answered_with_what_is_known() {
    let app = without_history().await;
    let (ada, bob, eve) = (app.register("ada").await, app.register("bob").await, app.register("eve").await);
    let group = app.group("engines", &[&ada]).await;
    let said = app.say(&ada, &group, "hello").await;
    let path = format!("/v1/conversations/{group}");
    let answers =
        [
            app.patch(&ada, &path, json!({"name": "rooks"})).await.expect(200),
            app.post(&ada, &format!("{path}/members"), json!({"users": [bob.id]})).await.expect(200),
            app.post(&ada, &format!("/groups/{group}/add-user"), json!({"userId": eve.id})).await.expect(200),
            app.post(&ada, "/chatrooms/invite", json!({"chatroom_id": group, "user_ids": [eve.id]})).await.expect(200)
                ["data"]
                .clone(),
            app.get(&ada, &path).await.expect(200),
            app.get(&ada, &format!("/conversations/{group}")).await.expect(200),
        ];
    for (answer, members) in answers.iter().zip([1, 2, 3, 3, 3, 3]) {
        is_open(answer);
        assert_eq!((&answer["name"], &answer["members_count"]), (&json!("rooks"), &json!(members)));
        assert_eq!(answer["last_message"], said, "the log has it");
        assert!(answer["position"]["seq"].as_u64() >= said["seq"].as_u64(), "{answer}");
    }
    app.put(&ada, &format!("{path}/read"), json!({"seq": 1})).await.refusal(503);
}

#[tokio::test]
async fn what_may_be_older_than_the_log_is_not_told() {
    let app = without_history().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let group = old_id();
    let body = json!({"kind": "group", "id": group, "name": "engines", "members": [bob.id]});
    app.post(&ada, "/v1/conversations", body).await.expect(201);
    let seen = app.get(&ada, &format!("/v1/conversations/{group}")).await.expect(200);
    is_open(&seen);
    assert!(seen["position"]["seq"].as_u64() > Some(0) && seen["last_message"].is_null(), "{seen}");
    let direct = app.post(&ada, "/v1/conversations", json!({"kind": "direct", "user": bob.id})).await.expect(201);
    assert_eq!(direct["position"]["seq"], 0, "both are young: nothing can have left the log");
    is_open(&direct);
}

#[tokio::test]
async fn groups_are_listed_as_far_as_the_log_reaches() {
    let app = without_history().await;
    let ada = app.register("ada").await;
    let mut groups = Vec::new();
    for name in ["first", "second", "third"] {
        groups.push(app.group(name, &[&ada]).await);
        app.say(&ada, &groups[groups.len() - 1], name).await;
    }
    app.say(&ada, &groups[0], "again").await;
    let page = app.get(&ada, "/v1/conversations?kind=group&limit=2").await.expect(200);
    assert_eq!(texts(&page, "name"), ["first", "third"]);
    assert_eq!(page["complete"], true);
    assert_eq!(app.pages(&ada, "/v1/conversations?kind=group&limit=2", "name").await, ["first", "third", "second"]);
    assert_eq!(app.get(&ada, "/chatrooms").await.expect(200)["data"].as_array().map(Vec::len), Some(3));
    app.get(&ada, "/v1/conversations").await.refusal(503);

    // Of this one the log knows nothing: it is behind the others, wherever that is.
    quiet(&app, &ada).await;
    let page = app.get(&ada, "/v1/conversations?kind=group").await.expect(200);
    assert_eq!(texts(&page, "name"), ["first", "third", "second"]);
    assert_eq!(page["complete"], false);
    let next = page["next"].as_str().unwrap();
    app.get(&ada, &format!("/v1/conversations?kind=group&cursor={next}")).await.refusal(503);
}

/// A group of long ago, whose events have left the log.
async fn quiet(app: &App, owner: &Person) {
    let command = json!({"command": "create_group", "group": old_id(), "name": "quiet", "owner": owner.id,
        "members": [], "at": Timestamp::now()});
    app.edge.directory.execute(&serde_json::from_value(command).unwrap()).await.unwrap().unwrap();
    let rows: Vec<_> = app.edge.directory.outbox(0, 100).await.unwrap().into_iter().map(|row| row.id).collect();
    app.edge.directory.relayed(&rows).await.unwrap();
}

#[tokio::test]
async fn a_page_of_a_long_list_reads_the_last_messages_of_those_it_shows() {
    let history = PlainHistory::of(&[]);
    let app = App::start_on(history.clone()).await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    for number in 0..100 {
        app.group(&number.to_string(), &[&ada]).await;
    }
    app.ingest().await;
    let asked = || (history.tails_asked.swap(0, Relaxed), history.ends_asked.swap(0, Relaxed));
    asked();
    for query in ["?limit=10", "?limit=10&kind=group"] {
        let page = app.get(&ada, &format!("/v1/conversations{query}")).await.expect(200);
        assert_eq!(page["items"].as_array().map(Vec::len), Some(10));
        let (tails, ends) = asked();
        assert!(tails == 10 && ends <= 100, "{tails} tails, {ends} ends");
    }
    app.say(&bob, &format!("@{}", ada.id), "hello").await;
    app.ingest().await;
    app.get(&ada, "/v1/messages/recent").await.expect(200);
    assert_eq!(asked().0, 0, "and what was recently said needs none");
}
