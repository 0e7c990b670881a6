//! Who asks too often, and from where.

use axum::body::Body;
use http::{Method, Request, header};
use serde_json::json;

use crate::tests::harness::{App, PASSWORD, Person, Reply, config};

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
        let request =
            Request::get("/.well-known/jwks.json").header("x-forwarded-for", format!("198.51.100.1, {address}"));
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

/// A log-in from an address.
async fn login_from(app: &App, address: &str, login: &str, password: &str) -> Reply {
    let body = json!({"login": login, "password": password}).to_string();
    let request = Request::post("/v1/auth/login").header("x-forwarded-for", address);
    app.send(request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body)).unwrap()).await
}

/// An edge behind a proxy that takes two wrong passwords for an account.
async fn app_that_takes_two_guesses() -> App {
    let mut config = config();
    (config.limits.wrong_passwords_per_minute_per_account, config.limits.trusted_proxies) = (2, 1);
    App::start_with(config).await
}

#[tokio::test]
async fn guesses_of_one_password_are_few_from_however_many_addresses() {
    let app = app_that_takes_two_guesses().await;
    app.register("ada").await;
    app.register("bob").await;
    for address in ["198.51.100.1", "198.51.100.2"] {
        login_from(&app, address, "Ada", "a guess of it").await.refusal(401);
    }
    let refused = login_from(&app, "198.51.100.3", "ada", "a guess of it").await;
    assert_eq!(refused.refusal(429), "too_many_requests");
    assert!(refused.headers.contains_key(header::RETRY_AFTER));
    let right = login_from(&app, "198.51.100.3", "ada", PASSWORD).await;
    assert_eq!(right.body, refused.body, "it does not show that the password is right");
    login_from(&app, "198.51.100.3", "bob", PASSWORD).await.expect(200);
}

#[tokio::test]
async fn guesses_of_strangers_do_not_keep_a_user_out_of_where_it_was_signed_in() {
    let app = app_that_takes_two_guesses().await;
    let ada = app.register("ada").await;
    login_from(&app, "192.0.2.7", "ada", PASSWORD).await.expect(200);
    for address in ["198.51.100.1", "198.51.100.2"] {
        login_from(&app, address, "ada", "a guess of it").await.refusal(401);
    }
    login_from(&app, "198.51.100.3", "ada", PASSWORD).await.refusal(429);
    for login in ["ada", "ada@example.org"] {
        login_from(&app, "192.0.2.7", login, PASSWORD).await.expect(200);
    }
    // A refresh shows as well where it is.
    let body = json!({"refresh_token": ada.refresh_token}).to_string();
    let request = Request::post("/v1/auth/refresh").header("x-forwarded-for", "192.0.2.8");
    let request = request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body)).unwrap();
    let ada = Person::from(app.send(request).await.expect(200));
    login_from(&app, "192.0.2.8", "ada", PASSWORD).await.expect(200);
    // There it may guess as often as everybody else.
    for _ in 0..2 {
        login_from(&app, "192.0.2.8", "ada", "a guess of it").await.refusal(401);
    }
    login_from(&app, "192.0.2.8", "ada", PASSWORD).await.refusal(429);
    app.get(&ada, "/v1/users/me").await.expect(200);
}

#[tokio::test]
async fn who_is_there_does_not_show_by_how_often_one_may_guess() {
    let app = app_that_takes_two_guesses().await;
    for _ in 0..2 {
        login_from(&app, "198.51.100.1", "nobody", "a guess of it").await.refusal(401);
    }
    login_from(&app, "198.51.100.1", "nobody", "a guess of it").await.refusal(429);
}

#[tokio::test]
async fn a_password_is_not_guessed_by_changing_it() {
    let app = app_that_takes_two_guesses().await;
    let ada = app.register("ada").await;
    let guess = json!({"password": "another horse", "current_password": "a guess of it"});
    for _ in 0..2 {
        app.patch(&ada, "/v1/users/me", guess.clone()).await.refusal(403);
    }
    app.patch(&ada, "/v1/users/me", guess).await.refusal(429);
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

#[tokio::test]
async fn probes_are_answered_however_often_they_come() {
    let mut config = config();
    (config.limits.requests_per_second_per_address, config.limits.request_burst_per_address) = (1, 1);
    let app = App::start_with(config).await;
    for _ in 0..100 {
        for path in ["/healthz", "/readyz"] {
            app.call(Method::GET, path, None, None).await.expect(200);
        }
    }
    // Nor do they take from what others may ask.
    app.call(Method::GET, "/.well-known/jwks.json", None, None).await.expect(200);
}
