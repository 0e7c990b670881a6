//! What no client should send, on every route of the description: always 4xx, always in the API's form.

use axum::body::Body;
use http::{Method, Request, header};
use serde_json::json;

use crate::tests::harness::{App, Person, Reply, config};
use crate::tests::strangers::operations;

async fn send(app: &App, person: &Person, request: http::request::Builder, body: impl Into<Body>) -> Reply {
    let request = request.header(header::AUTHORIZATION, format!("Bearer {}", person.token));
    app.send(request.body(body.into()).unwrap()).await
}

async fn patient() -> (App, Person, String) {
    let mut config = config();
    config.limits.request_burst_per_user = 10_000;
    let app = App::start_with(config).await;
    let ada = app.register("ada").await;
    let group = app.group("engines", &[&ada]).await;
    (app, ada, group)
}

#[tokio::test]
async fn every_body_is_looked_at_closely() {
    let (app, ada, group) = patient().await;
    let message = app.say(&ada, &group, "hello").await["id"].as_str().unwrap().to_owned();
    let deep = format!("{{\"text\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let large = format!("{{\"text\":\"{}\"}}", "x".repeat(300 * 1024));
    let bodies: [(&[u8], u16); 13] = [
        (b"", 400),
        (b"{", 400),
        (b"{} {}", 0),
        (b"{\"\xff\xfe\":1}", 400),
        (b"{\"\\ud800\":1}", 400),
        (b"nonsense", 400),
        (deep.as_bytes(), 0),
        (b"7", 422),
        (b"null", 422),
        (b"[]", 422),
        (b"[[[[", 422),
        (b"{\"nonsense\":1}", 422),
        (large.as_bytes(), 413),
    ];
    let mut seen = 0;
    for operation in operations().into_iter().filter(|operation| operation.has_json_body()) {
        let target = if operation.path.contains("{message}") { &message } else { &ada.id };
        let path = operation.filled(&group, target);
        for (body, status) in bodies {
            let request = Request::builder().method(operation.method.clone()).uri(&path);
            let request = request.header(header::CONTENT_TYPE, "application/json");
            let reply = send(&app, &ada, request, body.to_vec()).await;
            let start = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            assert!(reply.status.is_client_error(), "{} {path} {start}: {}", operation.method, reply.status);
            assert!(status == 0 || reply.status == status, "{} {path} {start}: {}", operation.method, reply.status);
            reply.refusal(reply.status.as_u16());
        }
        seen += 1;
    }
    assert!(seen >= 11, "{seen}");
}

#[tokio::test]
async fn a_body_must_be_called_json() {
    let (app, ada, group) = patient().await;
    let message = app.say(&ada, &group, "hello").await["id"].as_str().unwrap().to_owned();
    for operation in operations().into_iter().filter(|operation| operation.has_json_body()) {
        let target = if operation.path.contains("{message}") { &message } else { &ada.id };
        let path = operation.filled(&group, target);
        let types = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json", ""];
        for content_type in types {
            let request = Request::builder().method(operation.method.clone()).uri(&path);
            let request = request.header(header::CONTENT_TYPE, content_type);
            assert_eq!(send(&app, &ada, request, "{}").await.refusal(415), "unsupported_type", "{path} {content_type}");
        }
        let request = Request::builder().method(operation.method.clone()).uri(&path);
        assert_eq!(send(&app, &ada, request, "{}").await.refusal(415), "unsupported_type", "{path}");
    }
}

#[tokio::test]
async fn a_body_without_a_length_is_bounded_too() {
    let (app, ada, group) = patient().await;
    let pieces = (0..400).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1024]));
    let body = Body::from_stream(futures_util::stream::iter(pieces));
    let request = Request::post(format!("/v1/conversations/{group}/messages"));
    let request = request.header(header::CONTENT_TYPE, "application/json");
    assert_eq!(send(&app, &ada, request, body).await.refusal(413), "too_large");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_the_clients_fault() {
    let (app, ada, group) = patient().await;
    let pieces = [Ok(b"{".to_vec()), Err(std::io::Error::other("gone"))];
    let body = Body::from_stream(futures_util::stream::iter(pieces));
    let request = Request::post(format!("/v1/conversations/{group}/messages"));
    let request = request.header(header::CONTENT_TYPE, "application/json");
    assert_eq!(send(&app, &ada, request, body).await.refusal(400), "malformed");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let mut config = config();
    config.limits.body_seconds = 0;
    let app = App::start_with(config).await;
    let ada = app.register("ada").await;
    let group = app.group("engines", &[&ada]).await;
    let body = Body::from_stream(futures_util::stream::pending::<std::io::Result<Vec<u8>>>());
    let request = Request::post(format!("/v1/conversations/{group}/messages"));
    let request = request.header(header::CONTENT_TYPE, "application/json");
    assert_eq!(send(&app, &ada, request, body).await.refusal(408), "too_slow");
}

#[tokio::test]
async fn an_id_in_a_path_that_is_none_is_not_found() {
    let (app, ada, group) = patient().await;
    let upper = group.to_uppercase();
    let doubled = format!("{group}~{group}~{group}");
    let backwards = format!("{}~{}", ada.id, "00000000-0000-7000-8000-000000000000");
    let long = "x".repeat(4_000);
    let bad = ["x", "%00", "%ff%fe", "..%2f..%2fetc", "-1", "@", "@x", "~", "a~b", &upper, &doubled, &backwards, &long];
    for operation in
        operations().into_iter().filter(|operation| operation.path.contains('{') && !operation.has_json_body())
    {
        for id in bad {
            let path = operation.filled(id, id);
            let reply = send(&app, &ada, Request::builder().method(operation.method.clone()).uri(&path), "").await;
            assert_eq!(reply.refusal(404), "not_found", "{} {path}", operation.method);
        }
    }
}

#[tokio::test]
async fn a_query_is_looked_at_closely() {
    let (app, ada, group) = patient().await;
    let lists = operations().into_iter().filter(|operation| {
        let parameters = operation.description["parameters"].as_array();
        parameters.is_some_and(|parameters| parameters.iter().any(|parameter| parameter["name"] == "limit"))
    });
    let mut seen = 0;
    for operation in lists {
        let path = operation.filled(&group, &ada.id);
        for query in [
            "limit=0",
            "limit=-1",
            "limit=101",
            "limit=1e3",
            "limit=99999999999999999999",
            "limit=",
            "limit=1&limit=1",
            "limit=%00",
            "limit=%ff",
            "nonsense=1",
        ] {
            let reply = app.get(&ada, &format!("{path}?{query}")).await;
            assert_eq!(reply.refusal(422), "invalid", "{path}?{query}");
        }
        let takes_cursor = operation.description["parameters"].to_string().contains("\"cursor\"");
        let cursors: [&str; 5] = ["x", "%00", "e30", "bnVsbA", &"A".repeat(5_000)];
        for cursor in cursors.into_iter().filter(|_| takes_cursor) {
            let reply = app.get(&ada, &format!("{path}?cursor={cursor}")).await;
            assert_eq!(reply.refusal(422), "invalid", "{path}?cursor={cursor}");
        }
        seen += 1;
    }
    assert!(seen >= 9, "{seen}");
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_like_any_other() {
    let (app, ada, _) = patient().await;
    for path in
        ["/nothing", "/v1", "/v1/", "/v1/nothing", "/v1/users/", "/web/nothing.js", "/web/..%2fCargo.toml", "//"]
    {
        assert_eq!(app.get(&ada, path).await.refusal(404), "not_found", "{path}");
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let (app, ada, _) = patient().await;
    let refused = app.call(Method::PUT, "/v1/conversations", Some(&ada), Some(json!({}))).await;
    assert_eq!(refused.refusal(405), "method_not_allowed");
    assert_eq!(refused.headers[header::ALLOW], "GET,HEAD,POST");
    let options = app.call(Method::OPTIONS, "/v1/conversations", None, None).await;
    assert_eq!((options.status.as_u16(), &options.headers[header::ALLOW]), (204, &"GET,HEAD,POST".parse().unwrap()));
    let head = app.call(Method::HEAD, "/v1/conversations", Some(&ada), None).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    let invented = Method::from_bytes(b"INVENTED").unwrap();
    assert_eq!(app.call(invented, "/v1/conversations", Some(&ada), None).await.refusal(405), "method_not_allowed");
}
