//! Direct messages over all senders.

use crate::tests::harness::{App, Person, config};

async fn pages(app: &App, person: &Person, query: &str) -> Vec<String> {
    app.pages(person, &format!("/v1/messages/recent?{query}"), "text").await
}

#[tokio::test]
async fn what_others_sent_to_me_comes_newest_first() {
    let app = App::start().await;
    let (ada, bob, carol) = (app.register("ada").await, app.register("bob").await, app.register("carol").await);
    let (to_ada, to_bob) = (format!("@{}", ada.id), format!("@{}", bob.id));
    let group = app.group("engines", &[&ada, &bob, &carol]).await;
    for (sender, conversation, text) in [
        (&bob, &to_ada, "bob 1"),
        (&carol, &to_ada, "carol 1"),
        (&carol, &to_bob, "not for ada"),
        (&bob, &group, "not direct"),
        (&bob, &to_ada, "bob 2"),
        (&ada, &to_bob, "my own"),
        (&carol, &to_ada, "carol 2"),
        (&bob, &to_ada, "bob 3"),
    ] {
        app.say(sender, conversation, text).await;
    }
    app.ingest().await;
    let all = ["bob 3", "carol 2", "bob 2", "carol 1", "bob 1"];
    for limit in [1, 2, 3, 5, 100] {
        assert_eq!(pages(&app, &ada, &format!("limit={limit}")).await, all, "{limit}");
    }
    assert_eq!(pages(&app, &ada, &format!("limit=2&sender={}", bob.id)).await, ["bob 3", "bob 2", "bob 1"]);
    assert_eq!(pages(&app, &ada, "since=2999-01-01T00:00:00Z").await, Vec::<String>::new());
    assert_eq!(pages(&app, &ada, "since=2020-01-01T00:00:00Z").await, all);
    assert_eq!(pages(&app, &bob, "limit=100").await, ["my own", "not for ada"]);
}

#[tokio::test]
async fn many_senders_are_merged() {
    let mut config = config();
    config.limits.requests_per_second_per_address = 1_000;
    config.limits.request_burst_per_address = 1_000;
    let app = App::start_with(config).await;
    let ada = app.register("ada").await;
    let mut people = Vec::new();
    for number in 0..20 {
        people.push(app.register(&format!("user{number}")).await);
    }
    let mut sent = Vec::new();
    for round in 0..3 {
        for (number, person) in people.iter().enumerate().filter(|(number, _)| (number + round) % 3 > 0) {
            let text = format!("{round} {number}");
            app.say(person, &format!("@{}", ada.id), &text).await;
            sent.push(text);
        }
    }
    app.ingest().await;
    sent.reverse();
    assert_eq!(pages(&app, &ada, "limit=7").await, sent);
}
