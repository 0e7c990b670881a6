//! Who asks too often, and from where.

use axum::body::Body;
use http::{Method, Request, header};
use serde_json::json;

use crate::tests::harness::{App, Reply, config};

/// The first refusal. A slow machine may be given a little more than the burst.
async fn refusal(ask: impl AsyncFn() -> Reply) -> Reply {
    for _ in 0..1_000 {
        let reply = ask().await;
        if !reply.status.is_success() {
            return reply;
        }
    }
    panic!("nothing was refused");
}

#[tokio::test]
async fn a_user_who_asks_too_often_has_to_wait_and_others_do_not() {
    let mut config = config();
    (config.limits.requests_per_second_per_user, config.limits.request_burst_per_user) = (1, 3);
    let app = App::start_with(config).await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    for _ in 0..3 {
        app.get(&ada, "/v1/users/me").await.expect(200);
    }
    let refused = refusal(async || app.get(&ada, "/v1/users/me").await).await;
    assert_eq!(refused.refusal(429), "too_many_requests");
    assert_eq!(refused.headers[header::RETRY_AFTER], "1");
    app.get(&bob, "/v1/users/me").await.expect(200);
}

#[tokio::test]
async fn strangers_of_one_address_share_a_limit_that_users_do_not() {
    let mut config = config();
    (config.limits.requests_per_second_per_address, config.limits.request_burst_per_address) = (1, 4);
    config.limits.trusted_proxies = 1;
    let app = App::start_with(config).await;
    let ada = app.register("ada").await;
    let from = async |address: &str| {
        let request = Request::get("/healthz").header("x-forwarded-for", format!("198.51.100.1, {address}"));
        app.send(request.body(Body::empty()).unwrap()).await
    };
    for _ in 0..4 {
        from("192.0.2.1").await.expect(200);
    }
    refusal(async || from("192.0.2.1").await).await.refusal(429);
    from("192.0.2.2").await.expect(200);
    for _ in 0..10 {
        app.get(&ada, "/v1/users/me").await.expect(200);
    }
}

#[tokio::test]
async fn other_origins_may_call_only_where_the_operator_says_so() {
    let preflight = async |app: &App, origin: &str| {
        let request = Request::builder()
            .method(Method::OPTIONS)
            .uri("/v1/users/me")
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "PATCH")
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,content-type");
        app.send(request.body(Body::empty()).unwrap()).await.headers
    };
    let closed = App::start().await;
    assert!(!preflight(&closed, "https://chat.example.org").await.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));

    let mut config = config();
    config.cors.allowed_origins = vec!["https://chat.example.org".into()];
    let open = App::start_with(config).await;
    let headers = preflight(&open, "https://chat.example.org").await;
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://chat.example.org");
    assert!(!preflight(&open, "https://evil.example.org").await.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
}

#[tokio::test]
async fn a_request_keeps_its_name_and_no_answer_is_kept() {
    let app = App::start().await;
    let ada = app.register("ada").await;
    let named = Request::get("/healthz").header("x-request-id", "mine-7").body(Body::empty()).unwrap();
    assert_eq!(app.send(named).await.headers["x-request-id"], "mine-7");
    let too_long = Request::get("/healthz").header("x-request-id", "x".repeat(65)).body(Body::empty()).unwrap();
    assert_eq!(app.send(too_long).await.headers["x-request-id"].len(), 36);
    let reply = app.post(&ada, "/v1/conversations", json!({})).await;
    assert_eq!(reply.headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(reply.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
}
