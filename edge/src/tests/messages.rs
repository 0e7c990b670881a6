//! Messages.

use insta::assert_json_snapshot;
use serde_json::{Value, json};
use types::{EventId, Region};

use crate::tests::harness::{App, stable, texts};

#[tokio::test]
async fn a_message_is_sent_and_read() {
    let app = App::start().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let group = app.group("engines", &[&ada, &bob]).await;
    let path = format!("/v1/conversations/{group}/messages");
    let sent = app.post(&ada, &path, json!({"text": "Hello,\n\tBob! 🦀"})).await.expect(201);
    assert_json_snapshot!(stable(&sent));
    let list = app.get(&bob, &path).await.expect(200);
    assert_eq!(list, json!({"items": [sent], "next": null}));
    let message = format!("{path}/{}", sent["id"].as_str().unwrap());
    assert_eq!(app.get(&bob, &message).await.expect(200), sent);
}

#[tokio::test]
async fn a_message_may_hold_a_link_to_an_image_or_a_video() {
    let app = App::start().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let path = format!("/v1/conversations/@{}/messages", bob.id);
    let image = json!({"kind": "image", "image": {"url": "https://example.org/a.png", "width": 640, "height": 480}});
    assert_json_snapshot!(stable(&app.post(&ada, &path, image).await.expect(201)));
    let video = json!({"text": "look", "video":
        {"url": "https://example.org/v", "length_seconds": 93, "source": "youtube"}});
    assert_json_snapshot!(stable(&app.post(&ada, &path, video).await.expect(201)));
}

#[tokio::test]
async fn a_message_sent_again_is_the_same_message() {
    let app = App::start().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let group = app.group("engines", &[&ada, &bob]).await;
    let path = format!("/v1/conversations/{group}/messages");
    let body = json!({"id": EventId::generate(Region::default()), "text": "once"});
    let sent = app.post(&ada, &path, body.clone()).await.expect(201);
    assert_eq!(app.post(&ada, &path, body.clone()).await.expect(200), sent);
    let mut other = body.clone();
    other["text"] = "twice".into();
    assert_eq!(app.post(&ada, &path, other).await.refusal(409), "id_taken");
    assert_eq!(app.post(&bob, &path, body).await.refusal(409), "id_taken");
    assert_eq!(texts(&app.get(&ada, &path).await.expect(200), "text"), ["once"]);
}

#[tokio::test]
async fn a_message_that_cannot_be_is_refused_and_pointed_at() {
    let app = App::start().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let path = format!("/v1/conversations/@{}/messages", bob.id);
    let image = json!({"url": "https://example.org/a.png", "width": 640, "height": 480});
    for (body, pointer) in [
        (json!({}), "/text"),
        (json!({"text": ""}), "/text"),
        (json!({"text": 7}), "/text"),
        (json!({"text": "a\u{0}b"}), "/text"),
        (json!({"text": "x".repeat(8_001)}), "/text"),
        (json!({"text": "x", "id": "7"}), "/id"),
        (json!({"text": "x", "id": 7}), "/id"),
        (json!({"text": "x", "sender": "bob"}), "/sender"),
        (json!({"text": "x", "kind": "image"}), "/kind"),
        (json!({"text": "x", "kind": "attachment"}), "/kind"),
        (json!({"kind": "text", "image": image}), "/kind"),
        (json!({"image": {"url": "javascript:x", "width": 1, "height": 1}}), "/image/url"),
        (json!({"image": {"url": "https://example.org", "width": -1, "height": 1}}), "/image/width"),
        (json!({"image": {"url": "https://example.org", "width": 1}}), "/image/height"),
        (json!({"text": "x", "mentions": ["bob"]}), "/mentions/0"),
    ] {
        let problem = app.post(&ada, &path, body.clone()).await.expect(422);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
    }
    app.post(&ada, &path, json!({"text": "🦀".repeat(8_000)})).await.expect(201);
}

#[tokio::test]
async fn messages_are_paged_both_ways() {
    let app = App::start().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let group = app.group("engines", &[&ada, &bob]).await;
    for text in ["1", "2", "3", "4", "5"] {
        app.say(if text == "3" { &bob } else { &ada }, &group, text).await;
    }
    app.ingest().await;
    let path = format!("/v1/conversations/{group}/messages");
    for (order, wanted) in [("desc", ["5", "4", "3", "2", "1"]), ("asc", ["1", "2", "3", "4", "5"])] {
        let read = app.pages(&bob, &format!("{path}?limit=2&order={order}"), "text").await;
        assert_eq!(read, wanted);
    }

    let list = app.get(&bob, &path).await.expect(200);
    let message = |index: usize| &list["items"][index];
    let (four, two) = (message(1)["seq"].as_u64().unwrap(), message(3)["seq"].as_u64().unwrap());
    let since = message(2)["created_at"].as_str().unwrap();
    for (query, wanted) in [
        (format!("before_seq={four}&after_seq={two}"), vec!["3"]),
        (format!("after_seq={four}"), vec!["5"]),
        (format!("sender={}", bob.id), vec!["3"]),
        (format!("before_seq={}", u64::MAX), vec!["5", "4", "3", "2", "1"]),
        (format!("after_seq={}", u64::MAX), vec![]),
        ("before_seq=0".to_owned(), vec![]),
        ("since=2999-01-01T00:00:00Z".to_owned(), vec![]),
    ] {
        let found = app.get(&bob, &format!("{path}?{query}")).await.expect(200);
        assert_eq!(texts(&found, "text"), wanted, "{query}");
    }
    let found = app.get(&bob, &format!("{path}?since={since}")).await.expect(200);
    assert!(texts(&found, "text").contains(&"3".to_owned()));
}

#[tokio::test]
async fn only_its_sender_edits_a_message() {
    let app = App::start().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let group = app.group("engines", &[&ada, &bob]).await;
    let sent = app.say(&bob, &group, "helo").await;
    let path = format!("/v1/conversations/{group}/messages/{}", sent["id"].as_str().unwrap());
    app.patch(&ada, &path, json!({"text": "hijacked"})).await.refusal(403);
    app.patch(&bob, &path, json!({"text": ""})).await.refusal(422);
    let edited = app.patch(&bob, &path, json!({"text": "hello"})).await.expect(200);
    assert_eq!((&edited["text"], &edited["seq"]), (&json!("hello"), &sent["seq"]));
    assert_eq!(app.get(&ada, &path).await.expect(200), edited);
}

#[tokio::test]
async fn a_message_is_withdrawn_by_its_sender_or_the_owner() {
    let app = App::start().await;
    let (ada, bob, carol) = (app.register("ada").await, app.register("bob").await, app.register("carol").await);
    let group = app.group("engines", &[&ada, &bob, &carol]).await;
    for (sender, deleter) in [(&bob, &bob), (&bob, &ada)] {
        let sent = app.say(sender, &group, "oops").await;
        let path = format!("/v1/conversations/{group}/messages/{}", sent["id"].as_str().unwrap());
        app.delete(&carol, &path).await.refusal(403);
        app.delete(deleter, &path).await.expect(204);
        app.delete(deleter, &path).await.expect(204);
        let left = app.get(&carol, &path).await.expect(200);
        assert_eq!((&left["deleted"], &left["text"], &left["seq"]), (&json!(true), &json!(""), &sent["seq"]));
        assert_eq!(app.patch(sender, &path, json!({"text": "x"})).await.refusal(409), "message_deleted");
    }
}

#[tokio::test]
async fn an_unknown_message_is_not_found() {
    let app = App::start().await;
    let ada = app.register("ada").await;
    let group = app.group("engines", &[&ada]).await;
    let other = app.group("other", &[&ada]).await;
    let sent: Value = app.say(&ada, &other, "elsewhere").await;
    for id in ["x", "01980a8e-6c00-7000-8a3b-5d2f1c9e7a40", sent["id"].as_str().unwrap()] {
        let path = format!("/v1/conversations/{group}/messages/{id}");
        app.get(&ada, &path).await.refusal(404);
        app.patch(&ada, &path, json!({"text": "x"})).await.refusal(404);
        app.delete(&ada, &path).await.refusal(404);
    }
}
