//! Promise 6: nothing of a conversation reaches a stranger. The table is checked against the OpenAPI document:
//! a route that is in the document and not in the table fails the test, so that a new route gets its row.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Client, Cluster, Socket, eventually, scenarios};

scenarios!(
    every_documented_route_has_a_row_and_every_row_a_route,
    a_route_that_needs_a_token_takes_no_other,
    no_stranger_reads_or_changes_a_conversation,
    no_list_shows_a_stranger_what_is_not_its_own,
    what_is_a_users_own_is_nobody_elses,
    only_operators_grant_roles,
    a_stranger_on_the_socket_hears_and_changes_nothing,
    a_revoked_session_is_cut_off_at_once,
);

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Access {
    /// Anybody.
    Public,
    /// Every signed-in user; what it shows is the caller's own, or public among users.
    SignedIn,
    /// Operators.
    Operators,
    /// Every signed-in user; it takes a file of the caller's, and shows nothing else.
    Uploaders,
    /// Members of the conversation in its path, or of one that the attachment in its path was sent in.
    Members,
    /// The user in its path; operators too, where it changes the user.
    Oneself,
}

use Access::{Members, Oneself, Operators, Public, SignedIn, Uploaders};

/// Every route: who may call it, and a body that would be taken from one who may.
fn table() -> Vec<(&'static str, Access, Value)> {
    canonical().into_iter().chain(aliases()).collect()
}

/// The routes of the briefs' dialects.
fn aliases() -> Vec<(&'static str, Access, Value)> {
    let batch = json!({"data": [{"message_str": "x", "sender_user_id": "01980a8e-6c00-7001-8a3b-5d2f1c9e7a40"}]});
    vec![
        ("GET /users", SignedIn, Value::Null),
        ("POST /users", Public, Value::Null),
        ("PUT /users", Public, Value::Null),
        ("GET /users/{user}", SignedIn, Value::Null),
        ("PUT /users/{user}", Oneself, json!({"name": "x"})),
        ("DELETE /users/{user}", Oneself, Value::Null),
        ("GET /users/{user}/chatrooms", Oneself, Value::Null),
        ("POST /auth/register", Public, Value::Null),
        ("POST /auth/login", Public, Value::Null),
        ("POST /chats/send-message", SignedIn, json!({"chatId": "@me", "text": "x"})),
        ("GET /chats/{conversation}", Members, Value::Null),
        ("POST /groups", SignedIn, json!({"name": "x"})),
        ("POST /groups/{conversation}/add-user", Members, json!({"userId": "01980a8e-6c00-7001-8a3b-5d2f1c9e7a40"})),
        ("GET /groups/{conversation}/messages", Members, Value::Null),
        ("POST /uploads", Uploaders, Value::Null),
        ("GET /chatrooms", SignedIn, Value::Null),
        ("POST /chatrooms", SignedIn, json!({"name": "x"})),
        ("GET /chatrooms/{conversation}", Members, Value::Null),
        ("POST /chatrooms/invite", SignedIn, Value::Null),
        ("GET /chatrooms/{conversation}/messages", Members, Value::Null),
        ("POST /chatrooms/{conversation}/messages", Members, batch),
        ("GET /chatrooms/{conversation}/messages/{user}", Members, Value::Null),
        ("POST /register", Public, Value::Null),
        ("POST /login", Public, Value::Null),
        ("POST /conversations", SignedIn, json!({"participants": [], "name": "x"})),
        ("GET /conversations/{conversation}", Members, Value::Null),
        ("POST /conversations/{conversation}/message", Members, json!({"text": "x"})),
        ("DELETE /conversations/{conversation}/message/{message}", Members, Value::Null),
        ("GET /messages", SignedIn, Value::Null),
        ("POST /messages", SignedIn, Value::Null),
    ]
}

fn canonical() -> Vec<(&'static str, Access, Value)> {
    vec![
        ("GET /healthz", Public, Value::Null),
        ("GET /readyz", Public, Value::Null),
        ("GET /metrics", Public, Value::Null),
        ("GET /openapi.json", Public, Value::Null),
        ("GET /asyncapi.json", Public, Value::Null),
        ("GET /docs", Public, Value::Null),
        ("GET /.well-known/jwks.json", Public, Value::Null),
        ("POST /v1/auth/register", Public, Value::Null),
        ("POST /v1/auth/login", Public, Value::Null),
        ("POST /v1/auth/refresh", Public, Value::Null),
        ("POST /v1/auth/logout", SignedIn, Value::Null),
        ("GET /v1/sessions", SignedIn, Value::Null),
        ("DELETE /v1/sessions/{session}", SignedIn, Value::Null),
        ("GET /v1/users", SignedIn, Value::Null),
        ("GET /v1/users/me", SignedIn, Value::Null),
        ("GET /v1/users/{user}", SignedIn, Value::Null),
        ("PATCH /v1/users/{user}", Oneself, json!({"name": "x"})),
        ("DELETE /v1/users/{user}", Oneself, Value::Null),
        ("PATCH /v1/users/me", SignedIn, json!({"name": "x"})),
        ("DELETE /v1/users/me", SignedIn, Value::Null),
        ("PUT /v1/users/{user}/roles", Operators, json!({"roles": ["operator"]})),
        ("GET /v1/conversations", SignedIn, Value::Null),
        ("POST /v1/conversations", SignedIn, json!({"kind": "group", "name": "x"})),
        ("GET /v1/conversations/{conversation}", Members, Value::Null),
        ("PATCH /v1/conversations/{conversation}", Members, json!({"name": "x"})),
        ("DELETE /v1/conversations/{conversation}", Members, Value::Null),
        ("GET /v1/conversations/{conversation}/members", Members, Value::Null),
        ("POST /v1/conversations/{conversation}/members", Members, json!({"users": []})),
        ("DELETE /v1/conversations/{conversation}/members/{user}", Members, Value::Null),
        ("GET /v1/conversations/{conversation}/messages", Members, Value::Null),
        ("POST /v1/conversations/{conversation}/messages", Members, json!({"text": "x"})),
        ("GET /v1/conversations/{conversation}/messages/{message}", Members, Value::Null),
        ("PATCH /v1/conversations/{conversation}/messages/{message}", Members, json!({"text": "x"})),
        ("DELETE /v1/conversations/{conversation}/messages/{message}", Members, Value::Null),
        ("PUT /v1/conversations/{conversation}/read", Members, json!({"seq": 1})),
        ("GET /v1/conversations/{conversation}/reads", Members, Value::Null),
        ("GET /v1/conversations/{conversation}/events", Members, Value::Null),
        ("GET /v1/events", SignedIn, Value::Null),
        ("GET /v1/presence", SignedIn, Value::Null),
        ("GET /v1/messages/recent", SignedIn, Value::Null),
        ("POST /v1/attachments", Uploaders, Value::Null),
        ("POST /v1/attachments/uploads", Uploaders, json!({"name": "a.png", "size": 1})),
        ("POST /v1/attachments/uploads/{upload}/complete", Members, Value::Null),
        ("GET /v1/attachments/{attachment}", Members, Value::Null),
        ("GET /v1/analytics/top-users", SignedIn, Value::Null),
        ("GET /v1/analytics/top-conversations", SignedIn, Value::Null),
        ("GET /v1/analytics/activity", SignedIn, Value::Null),
        (SOCKET, SignedIn, Value::Null),
    ]
}

/// The one route that ends in a WebSocket.
const SOCKET: &str = "GET /v1/ws";

/// The routes of the OpenAPI document, as `METHOD path` with the parameters named as in the table.
async fn documented(client: &Client) -> Vec<String> {
    let document = client.get("/openapi.json").await.expect(200);
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().expect("the document has paths") {
        for method in ["get", "put", "post", "patch", "delete"] {
            if item.get(method).is_some() {
                routes.push(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    routes
}

/// An id that stands for nothing.
const NONE: &str = "01980a8e-6c00-7001-8a3b-5d2f1c9e7a40";

const SECRET: &str = "the secret of the rooks";

struct Scene {
    owner: Client,
    conversations: Vec<String>,
    message: BTreeMap<String, String>,
    /// The owner's, sent to nobody else.
    attachment: String,
    strangers: Vec<(&'static str, Client)>,
}

/// A group and a direct conversation, each with a secret message, and all who have no business there.
async fn scene(cluster: &Cluster) -> Scene {
    let owner = cluster.client().register("owner").await;
    let peer = cluster.client().register("peer").await;
    let removed = cluster.client().register("removed").await;
    let stranger = cluster.client().register("stranger").await;
    let group = owner.create_group(SECRET, &[&peer, &removed]).await;
    let direct =
        owner.post(&format!("/v1/conversations/@{}/messages", peer.id()), json!({"text": SECRET})).await.expect(201);
    let direct_id = direct["conversation"].as_str().unwrap().to_owned();
    let in_group = owner.send(&group, SECRET).await;
    removed.get(&format!("/v1/conversations/{group}/messages")).await.expect(200);
    let attachment = owner.upload(&format!("{SECRET}.png"), "image/png", testkit::files::png(1, 1)).await.expect(201);
    owner.send_attachment(&format!("@{}", owner.id()), &attachment).await.expect(201);
    owner.delete(&format!("/v1/conversations/{group}/members/{}", removed.id())).await.expect(204);
    let message = BTreeMap::from([
        (group.clone(), in_group["id"].as_str().unwrap().to_owned()),
        (direct_id.clone(), direct["id"].as_str().unwrap().to_owned()),
    ]);
    Scene {
        conversations: vec![group, direct_id],
        message,
        attachment: attachment["id"].as_str().unwrap().to_owned(),
        strangers: vec![("another user", stranger), ("a removed member", removed)],
        owner,
    }
}

fn fill(path: &str, scene: &Scene, conversation: &str) -> String {
    path.replace("{conversation}", conversation)
        .replace("{message}", &scene.message[conversation])
        .replace("{user}", scene.owner.id())
        .replace("{attachment}", &scene.attachment)
        .replace("{upload}", NONE)
        .replace("{session}", NONE)
}

async fn every_documented_route_has_a_row_and_every_row_a_route(cluster: &Cluster) {
    let mut rows: Vec<String> = table().into_iter().map(|(route, ..)| route.to_owned()).collect();
    let mut routes = documented(&cluster.client()).await;
    rows.sort();
    routes.sort();
    assert_eq!(routes, rows);
}

/// The client's own token as it will be in an hour: signed by the right key, and expired.
fn expired(cluster: &Cluster, client: &Client) -> String {
    let header = jsonwebtoken::decode_header(client.token()).unwrap();
    let mut claims: Value = jsonwebtoken::dangerous::insecure_decode(client.token()).unwrap().claims;
    let hour_ago = claims["iat"].as_u64().unwrap() - 3600;
    (claims["iat"], claims["exp"]) = (json!(hour_ago), json!(hour_ago + 900));
    let key = std::fs::read(cluster.data().join("signing-key.pem")).unwrap();
    jsonwebtoken::encode(&header, &claims, &jsonwebtoken::EncodingKey::from_ed_pem(&key).unwrap()).unwrap()
}

async fn a_route_that_needs_a_token_takes_no_other(cluster: &Cluster) {
    let scene = scene(cluster).await;
    let expired = expired(cluster, &scene.owner);
    let other_system = Cluster::all().await;
    let foreign = other_system.client().register("foreign").await;
    let (head, signature) = scene.owner.token().rsplit_once('.').unwrap();
    let tampered = format!("{head}.{}", signature.chars().rev().collect::<String>());
    for (route, access, body) in table() {
        if access == Public {
            continue;
        }
        let (method, path) = route.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        let path = fill(path, &scene, &scene.conversations[0]);
        let body = (!body.is_null()).then_some(body);
        let cases = [
            ("no token", scene.owner.with_token(None)),
            ("garbage", scene.owner.with_token(Some("garbage"))),
            ("a tampered token", scene.owner.with_token(Some(&tampered))),
            ("an expired token", scene.owner.with_token(Some(&expired))),
            ("a token of another system", scene.owner.with_token(Some(foreign.token()))),
        ];
        for (name, client) in cases {
            let answer = client.request(method.clone(), &path, body.clone()).await;
            assert_eq!(answer.status, 401, "{route} with {name}: {}", answer.text);
            assert!(answer.headers.contains_key("www-authenticate"), "{route} with {name}");
            assert!(!answer.text.contains(SECRET), "{route} with {name}");
        }
    }
}

/// A stranger's request about this conversation is answered like one about a conversation that is none.
async fn looks_like_nothing(scene: &Scene, conversation: &str, (route, body): (&str, Option<Value>)) {
    let (method, path) = route.split_once(' ').unwrap();
    let method: Method = method.parse().unwrap();
    let path = fill(path, scene, conversation);
    let of_none = path.replace(conversation, NONE).replace(&scene.attachment, NONE);
    for (name, stranger) in &scene.strangers {
        let answer = stranger.request(method.clone(), &path, body.clone()).await;
        assert_eq!(answer.status, 404, "{route} by {name}: {}", answer.text);
        assert!(!answer.text.contains(SECRET), "{route} by {name}: {}", answer.text);
        let nothing = stranger.request(method.clone(), &of_none, body.clone()).await;
        assert_eq!((nothing.status, &nothing.body), (404, &answer.body), "{route} by {name}");
    }
}

async fn no_stranger_reads_or_changes_a_conversation(cluster: &Cluster) {
    let scene = scene(cluster).await;
    let routes: Vec<_> = table().into_iter().filter(|(_, access, _)| *access == Members).collect();
    for conversation in &scene.conversations {
        for (route, _, body) in &routes {
            looks_like_nothing(&scene, conversation, (route, (!body.is_null()).then(|| body.clone()))).await;
        }
        assert_eq!(scene.owner.texts(conversation).await, [SECRET], "nothing was changed");
    }
}

async fn no_list_shows_a_stranger_what_is_not_its_own(cluster: &Cluster) {
    let scene = scene(cluster).await;
    eventually("the messages are counted", || async {
        let top = scene.owner.get("/v1/analytics/top-conversations").await.expect(200);
        (top["items"][0]["messages"] == 1).then_some(())
    })
    .await;
    for (route, access, body) in table() {
        // These name in their body or query of whom and whereto; their own tests send strangers there.
        let is_told_apart =
            ["GET /messages", "POST /messages", "POST /chatrooms/invite", "GET /v1/presence"].contains(&route);
        let is_end =
            is_told_apart || route.contains("logout") || route.starts_with("DELETE") || route.starts_with("GET /v1/ws");
        if access != SignedIn || is_end {
            continue;
        }
        let (method, path) = route.split_once(' ').unwrap();
        let path = fill(path, &scene, &scene.conversations[0]);
        let body = (!body.is_null()).then_some(body);
        for (name, stranger) in &scene.strangers {
            let answer = stranger.request(method.parse().unwrap(), &path, body.clone()).await;
            assert!((200..300).contains(&answer.status), "{route} by {name}: {}", answer.text);
            assert!(!answer.text.contains(SECRET), "{route} by {name}: {}", answer.text);
        }
    }
}

async fn what_is_a_users_own_is_nobody_elses(cluster: &Cluster) {
    let scene = scene(cluster).await;
    for (route, _, body) in table().into_iter().filter(|(_, access, _)| *access == Oneself) {
        let (method, path) = route.split_once(' ').unwrap();
        let path = fill(path, &scene, &scene.conversations[0]);
        for (name, stranger) in &scene.strangers {
            let body = (!body.is_null()).then(|| body.clone());
            let answer = stranger.request(method.parse().unwrap(), &path, body).await;
            assert_eq!(answer.status, 403, "{route} by {name}: {}", answer.text);
            assert!(!answer.text.contains(SECRET), "{route} by {name}: {}", answer.text);
        }
    }
    assert_eq!(scene.owner.get("/v1/users/me").await.expect(200)["name"], "owner");
}

async fn only_operators_grant_roles(cluster: &Cluster) {
    let operator = cluster.client().register("first").await;
    let other = cluster.client().register("second").await;
    let path = format!("/v1/users/{}/roles", other.id());
    other.put(&path, json!({"roles": ["operator"]})).await.expect(403);
    let granted = operator.put(&path, json!({"roles": ["analyst"]})).await.expect(200);
    assert_eq!(granted["roles"], json!(["analyst"]));
}

/// Everything that a stranger may try on a socket is refused, and a resume gives it nothing.
async fn tries_everything(socket: &mut Socket, conversation: &str, message: &str) {
    let frames = [
        json!({"type": "send", "ref": "1", "conversation": conversation, "text": "x"}),
        json!({"type": "edit", "ref": "1", "conversation": conversation, "message": message, "text": "x"}),
        json!({"type": "delete", "ref": "1", "conversation": conversation, "message": message}),
        json!({"type": "read", "ref": "1", "conversation": conversation, "seq": 1}),
        json!({"type": "typing", "ref": "1", "conversation": conversation}),
        json!({"type": "delivered", "ref": "1", "conversation": conversation, "seq": 1}),
    ];
    for frame in frames {
        socket.send(&frame).await;
        let answer = socket.next_of("error").await;
        assert_eq!(answer["code"], "not_found", "{frame} → {answer}");
    }
    socket.send(&json!({"type": "resume", "positions": {conversation: {"epoch": "00000000", "seq": 0}}})).await;
    loop {
        let frame = socket.next().await;
        assert!(!frame.to_string().contains(SECRET), "{frame}");
        assert_ne!(frame["type"], "event");
        if frame["type"] == "resumed" {
            return;
        }
    }
}

async fn a_stranger_on_the_socket_hears_and_changes_nothing(cluster: &Cluster) {
    let scene = scene(cluster).await;
    for (name, stranger) in &scene.strangers {
        let mut socket = stranger.connect().await;
        for conversation in &scene.conversations {
            tries_everything(&mut socket, conversation, &scene.message[conversation]).await;
            scene.owner.send(conversation, SECRET).await;
        }
        let heard = socket.frames_so_far().await;
        assert!(heard.iter().all(|frame| !frame.to_string().contains(SECRET)), "{name}: {heard:?}");
    }
}

async fn a_revoked_session_is_cut_off_at_once(cluster: &Cluster) {
    let ada = cluster.client().register("ada").await;
    let phone = cluster.other_client().log_in(ada.username()).await;
    let mut socket = phone.connect().await;
    phone.get("/v1/conversations").await.expect(200);
    let sessions = ada.get("/v1/sessions").await.expect(200);
    let own = ada.get("/v1/sessions").await.expect(200)["items"].as_array().unwrap().len();
    assert_eq!(own, 2, "{sessions}");
    let newest = sessions["items"][0]["id"].as_str().unwrap();
    ada.delete(&format!("/v1/sessions/{newest}")).await.expect(204);
    let close = loop {
        let frame = socket.next().await;
        if frame["type"] == "close" {
            break frame;
        }
    };
    assert_eq!(close["code"], 4401);
    eventually("the token is refused", || async { phone.get("/v1/conversations").await.is(401).then_some(()) }).await;
    phone.post("/v1/auth/refresh", json!({"refresh_token": phone.refresh_token()})).await.expect(401);
    assert!(Socket::try_open(phone.address(), Some(phone.token())).await.is_err());
    ada.get("/v1/conversations").await.expect(200);
}
