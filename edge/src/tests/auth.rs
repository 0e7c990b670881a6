//! Signing up, in and out.

use http::Method;
use insta::assert_json_snapshot;
use serde_json::json;

use crate::tests::harness::{App, PASSWORD, Person, config, stable, texts};

#[tokio::test]
async fn whoever_registers_is_signed_in() {
    let app = App::start().await;
    let body = json!({"username": "Ada", "email": "ada@example.org", "password": PASSWORD, "name": "Ada Lovelace"});
    let session = app.call(Method::POST, "/v1/auth/register", None, Some(body)).await.expect(201);
    assert_json_snapshot!(stable(&session));
    let ada = Person::from(session);
    assert_eq!(app.get(&ada, "/v1/users/me").await.expect(200)["username"], "Ada");
}

#[tokio::test]
async fn only_the_first_user_becomes_operator_and_analyst() {
    let app = App::start().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    assert_eq!(app.get(&ada, "/v1/users/me").await.json()["roles"], json!(["operator", "analyst"]));
    assert_eq!(app.get(&bob, "/v1/users/me").await.json()["roles"], json!([]));
}

#[tokio::test]
async fn a_user_name_and_an_email_address_are_given_once_without_regard_to_case() {
    let app = App::start().await;
    app.register("ada").await;
    for (username, email, code) in
        [("ADA", "other@example.org", "username_taken"), ("other", "Ada@Example.org", "email_taken")]
    {
        let body = json!({"username": username, "email": email, "password": PASSWORD});
        assert_eq!(app.call(Method::POST, "/v1/auth/register", None, Some(body)).await.refusal(409), code);
    }
}

#[tokio::test]
async fn every_fault_of_a_registration_is_told() {
    let app = App::start().await;
    let body = json!({"username": "a b", "email": "nowhere", "password": "short", "name": "a\u{0}b"});
    let problem = app.call(Method::POST, "/v1/auth/register", None, Some(body)).await.expect(422);
    assert_json_snapshot!(stable(&problem));
}

#[tokio::test]
async fn one_signs_in_by_user_name_or_email_address() {
    let app = App::start().await;
    let ada = app.register("ada").await;
    for login in ["ada", "ADA", "ada@example.org", "Ada@Example.org"] {
        let session = app.login(login, PASSWORD).await.expect(200);
        assert_eq!(session["user"]["id"], ada.id, "{login}");
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_look_alike() {
    let app = App::start().await;
    app.register("ada").await;
    let wrong = app.login("ada", "another horse").await;
    for (login, password) in
        [("nobody", PASSWORD), ("ada", ""), ("ada", &"x".repeat(100_000)), ("", ""), ("a\u{0}", "x")]
    {
        let other = app.login(login, password).await;
        assert_eq!(other.refusal(401), "wrong_credentials");
        assert_eq!(other.body, wrong.body);
    }
    assert_eq!(wrong.headers["www-authenticate"], "Bearer");
}

async fn refresh(app: &App, token: &str) -> crate::tests::harness::Reply {
    app.call(Method::POST, "/v1/auth/refresh", None, Some(json!({"refresh_token": token}))).await
}

#[tokio::test]
async fn a_refresh_token_is_exchanged_for_the_next() {
    let app = App::start().await;
    let ada = app.register("ada").await;
    let next = Person::from(refresh(&app, &ada.refresh_token).await.expect(200));
    assert_ne!(next.refresh_token, ada.refresh_token);
    let last = Person::from(refresh(&app, &next.refresh_token).await.expect(200));
    app.get(&last, "/v1/users/me").await.expect(200);
}

#[tokio::test]
async fn a_refresh_whose_answer_was_lost_is_repeated() {
    let app = App::start().await;
    let ada = app.register("ada").await;
    let lost = Person::from(refresh(&app, &ada.refresh_token).await.expect(200));
    let next = Person::from(refresh(&app, &ada.refresh_token).await.expect(200));
    assert_ne!(next.refresh_token, lost.refresh_token);
    app.get(&next, "/v1/users/me").await.expect(200);
    let last = Person::from(refresh(&app, &next.refresh_token).await.expect(200));
    app.get(&last, "/v1/users/me").await.expect(200);
    // Who got the answer after all is not who repeated the request.
    assert_eq!(refresh(&app, &lost.refresh_token).await.refusal(401), "session_reused");
    assert_eq!(app.get(&last, "/v1/users/me").await.refusal(401), "unauthenticated");
}

#[tokio::test]
async fn a_refresh_token_that_comes_three_times_ends_its_session_at_once() {
    let app = App::start().await;
    let ada = app.register("ada").await;
    let other_session = Person::from(app.login("ada", PASSWORD).await.expect(200));
    refresh(&app, &ada.refresh_token).await.expect(200);
    let next = Person::from(refresh(&app, &ada.refresh_token).await.expect(200));
    assert_eq!(refresh(&app, &ada.refresh_token).await.refusal(401), "session_reused");
    assert_eq!(app.get(&next, "/v1/users/me").await.refusal(401), "unauthenticated");
    refresh(&app, &next.refresh_token).await.refusal(401);
    app.get(&other_session, "/v1/users/me").await.expect(200);
}

#[tokio::test]
async fn what_is_no_refresh_token_is_refused() {
    let app = App::start().await;
    let ada = app.register("ada").await;
    let session = ada.refresh_token.split_once('.').unwrap().0;
    let invented = format!("{session}.{}", "A".repeat(43));
    let unknown = format!("01980a8e-6c00-7000-8a3b-5d2f1c9e7a40.{}", "A".repeat(43));
    for token in ["", "x", ".", session, unknown.as_str()] {
        assert_eq!(refresh(&app, token).await.refusal(401), "unauthenticated", "{token}");
    }
    refresh(&app, &invented).await.refusal(401);
}

#[tokio::test]
async fn who_logs_out_is_out_at_once() {
    let app = App::start().await;
    let ada = app.register("ada").await;
    let other_session = Person::from(app.login("ada", PASSWORD).await.expect(200));
    app.call(Method::POST, "/v1/auth/logout", Some(&ada), None).await.expect(204);
    assert_eq!(app.get(&ada, "/v1/users/me").await.refusal(401), "unauthenticated");
    refresh(&app, &ada.refresh_token).await.refusal(401);
    app.get(&other_session, "/v1/users/me").await.expect(200);
}

#[tokio::test]
async fn sessions_are_listed_and_ended() {
    let app = App::start().await;
    let (first, bob) = (app.register("ada").await, app.register("bob").await);
    let second = Person::from(app.login("ada", PASSWORD).await.expect(200));
    let list = app.get(&second, "/v1/sessions").await.expect(200);
    assert_json_snapshot!(stable(&list));
    let ids = texts(&list, "id");

    let page = app.get(&second, "/v1/sessions?limit=1").await.expect(200);
    assert_eq!(texts(&page, "id"), ids[..1]);
    let next = page["next"].as_str().unwrap();
    let page = app.get(&second, &format!("/v1/sessions?limit=1&cursor={next}")).await.expect(200);
    assert_eq!((texts(&page, "id"), page["next"].is_null()), (ids[1..].to_vec(), true));

    let path = format!("/v1/sessions/{}", ids[1]);
    app.delete(&bob, &path).await.refusal(404);
    app.get(&first, "/v1/users/me").await.expect(200);
    app.delete(&second, &path).await.expect(204);
    app.get(&first, "/v1/users/me").await.refusal(401);
    app.delete(&second, &path).await.refusal(404);
}

#[tokio::test]
async fn too_many_sign_ins_from_one_address_have_to_wait() {
    let mut config = config();
    config.limits.sign_ins_per_minute_per_address = 2;
    let app = App::start_with(config).await;
    app.register("ada").await;
    app.login("ada", PASSWORD).await.expect(200);
    let refused = app.login("ada", PASSWORD).await;
    assert_eq!(refused.refusal(429), "too_many_requests");
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() >= 1);
}

#[tokio::test]
async fn refreshes_are_no_sign_ins() {
    let mut config = config();
    config.limits.sign_ins_per_minute_per_address = 2;
    let app = App::start_with(config).await;
    let mut ada = app.register("ada").await;
    for _ in 0..5 {
        ada = Person::from(refresh(&app, &ada.refresh_token).await.expect(200));
    }
    app.login("ada", PASSWORD).await.expect(200);
}

#[tokio::test]
async fn one_session_refreshes_so_often_and_others_do_not_wait_for_it() {
    let mut config = config();
    config.limits.refreshes_per_minute_per_session = 2;
    let app = App::start_with(config).await;
    let (mut ada, bob) = (app.register("ada").await, app.register("bob").await);
    for _ in 0..2 {
        ada = Person::from(refresh(&app, &ada.refresh_token).await.expect(200));
    }
    assert_eq!(refresh(&app, &ada.refresh_token).await.refusal(429), "too_many_requests");
    refresh(&app, &bob.refresh_token).await.expect(200);
}

#[tokio::test]
async fn an_address_whose_refreshes_fail_too_often_has_to_wait() {
    let mut config = config();
    config.limits.sign_ins_per_minute_per_address = 3;
    let app = App::start_with(config).await;
    let ada = app.register("ada").await;
    for number in 0..3 {
        let unknown = format!("01980a8e-6c00-7000-8a3b-5d2f1c9e7a4{number}.{}", "A".repeat(43));
        refresh(&app, &unknown).await.refusal(401);
    }
    let refused = refresh(&app, &ada.refresh_token).await;
    assert_eq!(refused.refusal(429), "too_many_requests");
    assert!(refused.headers.contains_key("retry-after"));
    app.login("ada", PASSWORD).await.expect(200);
}
