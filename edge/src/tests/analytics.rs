//! Analytics.

use insta::assert_json_snapshot;
use serde_json::{Value, json};
use types::Region;

use crate::config::Readers;
use crate::tests::harness::{App, Person, config, stable};

/// Ada writes 3 messages, Bob 2, Carol 1 to Ada's group `engines`, Carol 4 to her own `looms`, Bob 5 to Carol.
async fn busy(app: &App) -> [Person; 3] {
    let (ada, bob, carol) = (app.register("ada").await, app.register("bob").await, app.register("carol").await);
    let engines = app.group("engines", &[&ada, &bob, &carol]).await;
    let looms = app.group("looms", &[&carol]).await;
    let to_carol = format!("@{}", carol.id);
    for (person, conversation, count) in
        [(&ada, &engines, 3), (&bob, &engines, 2), (&carol, &engines, 1), (&carol, &looms, 4), (&bob, &to_carol, 5)]
    {
        for _ in 0..count {
            app.say(person, conversation, "x").await;
        }
    }
    app.ingest().await;
    [ada, bob, carol]
}

fn users(ranking: &Value) -> Vec<(String, u64)> {
    let items = ranking["items"].as_array().unwrap();
    let count =
        |item: &Value| (item["user"]["username"].as_str().unwrap().to_owned(), item["messages"].as_u64().unwrap());
    items.iter().map(count).collect()
}

fn names(ranking: &Value) -> Vec<(Option<&str>, u64)> {
    let items = ranking["items"].as_array().unwrap();
    items.iter().map(|item| (item["conversation"]["name"].as_str(), item["messages"].as_u64().unwrap())).collect()
}

fn counts(wanted: &[(&str, u64)]) -> Vec<(String, u64)> {
    wanted.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

#[tokio::test]
async fn the_users_with_the_most_messages_to_groups_come_first() {
    let app = App::start().await;
    let [ada, bob, _] = busy(&app).await;
    let path = "/v1/analytics/top-users";
    let ranking = app.get(&bob, path).await.expect(200);
    assert_json_snapshot!(stable(&ranking));
    let with_direct = app.get(&ada, &format!("{path}?direct=true")).await.expect(200);
    assert_eq!(users(&with_direct), counts(&[("bob", 7), ("carol", 5), ("ada", 3)]));
    app.get(&bob, &format!("{path}?direct=true")).await.refusal(403);

    let page = app.get(&bob, &format!("{path}?limit=2")).await.expect(200);
    assert_eq!(users(&page), counts(&[("carol", 5), ("ada", 3)]));
    let next = page["next"].as_str().unwrap();
    let page = app.get(&bob, &format!("{path}?limit=2&cursor={next}")).await.expect(200);
    assert_eq!((users(&page), page["next"].is_null()), (counts(&[("bob", 2)]), true));
}

#[tokio::test]
async fn a_range_bounds_the_count() {
    let app = App::start().await;
    let [_, bob, _] = busy(&app).await;
    for (query, is_all) in [
        ("start=2020-01-01T00:00:00Z", true),
        ("end=2999-01-01T00:00:00Z", true),
        ("start=2020-01-01T00:00:00Z&end=2999-01-01T00:00:00Z", true),
        ("start=2999-01-01T00:00:00Z", false),
        ("end=2020-01-01T00:00:00Z", false),
    ] {
        for list in ["top-users", "top-conversations", "activity"] {
            let found = app.get(&bob, &format!("/v1/analytics/{list}?{query}")).await.expect(200);
            assert_eq!(!found["items"].as_array().unwrap().is_empty(), is_all, "{list} {query}");
        }
    }
}

#[tokio::test]
async fn a_groups_name_is_withheld_from_strangers_but_not_from_analysts() {
    let app = App::start().await;
    let [ada, bob, carol] = busy(&app).await;
    let path = "/v1/analytics/top-conversations";
    let seen = app.get(&bob, path).await.expect(200);
    assert_json_snapshot!(stable(&seen));
    assert_eq!(names(&app.get(&carol, path).await.json()), [(Some("engines"), 6), (Some("looms"), 4)]);
    assert_eq!(names(&app.get(&ada, path).await.json()), [(Some("engines"), 6), (Some("looms"), 4)]);
    let with_direct = app.get(&ada, &format!("{path}?direct=true")).await.expect(200);
    assert_eq!(names(&with_direct), [(Some("engines"), 6), (None, 5), (Some("looms"), 4)]);
}

#[tokio::test]
async fn activity_is_counted_by_hour_or_day() {
    let app = App::start().await;
    let [_, bob, _] = busy(&app).await;
    for bucket in ["hour", "day"] {
        let found = app.get(&bob, &format!("/v1/analytics/activity?bucket={bucket}")).await.expect(200);
        let sum: u64 = found["items"].as_array().unwrap().iter().map(|step| step["messages"].as_u64().unwrap()).sum();
        assert_eq!(sum, 10);
    }
    app.get(&bob, "/v1/analytics/activity?bucket=week").await.refusal(422);
}

#[tokio::test]
async fn a_region_is_known_by_its_name() {
    let mut config = config();
    config.region.names =
        [("here", 0), ("there", 7)].map(|(name, number)| (name.into(), Region::new(number).unwrap())).into();
    let app = App::start_with(config).await;
    let [_, bob, _] = busy(&app).await;
    let path = "/v1/analytics/top-users?region=";
    assert_eq!(users(&app.get(&bob, &format!("{path}here")).await.expect(200)).len(), 3);
    assert_eq!(app.get(&bob, &format!("{path}there")).await.expect(200)["items"], json!([]));
    assert_eq!(app.get(&bob, &format!("{path}nowhere")).await.expect(422)["errors"][0]["pointer"], "region");
}

#[tokio::test]
async fn analytics_may_be_for_analysts_alone() {
    let mut config = config();
    config.analytics.readers = Readers::Analysts;
    let app = App::start_with(config).await;
    let [ada, bob, _] = busy(&app).await;
    for list in ["top-users", "top-conversations", "activity"] {
        app.get(&ada, &format!("/v1/analytics/{list}")).await.expect(200);
        app.get(&bob, &format!("/v1/analytics/{list}")).await.refusal(403);
    }
}
