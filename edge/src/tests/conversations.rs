//! Conversations.

use insta::assert_json_snapshot;
use serde_json::json;
use types::{GroupId, Region};

use crate::tests::harness::{App, stable, texts};

#[tokio::test]
async fn who_creates_a_group_owns_it_and_is_in_it() {
    let app = App::start().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let body = json!({"kind": "group", "name": "Analytical engines", "members": [bob.id, bob.id]});
    let group = app.post(&ada, "/v1/conversations", body).await.expect(201);
    assert_json_snapshot!(stable(&group));
    let path = format!("/v1/conversations/{}", group["id"].as_str().unwrap());
    assert_eq!(app.get(&ada, &path).await.expect(200), group);
    assert_eq!(app.get(&bob, &path).await.expect(200)["role"], "member");
}

#[tokio::test]
async fn a_group_sent_again_is_the_same_group() {
    let app = App::start().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let id = GroupId::generate(Region::default());
    let body = json!({"kind": "group", "id": id, "name": "engines"});
    let group = app.post(&ada, "/v1/conversations", body.clone()).await.expect(201);
    assert_eq!(app.post(&ada, "/v1/conversations", body.clone()).await.expect(200)["id"], group["id"]);
    let other = json!({"kind": "group", "id": id, "name": "other"});
    assert_eq!(app.post(&ada, "/v1/conversations", other).await.refusal(409), "id_taken");
    assert_eq!(app.post(&bob, "/v1/conversations", body).await.refusal(409), "id_taken");
}

#[tokio::test]
async fn a_group_that_cannot_be_is_refused_and_pointed_at() {
    let app = App::start().await;
    let ada = app.register("ada").await;
    let nobody = "01980a8e-6c00-7000-8a3b-5d2f1c9e7a40";
    let elsewhere = GroupId::generate(Region::new(7).unwrap());
    let many: Vec<_> = (0..1_001).map(|_| GroupId::generate(Region::default())).collect();
    for (body, pointer) in [
        (json!({"kind": "group"}), "/name"),
        (json!({"kind": "group", "name": ""}), "/name"),
        (json!({"kind": "group", "name": "a\nb"}), "/name"),
        (json!({"kind": "group", "name": "x".repeat(101)}), "/name"),
        (json!({"kind": "group", "name": "x", "user": ada.id}), "/user"),
        (json!({"kind": "group", "name": "x", "members": [nobody]}), "/members"),
        (json!({"kind": "group", "name": "x", "members": many}), "/members"),
        (json!({"kind": "group", "name": "x", "members": ["x"]}), "/members/0"),
        (json!({"kind": "group", "name": "x", "id": elsewhere}), "/id"),
        (json!({"kind": "group", "name": "x", "id": "7"}), "/id"),
        (json!({"kind": "group", "name": "x", "owner": ada.id}), "/owner"),
        (json!({"kind": "club", "name": "x"}), "/kind"),
        (json!({"name": "x"}), "/kind"),
        (json!({"kind": "direct"}), "/user"),
        (json!({"kind": "direct", "user": nobody}), "/user"),
        (json!({"kind": "direct", "user": ada.id, "name": "x"}), "/kind"),
    ] {
        let problem = app.post(&ada, "/v1/conversations", body.clone()).await.expect(422);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
}

#[tokio::test]
async fn a_direct_conversation_is_the_same_from_both_sides() {
    let app = App::start().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let body = json!({"kind": "direct", "user": bob.id});
    let direct = app.post(&ada, "/v1/conversations", body.clone()).await.expect(201);
    assert_json_snapshot!(stable(&direct));
    app.say(&ada, &format!("@{}", bob.id), "hello").await;
    app.ingest().await;
    app.post(&ada, "/v1/conversations", body).await.expect(200);
    let seen = app.get(&bob, &format!("/v1/conversations/@{}", ada.id)).await.expect(200);
    assert_eq!((&seen["id"], &seen["name"], &seen["unread"]), (&direct["id"], &json!("ada"), &json!(1)));
    let notes = app.get(&ada, "/v1/conversations/@me").await.expect(200);
    assert_eq!(notes["members_count"], 1);
}

#[tokio::test]
async fn conversations_come_by_their_latest_activity() {
    let app = App::start().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let (first, second) = (app.group("first", &[&ada, &bob]).await, app.group("second", &[&ada]).await);
    app.say(&ada, &format!("@{}", bob.id), "hello").await;
    app.say(&ada, &second, "one").await;
    app.say(&bob, &first, "two").await;
    app.ingest().await;
    let list = app.get(&ada, "/v1/conversations").await.expect(200);
    assert_eq!(texts(&list, "name"), ["first", "second", "bob"]);
    assert_eq!(list["items"][0]["last_message"]["text"], "two");
    assert_eq!(list["items"][0]["unread"], 1);
    assert_eq!(list["items"][1]["unread"], 0);

    let names = app.pages(&ada, "/v1/conversations?limit=1", "name").await;
    assert_eq!(names, ["first", "second", "bob"]);
    assert_eq!(texts(&app.get(&bob, "/v1/conversations").await.expect(200), "name"), ["first", "ada"]);
}

#[tokio::test]
async fn only_the_owner_renames_or_ends_a_group() {
    let app = App::start().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let group = app.group("engines", &[&ada, &bob]).await;
    let path = format!("/v1/conversations/{group}");
    app.patch(&bob, &path, json!({"name": "mine"})).await.refusal(403);
    app.delete(&bob, &path).await.refusal(403);
    assert_eq!(app.patch(&ada, &path, json!({"name": "new"})).await.expect(200)["name"], "new");
    app.patch(&ada, &path, json!({"name": ""})).await.refusal(422);
    app.delete(&ada, &path).await.expect(204);
    for person in [&ada, &bob] {
        app.get(person, &path).await.refusal(404);
        app.get(person, &format!("{path}/messages")).await.refusal(404);
        assert_eq!(app.get(person, "/v1/conversations").await.expect(200)["items"], json!([]));
    }
}

#[tokio::test]
async fn a_direct_conversation_has_no_name_and_no_end() {
    let app = App::start().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let path = format!("/v1/conversations/@{}", bob.id);
    app.patch(&ada, &path, json!({"name": "x"})).await.refusal(403);
    app.delete(&ada, &path).await.refusal(403);
    app.post(&ada, &format!("{path}/members"), json!({"users": [ada.id]})).await.refusal(403);
    app.delete(&ada, &format!("{path}/members/me")).await.refusal(403);
}

#[tokio::test]
async fn what_others_said_is_unread_until_it_is_marked() {
    let app = App::start().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let group = app.group("engines", &[&ada, &bob]).await;
    let path = format!("/v1/conversations/{group}");
    app.say(&ada, &group, "one").await;
    let mention = json!({"text": "two", "mentions": [bob.id]});
    let two = app.post(&ada, &format!("{path}/messages"), mention).await.expect(201);
    app.say(&bob, &group, "my own").await;
    app.say(&ada, &group, "three").await;
    app.ingest().await;
    let counts = async |seq: u64| {
        app.put(&bob, &format!("{path}/read"), json!({"seq": seq})).await.expect(204);
        let seen = app.get(&bob, &path).await.expect(200);
        (seen["unread"].as_u64().unwrap(), seen["mentions"].as_u64().unwrap())
    };
    assert_eq!(counts(0).await, (3, 1));
    assert_eq!(counts(two["seq"].as_u64().unwrap()).await, (1, 0));
    assert_eq!(counts(0).await, (1, 0), "a read mark does not go back");
    assert_eq!(counts(1 << 60).await, (0, 0));
    app.say(&ada, &group, "four").await;
    app.ingest().await;
    assert_eq!(counts(0).await, (1, 0), "a mark beyond the end means the end");
}

#[tokio::test]
async fn unread_messages_are_counted_up_to_a_hundred() {
    let mut config = crate::tests::harness::config();
    config.limits.request_burst_per_user = 1_000;
    let app = App::start_with(config).await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let group = app.group("engines", &[&ada, &bob]).await;
    for text in 0..101 {
        app.say(&bob, &group, &format!("mine {text}")).await;
    }
    let mut unread = Vec::new();
    for text in 0..103 {
        app.say(&ada, &group, &format!("yours {text}")).await;
        if text >= 98 {
            app.ingest().await;
            unread.push(app.get(&bob, &format!("/v1/conversations/{group}")).await.expect(200)["unread"].as_u64());
        }
    }
    assert_eq!(unread, [99, 100, 100, 100, 100].map(Some));
}
