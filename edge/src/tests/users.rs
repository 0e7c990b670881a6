//! Users.

use insta::assert_json_snapshot;
use serde_json::json;

use crate::tests::harness::{App, PASSWORD, Person, config, stable, texts};

#[tokio::test]
async fn users_are_found_by_the_beginning_of_their_names_and_paged() {
    let app = App::start().await;
    let ada = app.register("ada").await;
    for name in ["adam", "Adele", "bob", "carol"] {
        app.register(name).await;
    }
    let found = app.get(&ada, "/v1/users?query=AD").await.expect(200);
    assert_eq!(texts(&found, "username"), ["ada", "adam", "Adele"]);

    let names = app.pages(&ada, "/v1/users?limit=2", "username").await;
    assert_eq!(names, ["ada", "adam", "Adele", "bob", "carol"]);
}

#[tokio::test]
async fn a_user_is_shown_to_others_with_its_email_address_and_without_its_roles() {
    let app = App::start().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let path = format!("/v1/users/{}", ada.id);
    assert_json_snapshot!(stable(&app.get(&bob, &path).await.expect(200)));
    assert_eq!(app.get(&ada, &path).await.json(), app.get(&ada, "/v1/users/me").await.json());
}

#[tokio::test]
async fn email_addresses_are_hidden_where_the_operator_says_so() {
    let mut config = config();
    config.users.show_email = false;
    let app = App::start_with(config).await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let path = format!("/v1/users/{}", ada.id);
    assert!(app.get(&bob, &path).await.expect(200)["email"].is_null());
    assert_eq!(app.get(&ada, &path).await.expect(200)["email"], "ada@example.org");
}

#[tokio::test]
async fn one_changes_what_one_says_of_oneself() {
    let app = App::start().await;
    let ada = app.register("ada").await;
    app.register("bob").await;
    let picture = "https://example.org/ada.png";
    let change = json!({"username": "lovelace", "name": "Ada Lovelace", "email": "a@example.org", "picture": picture});
    let changed = app.patch(&ada, "/v1/users/me", change).await.expect(200);
    assert_eq!((&changed["username"], &changed["picture"]), (&json!("lovelace"), &json!(picture)));
    let changed = app.patch(&ada, "/v1/users/me", json!({"picture": null})).await.expect(200);
    assert_eq!((&changed["username"], &changed["picture"]), (&json!("lovelace"), &json!(null)));
    assert_eq!(app.patch(&ada, "/v1/users/me", json!({})).await.expect(200)["name"], "Ada Lovelace");

    assert_eq!(app.patch(&ada, "/v1/users/me", json!({"username": "Bob"})).await.refusal(409), "username_taken");
    for (change, pointer) in [
        (json!({"username": "x"}), "/username"),
        (json!({"name": " "}), "/name"),
        (json!({"email": "x"}), "/email"),
        (json!({"picture": "javascript:alert(1)"}), "/picture"),
        (json!({"password": "new password"}), "/current_password"),
        (json!({"password": "short", "current_password": PASSWORD}), "/password"),
    ] {
        let problem = app.patch(&ada, "/v1/users/me", change).await.expect(422);
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
}

#[tokio::test]
async fn a_new_password_ends_all_other_sessions() {
    let app = App::start().await;
    let ada = app.register("ada").await;
    let other_session = Person::from(app.login("ada", PASSWORD).await.expect(200));
    let wrong = json!({"password": "another horse", "current_password": "wrong horse"});
    app.patch(&ada, "/v1/users/me", wrong).await.refusal(403);
    let right = json!({"password": "another horse", "current_password": PASSWORD});
    app.patch(&ada, "/v1/users/me", right).await.expect(200);
    app.get(&ada, "/v1/users/me").await.expect(200);
    app.get(&other_session, "/v1/users/me").await.refusal(401);
    app.login("ada", PASSWORD).await.refusal(401);
    app.login("ada", "another horse").await.expect(200);
}

#[tokio::test]
async fn a_user_who_deletes_itself_leaves_a_tombstone() {
    let app = App::start().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let group = app.group("engines", &[&ada, &bob]).await;
    app.say(&bob, &group, "hello").await;
    app.delete(&bob, "/v1/users/me").await.expect(204);
    app.get(&bob, "/v1/users/me").await.refusal(401);
    app.login("bob", PASSWORD).await.refusal(401);
    let tombstone = app.get(&ada, &format!("/v1/users/{}", bob.id)).await.expect(200);
    assert_eq!((&tombstone["deleted"], &tombstone["name"]), (&json!(true), &json!("Deleted user")));
    assert!(tombstone["email"].is_null() && tombstone["picture"].is_null());
    assert_eq!(texts(&app.get(&ada, "/v1/users").await.expect(200), "username"), ["ada"]);
    assert_eq!(app.get(&ada, &format!("/v1/conversations/{group}")).await.expect(200)["members_count"], 1);
}

#[tokio::test]
async fn only_operators_grant_roles() {
    let app = App::start().await;
    let (ada, bob) = (app.register("ada").await, app.register("bob").await);
    let path = format!("/v1/users/{}/roles", bob.id);
    app.put(&bob, &path, json!({"roles": ["operator"]})).await.refusal(403);
    let granted = app.put(&ada, &path, json!({"roles": ["import", "analyst", "import"]})).await.expect(200);
    assert_eq!(granted["roles"], json!(["analyst", "import"]));
    assert_eq!(app.get(&bob, "/v1/users/me").await.expect(200)["roles"], json!(["analyst", "import"]));
    app.put(&ada, &path, json!({"roles": ["king"]})).await.refusal(422);
    let nobody = "01980a8e-6c00-7000-8a3b-5d2f1c9e7a40";
    app.put(&ada, &format!("/v1/users/{nobody}/roles"), json!({"roles": []})).await.refusal(404);
}

#[tokio::test]
async fn a_password_is_asked_for_as_rarely_by_a_change_as_by_a_log_in() {
    let mut config = config();
    config.limits.sign_ins_per_minute_per_address = 3;
    let app = App::start_with(config).await;
    let ada = app.register("ada").await;
    let guess = json!({"password": "another horse", "current_password": "a guess"});
    for _ in 0..2 {
        app.patch(&ada, "/v1/users/me", guess.clone()).await.refusal(403);
    }
    assert_eq!(app.patch(&ada, "/v1/users/me", guess).await.refusal(429), "too_many_requests");
    app.patch(&ada, "/v1/users/me", json!({"name": "Ada Lovelace"})).await.expect(200);
}
