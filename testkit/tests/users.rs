//! Users, their sessions, and what every list has in common.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use testkit::{Client, Cluster, PASSWORD, eventually, scenarios};

scenarios!(
    users_are_listed_by_pages_and_found_by_name,
    a_user_changes_what_is_its_own_and_leaves,
    a_refresh_token_is_good_once,
    a_log_out_ends_the_session,
    a_group_of_many_members_is_listed_by_pages,
    every_list_takes_a_limit_and_a_cursor,
    every_list_is_read_to_its_end_by_pages_of_one,
);

async fn users_are_listed_by_pages_and_found_by_name(cluster: &Cluster) {
    let mut names = Vec::new();
    for n in 0..7 {
        names.push(cluster.client().register(&format!("rook{n}-")).await.username().to_owned());
    }
    let raven = cluster.other_client().register("raven").await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = raven.get(&format!("/v1/users?query=ROOK&limit=3{cursor}")).await.expect(200);
        for user in page["items"].as_array().unwrap() {
            assert!(user["created_at"].is_string() && user["email"].as_str().unwrap().contains('@'), "{user}");
            seen.push(user["username"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, names);
    let one = raven.get(&format!("/v1/users/{}", raven.id())).await.expect(200);
    assert_eq!((&one["username"], &one["name"]), (&json!(raven.username()), &json!("raven")));
}

async fn a_user_changes_what_is_its_own_and_leaves(cluster: &Cluster) {
    let ada = cluster.client().register("ada").await;
    let ben = cluster.other_client().register("ben").await;
    let group = ada.create_group("rooks", &[&ben]).await;
    ben.send(&group, "I was here").await;
    assert_eq!(ben.patch("/v1/users/me", json!({"name": "Benno"})).await.expect(200)["name"], "Benno");
    let path = format!("/v1/users/{}", ben.id());
    assert_eq!(ada.get(&path).await.expect(200)["name"], "Benno");
    let taken = json!({"username": ada.username().to_uppercase(), "email": "x@example.org", "password": PASSWORD});
    cluster.client().post("/v1/auth/register", taken).await.expect(409);
    ben.patch("/v1/users/me", json!({"username": ada.username()})).await.expect(409);

    ben.delete("/v1/users/me").await.expect(204);
    ben.get("/v1/users/me").await.expect(401);
    let gone = ada.get(&path).await.expect(200);
    assert_eq!(gone["deleted"], true);
    assert!(!gone.to_string().contains("Benno") && !gone.to_string().contains("ben"), "only a tombstone: {gone}");
    assert_eq!(ada.texts(&group).await, ["I was here"], "what was said stays");
    let members = ada.get(&format!("/v1/conversations/{group}/members")).await.expect(200);
    assert_eq!(members["items"].as_array().unwrap().len(), 1);
    let again = json!({"username": ben.username(), "email": "new@example.org", "password": PASSWORD});
    cluster.client().post("/v1/auth/register", again).await.expect(409);
}

async fn a_refresh_token_is_good_once(cluster: &Cluster) {
    let ada = cluster.client().register("ada").await;
    let refresh = |token: &str| {
        let (client, body) = (cluster.other_client(), json!({"refresh_token": token}));
        async move { client.post("/v1/auth/refresh", body).await }
    };
    let second = refresh(ada.refresh_token()).await.expect(200);
    let renewed = cluster.client().signed_in(&second);
    renewed.get("/v1/users/me").await.expect(200);
    assert_ne!(renewed.refresh_token(), ada.refresh_token());
    // A client whose answer was lost repeats the request, once.
    let repeated = refresh(ada.refresh_token()).await.expect(200);
    let renewed = cluster.client().signed_in(&repeated);
    let replayed = refresh(ada.refresh_token()).await;
    assert_eq!(replayed.expect(401)["code"], "session_reused");
    refresh(renewed.refresh_token()).await.expect(401);
    let wrong = json!({"login": ada.username(), "password": "not the password"});
    assert_eq!(cluster.client().post("/v1/auth/login", wrong).await.expect(401)["code"], "wrong_credentials");
    cluster.client().log_in(ada.username()).await.get("/v1/users/me").await.expect(200);
}

async fn a_log_out_ends_the_session(cluster: &Cluster) {
    let ada = cluster.client().register("ada").await;
    ada.post("/v1/auth/logout", Value::Null).await.expect(204);
    ada.get("/v1/users/me").await.expect(401);
    let body = json!({"refresh_token": ada.refresh_token()});
    cluster.other_client().post("/v1/auth/refresh", body).await.expect(401);
}

async fn a_group_of_many_members_is_listed_by_pages(cluster: &Cluster) {
    const MEMBERS: usize = 150;
    let ada = cluster.client().register("ada").await;
    let mut others = Vec::new();
    for _ in 0..MEMBERS {
        others.push(cluster.client().register("member").await);
    }
    let group = ada.create_group("many", &others.iter().collect::<Vec<_>>()).await;
    let (mut seen, mut cursor) = (std::collections::BTreeSet::new(), String::new());
    loop {
        let page = ada.get(&format!("/v1/conversations/{group}/members?limit=40{cursor}")).await.expect(200);
        seen.extend(page["items"].as_array().unwrap().iter().map(|member| member["user"]["id"].to_string()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen.len(), MEMBERS + 1);
    let mut sockets = Vec::new();
    for member in &others {
        sockets.push(member.at(&cluster.other_client()).connect().await);
    }
    let sent = ada.send(&group, "everybody?").await;
    for socket in &mut sockets {
        assert_eq!(socket.next_event("message").await["seq"], sent["seq"]);
    }
}

async fn every_list_takes_a_limit_and_a_cursor(cluster: &Cluster) {
    let document = cluster.client().get("/openapi.json").await.expect(200);
    let mut lists = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(schema) = item.pointer("/get/responses/200/content/application~1json/schema") else { continue };
        let schema = schema["$ref"].as_str().map_or(schema, |to| document.pointer(to.trim_start_matches('#')).unwrap());
        let has = |name: &str| schema["properties"].get(name).is_some();
        if !has("items") {
            continue;
        }
        lists += 1;
        let parameters = item["get"]["parameters"].as_array().unwrap();
        let names: Vec<&str> = parameters.iter().map(|parameter| parameter["name"].as_str().unwrap()).collect();
        let pages_on = names.contains(&"cursor") && has("next") || has("position");
        let is_bounded_by_range = path == "/v1/analytics/activity";
        // Presence is asked for by user, at most 100 of them.
        let is_long_poll = path == "/v1/events" || path == "/v1/presence";
        assert!(names.contains(&"limit") || is_long_poll, "{path} takes {names:?}");
        assert!(pages_on || is_bounded_by_range || path == "/v1/presence", "{path} takes {names:?}");
    }
    assert!(lists >= 8, "{lists} lists");
}

/// What stands at `pointer` in each item of a list, which is read by pages of one. Its items stand under `field`.
async fn walk(client: &Client, path: &str, field: &str, pointer: &str) -> Vec<String> {
    const MOST: usize = 50;
    let (mut read, mut cursor) = (Vec::new(), String::new());
    let sign = if path.contains('?') { '&' } else { '?' };
    for _ in 0..MOST {
        let page = client.get(&format!("{path}{sign}limit=1{cursor}")).await.expect(200);
        let items = page[field].as_array().unwrap();
        assert!(items.len() <= 1, "{path}: {page}");
        read.extend(items.iter().map(|item| item.pointer(pointer).unwrap().as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { return read };
        cursor = format!("&cursor={next}");
    }
    panic!("{path} has no end: {read:?}");
}

/// In no order that matters.
fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort_unstable();
    texts
}

async fn every_list_is_read_to_its_end_by_pages_of_one(cluster: &Cluster) {
    let ada = cluster.client().register("lister").await;
    let ben = cluster.other_client().register("lister").await;
    let cyd = cluster.client().register("lister").await;
    let all = [&ada, &ben, &cyd];
    for _ in 0..2 {
        cluster.other_client().log_in(ada.username()).await;
    }
    let groups = [ada.create_group("one", &[&ben, &cyd]).await, ada.create_group("two", &[&ben]).await];
    let (first, second) = (&groups[0], &groups[1]);
    for (sender, text) in [(&ada, "1"), (&ben, "2"), (&ada, "3"), (&ben, "4"), (&ada, "5")] {
        sender.send(first, text).await;
    }
    ada.send(second, "6").await;
    let direct = |one: &Client, other: &Client| {
        let mut ids = [one.id(), other.id()];
        ids.sort_unstable();
        ids.join("~")
    };
    ben.send(&format!("@{}", ada.id()), "7").await;
    cyd.send(&format!("@{}", ada.id()), "8").await;
    eventually("the direct conversations are known, and the messages are counted", || async {
        let known = ada.get("/v1/conversations?kind=direct").await.expect(200)["items"].as_array().unwrap().len();
        let top = ada.get("/v1/analytics/top-users").await.expect(200);
        (known == 2 && top["items"][0]["messages"] == 4 && top["items"][1]["messages"] == 2).then_some(())
    })
    .await;

    let names = sorted(all.iter().map(|user| user.username().to_owned()).collect());
    for path in ["/v1/users?query=lister", "/users?query=lister"] {
        assert_eq!(sorted(walk(&ada, path, "items", "/username").await), names, "{path}");
    }
    assert_eq!(walk(&ada, "/v1/sessions", "items", "/id").await.len(), 3, "one sign-up and two log-ins");
    let directs = [direct(&ada, &cyd), direct(&ada, &ben)];
    for (path, field, ids) in [
        ("/v1/conversations", "items", vec![&directs[0], &directs[1], second, first]),
        ("/v1/conversations?kind=direct", "items", vec![&directs[0], &directs[1]]),
        ("/v1/conversations?kind=group", "items", vec![second, first]),
        ("/chatrooms", "data", vec![second, first]),
        ("/users/me/chatrooms", "data", vec![second, first]),
    ] {
        assert_eq!(walk(&ada, path, field, "/id").await.iter().collect::<Vec<_>>(), ids, "{path}");
    }
    let ids = sorted(all.iter().map(|user| user.id().to_owned()).collect());
    let of_first = format!("/v1/conversations/{first}");
    assert_eq!(walk(&ada, &format!("{of_first}/members"), "items", "/user/id").await, ids);
    assert_eq!(walk(&ada, &format!("{of_first}/reads"), "items", "/user").await, ids);
    for (path, field, pointer, texts) in [
        (format!("{of_first}/messages"), "items", "/text", "54321"),
        (format!("{of_first}/messages?sender={}&order=asc", ben.id()), "items", "/text", "24"),
        (format!("/conversations/{first}"), "messages", "/text", "54321"),
        (format!("/groups/{first}/messages"), "items", "/text", "54321"),
        (format!("/chats/{first}"), "items", "/text", "54321"),
        (format!("/chatrooms/{first}/messages"), "data", "/message_str", "54321"),
        (format!("/chatrooms/{first}/messages/{}", ben.id()), "data", "/message_str", "42"),
        (format!("/messages?user={}&other={}", ada.id(), ben.id()), "items", "/text", "7"),
        ("/v1/messages/recent".to_owned(), "items", "/text", "87"),
    ] {
        assert_eq!(walk(&ada, &path, field, pointer).await.concat(), texts, "{path}");
    }
    let top = walk(&ada, "/v1/analytics/top-users", "items", "/user/username").await;
    assert_eq!(top, [ada.username(), ben.username()]);
    assert_eq!(walk(&ada, "/v1/analytics/top-conversations", "items", "/conversation/name").await, ["one", "two"]);
    assert_eq!(events_one_by_one(&ada, &of_first).await, [0, 0, 0, 1, 1, 1, 1, 1]);
}

/// Events are paged by their places: whether each of a conversation, oldest first, is a message.
async fn events_one_by_one(client: &Client, conversation: &str) -> Vec<u8> {
    let (mut kinds, mut after_seq) = (Vec::new(), 0);
    loop {
        let page = client.get(&format!("{conversation}/events?limit=1&after_seq={after_seq}")).await.expect(200);
        assert_eq!(page["complete"], true, "{page}");
        let Some(event) = page["items"].as_array().unwrap().first() else { return kinds };
        kinds.push(u8::from(event["event"]["kind"] == "message"));
        after_seq = event["seq"].as_u64().unwrap();
    }
}
