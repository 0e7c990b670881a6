//! Members.

use insta::assert_json_snapshot;
use serde_json::json;

use crate::tests::harness::{App, stable};

#[tokio::test]
async fn the_owner_adds_members_and_they_see_the_group_at_once() {
    let app = App::start().await;
    let (ada, bob, carol) = (app.register("ada").await, app.register("bob").await, app.register("carol").await);
    let group = app.group("engines", &[&ada]).await;
    let path = format!("/v1/conversations/{group}/members");
    app.get(&bob, &path).await.refusal(404);
    let body = json!({"users": [bob.id, carol.id, bob.id]});
    assert_eq!(app.post(&ada, &path, body.clone()).await.expect(200)["members_count"], 3);
    assert_eq!(app.post(&ada, &path, body).await.expect(200)["members_count"], 3);
    app.get(&bob, &path).await.expect(200);
    app.post(&bob, &path, json!({"users": [carol.id]})).await.refusal(403);
}

#[tokio::test]
async fn members_are_listed_with_their_roles_and_paged() {
    let app = App::start().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let group = app.group("engines", &[&ada, &bob]).await;
    let path = format!("/v1/conversations/{group}/members");
    let all = app.get(&bob, &path).await.expect(200);
    assert_json_snapshot!(stable(&all));
    let page = app.get(&bob, &format!("{path}?limit=1")).await.expect(200);
    assert_eq!(page["items"][0], all["items"][0]);
    let next = page["next"].as_str().unwrap();
    let page = app.get(&bob, &format!("{path}?limit=1&cursor={next}")).await.expect(200);
    assert_eq!((&page["items"][0], page["next"].is_null()), (&all["items"][1], true));
}

#[tokio::test]
async fn a_direct_conversation_has_two_members() {
    let app = App::start().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let path = format!("/v1/conversations/@{}/members", bob.id);
    let all = app.get(&ada, &path).await.expect(200);
    assert_eq!(all["items"].as_array().unwrap().len(), 2);
    let page = app.get(&ada, &format!("{path}?limit=1")).await.expect(200);
    let next = page["next"].as_str().unwrap();
    let page = app.get(&ada, &format!("{path}?limit=1&cursor={next}")).await.expect(200);
    assert_eq!((&page["items"][0], page["next"].is_null()), (&all["items"][1], true));
}

#[tokio::test]
async fn a_removed_member_is_a_stranger_at_once() {
    let app = App::start().await;
    let (ada, bob, carol) = (app.register("ada").await, app.register("bob").await, app.register("carol").await);
    let group = app.group("engines", &[&ada, &bob, &carol]).await;
    let path = format!("/v1/conversations/{group}");
    app.get(&bob, &path).await.expect(200);
    app.delete(&carol, &format!("{path}/members/{}", bob.id)).await.refusal(403);
    app.delete(&ada, &format!("{path}/members/{}", bob.id)).await.expect(204);
    for path in [path.clone(), format!("{path}/messages"), format!("{path}/members")] {
        app.get(&bob, &path).await.refusal(404);
    }
    app.post(&bob, &format!("{path}/messages"), json!({"text": "still here"})).await.refusal(404);
}

#[tokio::test]
async fn whoever_leaves_is_out_and_the_last_one_ends_the_group() {
    let app = App::start().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let group = app.group("engines", &[&ada, &bob]).await;
    let path = format!("/v1/conversations/{group}");
    app.delete(&ada, &format!("{path}/members/me")).await.expect(204);
    app.get(&ada, &path).await.refusal(404);
    let left = app.get(&bob, &path).await.expect(200);
    assert_eq!((&left["owner"], &left["role"]), (&json!(bob.id), &json!("owner")));
    app.delete(&bob, &format!("{path}/members/me")).await.expect(204);
    app.get(&bob, &path).await.refusal(404);
}

#[tokio::test]
async fn members_that_cannot_be_are_refused() {
    let app = App::start().await;
    let ada = app.register("ada").await;
    let group = app.group("engines", &[&ada]).await;
    let path = format!("/v1/conversations/{group}/members");
    let nobody = "01980a8e-6c00-7000-8a3b-5d2f1c9e7a40";
    for body in [json!({"users": []}), json!({"users": [nobody]}), json!({"users": "x"}), json!({})] {
        let problem = app.post(&ada, &path, body).await.expect(422);
        assert_eq!(problem["errors"][0]["pointer"], "/users");
    }
    app.delete(&ada, &format!("{path}/{nobody}")).await.refusal(404);
}
