//! The chat API with live delivery: `/register`, `/login`, `/users`, `/conversations`.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Cluster, PASSWORD, Socket, eventually, scenarios};

use super::texts;

scenarios!(
    b4_01_a_user_registers_and_logs_in,
    b4_02_a_user_is_read_changed_and_deleted_by_itself_or_an_operator,
    b4_03_a_conversation_holds_its_messages,
    b4_06_methods_and_statuses_are_right,
);

async fn b4_01_a_user_registers_and_logs_in(cluster: &Cluster) {
    let new = json!({"username": "joan", "password": PASSWORD, "email": "joan@example.org"});
    let registered = cluster.client().post("/register", new.clone()).await.expect(201);
    assert_eq!(registered["user"]["username"], "joan");
    cluster.client().post("/register", new).await.expect(409);
    let session = cluster.client().post("/login", json!({"username": "joan", "password": PASSWORD})).await.expect(200);
    let joan = cluster.other_client().with_token(session["token"].as_str());
    assert_eq!(joan.get("/v1/users/me").await.expect(200)["id"], registered["user"]["id"]);
    joan.post("/v1/auth/logout", Value::Null).await.expect(204);
    eventually("the token is refused", || async { joan.get("/users").await.is(401).then_some(()) }).await;
    cluster.client().post("/login", json!({"username": "joan", "password": "not this one"})).await.expect(401);
}

async fn b4_02_a_user_is_read_changed_and_deleted_by_itself_or_an_operator(cluster: &Cluster) {
    let operator = cluster.client().register("operator").await;
    let ada = cluster.client().register("ada").await;
    let ben = cluster.other_client().register("ben").await;
    let group = ada.create_group("rooks", &[&ben]).await;
    ben.send(&group, "I was here").await;
    let (of_ada, of_ben) = (format!("/users/{}", ada.id()), format!("/users/{}", ben.id()));
    let picture = "https://example.org/ada.png";
    let change = json!({"username": "lovelace", "profile_picture": picture});
    let changed = ada.put(&of_ada, change.clone()).await.expect(200);
    assert_eq!((&changed["username"], &changed["picture"]), (&json!("lovelace"), &json!(picture)));
    assert_eq!(ben.get(&of_ada).await.expect(200)["picture"], picture);
    assert_eq!(ada.put("/users/me", json!({"profile_picture": null})).await.expect(200)["picture"], Value::Null);
    ben.put(&of_ada, change).await.expect(403);
    ben.delete(&of_ada).await.expect(403);
    ben.put(&of_ben, json!({"username": "Lovelace"})).await.expect(409);
    operator.put(&of_ben, json!({"name": "Renamed"})).await.expect(200);
    operator.patch(&format!("/v1{of_ben}"), json!({"password": PASSWORD})).await.expect(403);

    let mut socket = ben.connect().await;
    operator.delete(&of_ben).await.expect(204);
    let ended = loop {
        let frame = socket.next().await;
        if frame["type"] == "close" {
            break frame;
        }
    };
    assert_eq!(ended["code"], 4401, "a deleted user's sockets are closed");
    eventually("the token is refused", || async { ben.get("/users").await.is(401).then_some(()) }).await;
    assert!(Socket::try_open(ben.address(), Some(ben.token())).await.is_err());
    let gone = ada.get(&of_ben).await.expect(200);
    assert_eq!((&gone["deleted"], &gone["name"]), (&json!(true), &json!("Deleted user")));
    assert_eq!(ada.texts(&group).await, ["I was here"], "its messages stay");
    let top = eventually("the message is counted", || async {
        let top = ada.get("/v1/analytics/top-users").await.expect(200)["items"].clone();
        (top != json!([])).then_some(top)
    })
    .await;
    assert_eq!(top[0]["user"]["name"], "Deleted user", "under a tombstone's name");
    operator.delete(&of_ben).await.expect(404);
    operator.put(&of_ben, json!({"name": "x"})).await.expect(404);
    let again = json!({"username": ben.username(), "password": PASSWORD});
    assert_eq!(cluster.client().post("/register", again).await.expect(409)["code"], "username_taken");
    ada.delete("/users/me").await.expect(204);
}

async fn b4_03_a_conversation_holds_its_messages(cluster: &Cluster) {
    let ada = cluster.client().register("ada").await;
    let ben = cluster.other_client().register("ben").await;
    let eve = cluster.client().register("eve").await;
    let direct = json!({"participants": [ben.id()]});
    let talk = ada.post("/conversations", direct.clone()).await.expect(201);
    assert_eq!(talk["kind"], "direct");
    let path = format!("/conversations/{}", talk["id"].as_str().unwrap());
    let mut socket = ben.connect().await;
    let first = ada.post(&format!("{path}/message"), json!({"text": "first"})).await.expect(201);
    assert_eq!(socket.next_event("message").await["event"]["text"], "first");
    ada.post("/conversations", direct).await.expect(200);
    ben.post(&format!("{path}/message"), json!({"text": "second"})).await.expect(201);
    let read = ada.get(&path).await.expect(200);
    assert_eq!((&read["id"], texts(&read["messages"], "text")), (&talk["id"], vec!["second".into(), "first".into()]));
    let page = ada.get(&format!("{path}?limit=1")).await.expect(200);
    let rest = ada.get(&format!("{path}?cursor={}", page["next"].as_str().unwrap())).await.expect(200);
    assert_eq!(texts(&rest["messages"], "text"), ["first"]);

    let message = format!("{path}/message/{}", first["id"].as_str().unwrap());
    eve.get(&path).await.expect(404);
    eve.delete(&message).await.expect(404);
    ben.delete(&message).await.expect(403);
    ada.delete(&message).await.expect(204);
    assert_eq!(socket.next_event("delete").await["event"]["message"], first["id"]);
    assert_eq!(ben.get(&path).await.expect(200)["messages"][1]["deleted"], true);

    let group = json!({"participants": [ben.id(), eve.id()], "name": "Rooks"});
    let group = ada.post("/conversations", group).await.expect(201);
    assert_eq!((&group["kind"], &group["members_count"]), (&json!("group"), &json!(3)));
    let nobody = json!({"participants": ["01980a8e-6c00-7000-8a3b-5d2f1c9e7a40"]});
    assert_eq!(ada.post("/conversations", nobody).await.expect(422)["errors"][0]["pointer"], "/participants");
}

async fn b4_06_methods_and_statuses_are_right(cluster: &Cluster) {
    let ada = cluster.client().register("ada").await;
    for (method, path, allowed) in [
        (Method::DELETE, "/users", "GET,HEAD,POST,PUT"),
        (Method::GET, "/register", "POST"),
        (Method::PUT, "/login", "POST"),
        (Method::GET, "/conversations", "POST"),
        (Method::PATCH, "/messages", "GET,HEAD,POST"),
        (Method::GET, "/chatrooms/x/messages/y/z", ""),
    ] {
        let answer = ada.request(method.clone(), path, None).await;
        assert_eq!(answer.status, if allowed.is_empty() { 404 } else { 405 }, "{method} {path}: {}", answer.text);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        let mut named: Vec<&str> =
            answer.headers.get("allow").map_or(vec![], |value| value.to_str().unwrap().split(',').collect());
        named.sort_unstable();
        assert_eq!(named.join(","), allowed, "{method} {path}");
    }
    let as_text = |body: &str| ada.send_bytes(Method::POST, "/groups", "text/plain", Some(body.into()));
    assert_eq!(as_text("{}").await.status, 415);
    let malformed = ada.send_bytes(Method::POST, "/groups", "application/json", Some(b"{".into())).await;
    assert_eq!((malformed.status, &malformed.body["code"]), (400, &json!("malformed")));
    let unknown = ada.post("/groups", json!({"name": "x", "surprise": 1})).await;
    assert_eq!(unknown.expect(422)["errors"][0]["pointer"], "/surprise");
    let large = ada.post("/groups", json!({"name": "x".repeat(300_000)})).await;
    assert!(large.is(413) || large.is(0), "{}", large.status);
    ada.get("/users/nonsense").await.expect(404);
    let page = cluster.client().get("/").await;
    assert!(page.is(200) && page.text.contains("<!doctype html>"), "the page is where it was");
}
