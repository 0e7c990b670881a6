//! Whatever is sent, the answer is a clear 4xx or a close code with a reason: never a 5xx, never a panic, and
//! the server goes on.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Answer, Client, Cluster, Socket, scenarios};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

scenarios!(
    no_body_on_any_route_gets_a_5xx,
    no_path_gets_a_5xx,
    no_query_gets_a_5xx,
    a_malformed_frame_gets_an_error_and_the_socket_goes_on,
    a_frame_that_breaks_the_protocol_is_closed_with_a_reason,
    a_client_that_sends_only_nonsense_is_cut_off,
    a_handshake_that_is_none_is_refused,
);

/// Bodies that no route may choke on.
fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(50_000), close.repeat(50_000)).into_bytes();
    vec![
        ("nothing", Vec::new()),
        ("no JSON", b"hello".to_vec()),
        ("half an object", b"{\"text\":\"x".to_vec()),
        ("an array", b"[]".to_vec()),
        ("null", b"null".to_vec()),
        ("a number", b"1e999".to_vec()),
        ("an unknown field", json!({"surprise": 1}).to_string().into_bytes()),
        ("deep arrays", deep("[", "]")),
        ("deep objects", deep("{\"text\":", "}")),
        ("bad UTF-8", b"{\"text\":\"\xff\xfe\"}".to_vec()),
        ("half a surrogate", b"{\"text\":\"\\ud800\"}".to_vec()),
        ("a byte-order mark", b"\xef\xbb\xbf{}".to_vec()),
        ("zero bytes", vec![0; 1000]),
        ("two objects", b"{}{}".to_vec()),
        ("a huge body", format!("{{\"text\":\"{}\"}}", "x".repeat(2_000_000)).into_bytes()),
    ]
}

/// A field's values that are wrong for every field there is.
fn wrong_values() -> Vec<Value> {
    vec![
        json!(null),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!(true),
        json!([]),
        json!({}),
        json!(""),
        json!("\u{0}\u{1b}[31m"),
        json!("x".repeat(100_000)),
        json!("../../etc/passwd"),
        json!("\u{202e}\u{feff}"),
        json!("00000000-0000-0000-0000-000000000000"),
        json!([1, "x", null]),
        json!(["x"]),
    ]
}

/// It is taken, or refused as it should be.
fn assert_clear(answer: &Answer, what: &str) {
    if !(200..400).contains(&answer.status) {
        assert_refused(answer, what);
    }
}

fn assert_refused(answer: &Answer, what: &str) {
    assert!((400..500).contains(&answer.status), "{what}: {} {}", answer.status, answer.text);
    let content_type = answer.headers.get("content-type").and_then(|value| value.to_str().ok());
    assert_eq!(content_type, Some("application/problem+json"), "{what}");
    assert_eq!(answer.body["status"], answer.status, "{what}: {}", answer.text);
    for field in ["type", "title", "code", "detail"] {
        assert!(answer.body[field].is_string(), "{what}: {field} in {}", answer.text);
    }
}

/// A route of the document that takes a body, and the names of the body's fields.
struct Route {
    method: Method,
    path: String,
    fields: Vec<String>,
}

/// The routes of the document that take a body, with the path's parameters filled in.
fn routes(document: &Value, group: &str, message: &str, user: &str) -> Vec<Route> {
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().expect("the document has paths") {
        let fill = [("{conversation}", group), ("{message}", message), ("{user}", user), ("{session}", message)];
        let path = fill.iter().fold(path.clone(), |path, (name, value)| path.replace(name, value));
        routes.extend([Method::POST, Method::PUT, Method::PATCH].into_iter().filter_map(|method| {
            let operation = item.get(method.as_str().to_lowercase())?;
            let schema = operation.pointer("/requestBody/content/application~1json/schema")?;
            Some(Route { method, path: path.clone(), fields: fields(document, schema) })
        }));
    }
    assert!(routes.len() > 8, "the document describes bodies");
    routes
}

/// The names of a schema's fields, through references and alternatives.
fn fields(document: &Value, schema: &Value) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).expect("references lead somewhere");
        return fields(document, target);
    }
    let mut names: Vec<String> =
        schema["properties"].as_object().map(|properties| properties.keys().cloned().collect()).unwrap_or_default();
    for list in ["oneOf", "allOf", "anyOf"] {
        for part in schema[list].as_array().into_iter().flatten() {
            names.extend(fields(document, part));
        }
    }
    names
}

async fn scene(cluster: &Cluster) -> (Client, String, String) {
    let ada = cluster.client().register("ada").await;
    let group = ada.create_group("rooks", &[]).await;
    let message = ada.send(&group, "x").await["id"].as_str().unwrap().to_owned();
    (ada, group, message)
}

async fn no_body_is_too_much(client: &Client, route: &Route) {
    let Route { method, path, .. } = route;
    for (name, body) in bodies() {
        let answer = client.send_bytes(method.clone(), path, "application/json", Some(body)).await;
        // A server may close the connection on a body that it will not read to its end.
        let cut = answer.status == 0 && name == "a huge body";
        let empty_is_fine = name == "nothing" && (200..300).contains(&answer.status);
        if !cut && !empty_is_fine {
            assert_refused(&answer, &format!("{method} {path} with {name}"));
        }
    }
    let answer = client.send_bytes(method.clone(), path, "text/plain", Some(b"{}".to_vec())).await;
    assert_eq!(answer.status, 415, "{method} {path} with text/plain: {}", answer.text);
}

async fn no_value_is_too_much(client: &Client, route: &Route, field: &str) {
    let Route { method, path, .. } = route;
    for value in wrong_values() {
        let body = json!({ field: value });
        let short: String = body.to_string().chars().take(80).collect();
        let answer = client.request(method.clone(), path, Some(body)).await;
        assert_clear(&answer, &format!("{method} {path} with {short}"));
    }
}

async fn no_body_on_any_route_gets_a_5xx(cluster: &Cluster) {
    let (ada, group, message) = scene(cluster).await;
    let document = ada.get("/openapi.json").await.expect(200);
    for route in routes(&document, &group, &message, ada.id()) {
        no_body_is_too_much(&ada, &route).await;
        for field in &route.fields {
            no_value_is_too_much(&ada, &route, field).await;
        }
    }
    ada.get("/readyz").await.expect(200);
}

async fn no_path_gets_a_5xx(cluster: &Cluster) {
    let (ada, group, message) = scene(cluster).await;
    let document = ada.get("/openapi.json").await.expect(200);
    let long = "a".repeat(5000);
    let ids = ["x", "-1", "%00", "%ff%fe", "..%2f..", "@", "@x", "~", "00000000-0000-0000-0000-000000000000", &long];
    let parameters = ["{conversation}", "{message}", "{user}", "{session}"];
    let mut requests = Vec::new();
    for (template, item) in document["paths"].as_object().unwrap() {
        let methods = ["GET", "DELETE"].into_iter().filter(|method| item.get(method.to_lowercase()).is_some());
        let present = parameters.iter().filter(|parameter| template.contains(**parameter));
        let wrong: Vec<String> =
            present.flat_map(|parameter| ids.iter().map(move |id| template.replace(parameter, id))).collect();
        let (group, message) = (&group, &message);
        let fill = move |path: &String| path.replace("{conversation}", group).replace("{message}", message);
        requests.extend(methods.flat_map(|method| wrong.iter().map(move |path| (method, fill(path)))));
    }
    for (method, path) in requests {
        let path = path.replace("{user}", ada.id());
        let answer = ada.request(method.parse().unwrap(), &path, None).await;
        assert_refused(&answer, &format!("{method} {path}"));
    }
    for (method, path) in [("GET", "/nowhere"), ("PATCH", "/v1/conversations"), ("GET", "/v1"), ("DELETE", "/healthz")]
    {
        let answer = ada.request(method.parse().unwrap(), path, None).await;
        assert_refused(&answer, &format!("{method} {path}"));
    }
}

async fn no_query_gets_a_5xx(cluster: &Cluster) {
    let (ada, group, message) = scene(cluster).await;
    let document = ada.get("/openapi.json").await.expect(200);
    let values =
        ["", "x", "-1", "0", "101", "1e9", "99999999999999999999", "%00", "%ff", "%zz", "1&limit=2", "2026-13-99"];
    let mut queries = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace("{conversation}", &group).replace("{message}", &message).replace("{user}", ada.id());
        let parameters = item["get"]["parameters"].as_array().into_iter().flatten();
        let names =
            parameters.filter(|parameter| parameter["in"] == "query").filter_map(|named| named["name"].as_str());
        queries.extend(names.map(|name| format!("{path}?{name}=")));
    }
    for query in queries {
        for value in values {
            let answer = ada.get(&format!("{query}{value}&timeout=0")).await;
            assert_clear(&answer, &format!("GET {query}{value}"));
        }
    }
}

/// Frames that are answered with an error while the socket stays open.
fn frames(group: &str) -> Vec<String> {
    let mut frames: Vec<String> = [
        "hello",
        "[]",
        "null",
        "1",
        "{}",
        "{\"type\":1}",
        "{\"type\":\"surprise\"}",
        "{\"type\":\"send\"}",
        "\"\"",
        "{{{",
    ]
    .map(str::to_owned)
    .into();
    let short = wrong_values().into_iter().filter(|value| value.to_string().len() < 50_000);
    // No positions, no image, no mentions are no error.
    for value in short.filter(|value| !value.is_null()) {
        if value != json!({}) {
            frames.push(json!({"type": "resume", "positions": value}).to_string());
        }
        let fields = ["conversation", "id", "kind", "image", "mentions", "reply_to"];
        frames.extend(fields.into_iter().filter(|_| value != json!([])).map(|field| {
            let mut frame = json!({"type": "send", "ref": "x", "conversation": group, "text": "x"});
            frame[field] = value.clone();
            frame.to_string()
        }));
    }
    frames.push(json!({"type": "send", "ref": "x", "conversation": group, "text": "x", "surprise": 1}).to_string());
    frames.push(json!({"type": "send", "ref": "x", "conversation": group, "text": ""}).to_string());
    frames.push(json!({"type": "send", "ref": "x", "conversation": group, "text": "\u{0}"}).to_string());
    frames.push(format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000)));
    frames
}

async fn a_malformed_frame_gets_an_error_and_the_socket_goes_on(cluster: &Cluster) {
    let (ada, group, _) = scene(cluster).await;
    let mut socket = ada.connect().await;
    for (n, frame) in frames(&group).into_iter().enumerate() {
        // A client that sends nothing but nonsense is cut off in the end: each socket gets a few only.
        if n % 5 == 0 {
            socket.close().await;
            socket = ada.connect().await;
        }
        let short: String = frame.chars().take(200).collect();
        socket.send_raw(Message::text(frame)).await.unwrap();
        let answer = socket.next_of("error").await;
        assert!(answer["code"].is_string() && answer["detail"].is_string(), "{short}: {answer}");
        assert!(!["internal", "unavailable"].contains(&answer["code"].as_str().unwrap()), "{short}: {answer}");
    }
    assert_eq!(ada.texts(&group).await, ["x"], "nothing of it was stored");
    socket.send_text(&group, "still here").await;
}

/// What a socket is closed with after this frame.
async fn close_code(client: &Client, message: Message) -> u64 {
    let mut socket = Socket::open(client.address(), client.token()).await;
    drop(socket.send_raw(message).await);
    loop {
        let frame = socket.next().await;
        if frame["type"] == "close" {
            assert!(!frame["reason"].as_str().unwrap().is_empty(), "a close says why: {frame}");
            return frame["code"].as_u64().unwrap();
        }
        assert_ne!(frame["type"], "broken", "a close frame comes first");
    }
}

async fn a_frame_that_breaks_the_protocol_is_closed_with_a_reason(cluster: &Cluster) {
    let (ada, _, _) = scene(cluster).await;
    assert_eq!(close_code(&ada, Message::text("x".repeat(400_000))).await, 1009);
    assert_eq!(close_code(&ada, Message::binary(vec![1, 2, 3])).await, 1003);
    let bad_text = Frame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true);
    assert_eq!(close_code(&ada, Message::Frame(bad_text)).await, 1007);
    let reserved = Frame::message(vec![1], OpCode::Data(Data::Reserved(3)), true);
    assert_eq!(close_code(&ada, Message::Frame(reserved)).await, 1002);
    ada.get("/readyz").await.expect(200);
}

async fn a_client_that_sends_only_nonsense_is_cut_off(cluster: &Cluster) {
    let (ada, _, _) = scene(cluster).await;
    let mut socket = ada.connect().await;
    for _ in 0..1000 {
        if socket.send_raw(Message::text("nonsense")).await.is_err() {
            break;
        }
    }
    let close = loop {
        let frame = socket.next().await;
        if frame["type"] != "error" {
            break frame;
        }
    };
    assert_eq!(close["code"], 1008, "{close}");
}

async fn a_handshake_that_is_none_is_refused(cluster: &Cluster) {
    let (ada, _, _) = scene(cluster).await;
    let plain = ada.get("/v1/ws").await;
    assert_refused(&plain, "GET /v1/ws without an upgrade");
    let stranger = ada.with_token(None);
    assert!(Socket::try_open(stranger.address(), None).await.is_err());
    assert!(Socket::try_open(stranger.address(), Some("garbage")).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_answer_429_with_a_time_to_wait() {
    let cluster = Cluster::with(|config| {
        config.edge.limits.requests_per_second_per_user = 1;
        config.edge.limits.request_burst_per_user = 5;
        config.edge.limits.connections_per_user = 2;
    })
    .await;
    let ada = cluster.client().register("ada").await;
    // All at once: one after the other they might come no faster than they are allowed to.
    let answers = join_all((0..40).map(|_| ada.get("/v1/conversations"))).await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.is(429)).collect();
    assert!(!refused.is_empty() && answers.iter().any(|answer| answer.is(200)), "{answers:?}");
    assert_refused(refused[0], "too many requests");
    assert!(refused[0].headers.contains_key("retry-after"));
    let ben = cluster.client().register("ben").await;
    ben.get("/v1/conversations").await.expect(200);
    let (_one, _two) = (ben.connect().await, ben.connect().await);
    let mut third = Socket::try_open(ben.address(), Some(ben.token())).await.expect("the handshake passes");
    let close = loop {
        let frame = third.next().await;
        if frame["type"] == "close" {
            break frame;
        }
    };
    assert_eq!(close["code"], 4429);
}
