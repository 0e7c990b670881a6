//! Who may not, on every route of the description: a new route is in these tests without a word.

use axum::body::Body;
use http::{Method, Request, header};
use serde_json::{Value, json};

use crate::tests::harness::{App, Person};

/// An operation of the description.
pub(crate) struct Operation {
    pub(crate) method: Method,
    /// With `{…}` for what stands in it.
    pub(crate) path: String,
    pub(crate) description: Value,
}

impl Operation {
    pub(crate) fn has_body(&self) -> bool {
        self.description.get("requestBody").is_some()
    }

    /// Whether its body is JSON, and nothing else.
    pub(crate) fn has_json_body(&self) -> bool {
        let content = &self.description["requestBody"]["content"];
        content.as_object().is_some_and(|types| types.contains_key("application/json") && types.len() == 1)
    }

    pub(crate) fn needs_token(&self) -> bool {
        let security = self.description["security"].as_array();
        security.is_some_and(|schemes| schemes.iter().any(|scheme| scheme.get("token").is_some()))
    }

    /// The path with something in the place of each parameter.
    pub(crate) fn filled(&self, conversation: &str, other: &str) -> String {
        let mut path = self.path.replace("{conversation}", conversation);
        while let Some((start, end)) = path.find('{').zip(path.find('}')) {
            path.replace_range(start..=end, other);
        }
        path
    }
}

/// All operations.
pub(crate) fn operations() -> Vec<Operation> {
    let description = serde_json::to_value(crate::openapi()).unwrap();
    let paths = description["paths"].as_object().unwrap();
    let mut found = Vec::new();
    for (path, item) in paths {
        for (method, description) in item.as_object().unwrap() {
            let method = method.to_uppercase().parse().unwrap();
            found.push(Operation { method, path: path.clone(), description: description.clone() });
        }
    }
    found
}

const NOBODY: &str = "01980a8e-6c00-7000-8a3b-5d2f1c9e7a40";

#[tokio::test]
async fn every_route_but_the_public_ones_wants_a_token() {
    let app = App::start().await;
    let ada = app.register("ada").await;
    let mut public = Vec::new();
    for operation in operations() {
        let path = operation.filled(NOBODY, NOBODY);
        if !operation.needs_token() {
            public.push(operation.path);
            continue;
        }
        for authorization in [None, Some("Bearer"), Some("Bearer x.y.z"), Some("Basic YTpi"), Some(ada.token.as_str())]
        {
            let request = Request::builder().method(operation.method.clone()).uri(&path);
            let request =
                authorization.iter().fold(request, |request, value| request.header(header::AUTHORIZATION, *value));
            let reply = app.send(request.body(Body::empty()).unwrap()).await;
            let status = reply.status.as_u16();
            assert_eq!(status, 401, "{} {path} {authorization:?}", operation.method);
            assert_eq!(reply.headers[header::WWW_AUTHENTICATE], "Bearer");
            reply.refusal(401);
        }
    }
    assert_eq!(
        public,
        [
            "/.well-known/jwks.json",
            "/asyncapi.json",
            "/auth/login",
            "/auth/register",
            "/docs",
            "/healthz",
            "/login",
            "/metrics",
            "/openapi.json",
            "/readyz",
            "/register",
            "/users",
            "/users",
            "/v1/auth/login",
            "/v1/auth/refresh",
            "/v1/auth/register"
        ]
    );
}

/// A body that passes as far as the membership.
fn body_for(operation: &Operation) -> Option<Value> {
    let body = match (operation.method.as_str(), operation.path.rsplit('/').next()) {
        _ if !operation.has_body() => return None,
        ("POST", Some("messages")) if operation.path.starts_with("/chatrooms/") => {
            json!({"data": [{"message_str": "x", "sender_user_id": NOBODY}]})
        }
        ("POST", Some("messages")) | ("PATCH", Some("{message}")) => json!({"text": "x"}),
        ("POST", Some("message")) => json!({"text": "x"}),
        ("POST", Some("add-user")) => json!({"userId": NOBODY}),
        ("POST", Some("members")) => json!({"users": [NOBODY]}),
        ("PUT", Some("read")) => json!({"seq": 1}),
        ("PATCH", Some("{conversation}")) => json!({"name": "x"}),
        other => panic!("tell here what to send to {other:?}"),
    };
    Some(body)
}

#[tokio::test]
async fn to_a_stranger_and_a_removed_member_a_group_looks_as_if_there_were_none() {
    let app = App::start().await;
    let (ada, bob, mallory) = (app.register("ada").await, app.register("bob").await, app.register("mallory").await);
    let group = app.group("engines", &[&ada, &bob]).await;
    let message = app.say(&ada, &group, "secret").await["id"].as_str().unwrap().to_owned();
    app.delete(&ada, &format!("/v1/conversations/{group}/members/{}", bob.id)).await.expect(204);
    let between_others =
        if ada.id < bob.id { format!("{}~{}", ada.id, bob.id) } else { format!("{}~{}", bob.id, ada.id) };
    app.say(&ada, &between_others, "secret").await;
    app.ingest().await;

    let of_conversations = operations().into_iter().filter(|operation| operation.path.contains("{conversation}"));
    for operation in of_conversations {
        let answer = async |person: &Person, conversation: &str| {
            let path = operation.filled(conversation, &message);
            app.call(operation.method.clone(), &path, Some(person), body_for(&operation)).await
        };
        let none = answer(&mallory, NOBODY).await;
        assert_eq!(none.refusal(404), "not_found", "{} {}", operation.method, operation.path);
        for (person, conversation) in [(&mallory, &group), (&bob, &group), (&mallory, &between_others)] {
            let refused = answer(person, conversation).await;
            assert_eq!(
                (refused.status, &refused.body),
                (none.status, &none.body),
                "{} {}",
                operation.method,
                operation.path
            );
        }
    }
}
