//! The schema: made, made again, and refused.

use super::*;

#[tokio::test]
async fn many_may_migrate_at_once_and_again() {
    let config = config_for(&new_name());
    let migrations = (0..6).map(|_| {
        let config = config.clone();
        tokio::spawn(async move { migrate(&config).await })
    });
    for migration in migrations.collect::<Vec<_>>() {
        migration.await.unwrap().unwrap();
    }
    migrate(&config).await.unwrap();
    let store = Store::open(&config, Patience::default()).await.unwrap();
    let applied = store.client.query("SELECT count() FROM migrations").fetch_one::<u64>().await.unwrap();
    assert_eq!(applied, 1);
    remove(&config).await;
}

#[tokio::test]
async fn a_store_that_was_not_migrated_says_what_to_do() {
    let config = config_for(&new_name());
    let error = open(&config).await.err().expect("an error");
    assert!(matches!(&error, Error::Damaged(text) if text.contains("rookery migrate")), "{error}");
    let Config::Clickhouse { database, .. } = &config else { unreachable!() };
    let sql = format!("SELECT count() FROM system.databases WHERE name = '{database}'");
    assert_eq!(client(&config).query(&sql).fetch_one::<u64>().await.unwrap(), 0, "opening makes nothing");
}

#[tokio::test]
async fn a_newer_schema_is_opened_and_not_migrated() {
    let scene = Scene::new().await;
    scene.execute("INSERT INTO migrations (version, name) SETTINGS async_insert = 0 VALUES (9999, 'later')").await;
    let error = migrate(&scene.config).await.unwrap_err();
    assert!(matches!(&error, Error::Damaged(text) if text.contains("9999") && text.contains("newer")), "{error}");
    let store = open(&scene.config).await.unwrap();
    assert_eq!(store.total(&everything()).await.unwrap(), 0);
    scene.end().await;
}

#[tokio::test]
async fn a_lock_whose_holder_died_is_taken_over() {
    let scene = Scene::new().await;
    let Config::Clickhouse { ranges, .. } = &scene.config else { unreachable!() };
    let bucket = ranges::Notes::make(ranges).await.unwrap();
    bucket.put("migration", r#"{"until_ms":1}"#.into()).await.unwrap();
    migrate(&scene.config).await.unwrap();
    scene.end().await;
}

#[tokio::test]
async fn notes_that_were_never_made_are_told_from_a_server_that_is_away() {
    let scene = Scene::new().await;
    let Config::Clickhouse { ranges, .. } = &scene.config else { unreachable!() };
    let servers: Vec<&str> = ranges.servers.iter().map(types::ServerUrl::expose).collect();
    let nats = async_nats::connect(servers).await.unwrap();
    async_nats::jetstream::new(nats).delete_key_value(&ranges.name).await.unwrap();
    let error = open(&scene.config).await.err().expect("an error");
    assert!(matches!(&error, Error::Damaged(why) if why.contains("rookery migrate")), "{error}");
    migrate(&scene.config).await.unwrap();
    scene.end().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let config = config_at("http://127.0.0.1:9", &new_name());
    let error = open(&config).await.err().expect("an error");
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn questions_are_answered_from_the_counts_of_days_and_hours() {
    let scene = Scene::new().await;
    let facts = facts(1, 5000);
    scene.store.record(range(0, 5000, &facts)).await.unwrap();
    for (projection, sql) in [
        ("users_by_day", "SELECT sender, count() FROM facts WHERE day >= 1 AND day < 3 AND direct <= true GROUP BY 1"),
        (
            "conversations_by_day",
            "SELECT conversation, peer, count() FROM facts WHERE day >= 1 AND day < 3 GROUP BY 1, 2",
        ),
        ("totals_by_hour", "SELECT count() FROM facts WHERE hour >= 1 AND hour < 30 AND direct <= false"),
        ("ends_by_shard", "SELECT max(seq) FROM facts WHERE shard = 0"),
    ] {
        let plan = scene.store.client.query(&format!("EXPLAIN {sql}")).fetch_all::<String>().await.unwrap();
        assert!(plan.iter().any(|line| line.contains(projection)), "{projection}: {plan:#?}");
    }
    scene.end().await;
}
