//! The group messenger: what its rows ask for beside what the canonical API's tests show.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use testkit::{Client, Cluster, eventually, scenarios};
use types::Timestamp;

use super::operator_and_importer;

scenarios!(b1_09_a_long_history_is_counted_as_a_simple_count_says,);

/// Messages in all. They are brought over as they were said, over [`DAYS`].
const MESSAGES: usize = 6_000;
const DAYS: i64 = 90;
const MINUTE_MS: i64 = 60_000;
/// 2026-08-01.
const BEGIN_MS: i64 = 1_785_542_400_000;

/// A message of the history, as far as it is counted.
struct Said {
    at: Timestamp,
    room: usize,
    user: usize,
}

/// Numbers that are scattered, and the same in every run.
fn scattered(n: usize, salt: u64) -> u64 {
    let mut x = (n as u64).wrapping_add(salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 29;
    x.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
}

fn history(rooms: usize, users: usize) -> Vec<Said> {
    let pick = |n: usize, salt: u64, of: usize| {
        let (one, two) = (scattered(n, salt), scattered(n, salt + 1));
        // The smaller of two: some are picked far more often than others.
        usize::try_from(one.min(two) % of as u64).unwrap().min(usize::try_from(two % of as u64).unwrap())
    };
    let minutes = u64::try_from(DAYS * 24 * 60).unwrap();
    let said = (0..MESSAGES).map(|n| Said {
        at: Timestamp::from_millis(BEGIN_MS + i64::try_from(scattered(n, 7) % minutes).unwrap() * MINUTE_MS),
        room: pick(n, 11, rooms),
        user: pick(n, 23, users),
    });
    said.collect()
}

async fn import(importer: &Client, said: &[Said], rooms: &[String], users: &[Client]) {
    for (room, id) in rooms.iter().enumerate() {
        let of_room: Vec<&Said> = said.iter().filter(|said| said.room == room).collect();
        for batch in of_room.chunks(100) {
            let data: Vec<Value> = batch
                .iter()
                .map(|said| json!({"message_str": "x", "message_sent_ts": said.at, "sender_user_id": users[said.user].id()}))
                .collect();
            importer.post(&format!("/chatrooms/{id}/messages"), json!({ "data": data })).await.expect(201);
        }
    }
}

/// The whole ranking, by pages of three: each one's id and number of messages.
async fn ranking(reader: &Client, of: &str, range: &str) -> Vec<(String, u64)> {
    let (mut ranked, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = reader.get(&format!("/v1/analytics/top-{of}?limit=3{range}{cursor}")).await.expect(200);
        let key = if of == "users" { "user" } else { "conversation" };
        let items = page["items"].as_array().unwrap().iter();
        ranked.extend(
            items.map(|item| (item[key]["id"].as_str().unwrap().to_owned(), item["messages"].as_u64().unwrap())),
        );
        let Some(next) = page["next"].as_str() else { return ranked };
        cursor = format!("&cursor={next}");
    }
}

/// The same, counted one by one.
fn counted<'a>(said: impl Iterator<Item = &'a Said>, id: impl Fn(&Said) -> String) -> Vec<(String, u64)> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    said.for_each(|said| *counts.entry(id(said)).or_default() += 1);
    let mut ranked: Vec<_> = counts.into_iter().collect();
    ranked.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    ranked
}

async fn b1_09_a_long_history_is_counted_as_a_simple_count_says(cluster: &Cluster) {
    let (_, importer) = operator_and_importer(cluster).await;
    let owner = cluster.client().register("owner").await;
    let mut users = Vec::new();
    for n in 0..9 {
        users.push(cluster.client().register(&format!("user{n}-")).await);
    }
    let mut rooms = Vec::new();
    for n in 0..8 {
        rooms.push(owner.create_group(&format!("room {n}"), &users.iter().collect::<Vec<_>>()).await);
    }
    let said = history(rooms.len(), users.len());
    import(&importer, &said, &rooms, &users).await;
    eventually("all is counted", || async {
        let activity = owner.get("/v1/analytics/activity?bucket=day&limit=100").await.expect(200);
        let total: u64 =
            activity["items"].as_array().unwrap().iter().map(|day| day["messages"].as_u64().unwrap()).sum();
        (total == MESSAGES as u64).then_some(())
    })
    .await;
    let at = |minutes: i64| Timestamp::from_millis(BEGIN_MS + minutes * MINUTE_MS);
    let (start, end) = (at(20 * 24 * 60 + 17), at(61 * 24 * 60 + 43));
    for (from, to) in [
        (None, None),
        (Some(start), None),
        (None, Some(end)),
        (Some(start), Some(end)),
        (Some(said[0].at), Some(said[0].at)),
    ] {
        let bound = |name: &str, at: Option<Timestamp>| at.map(|at| format!("&{name}={at}")).unwrap_or_default();
        let range = bound("start", from) + &bound("end", to);
        let within = || {
            said.iter().filter(move |said| from.is_none_or(|from| said.at >= from) && to.is_none_or(|to| said.at < to))
        };
        let by_user = counted(within(), |said| users[said.user].id().to_owned());
        let by_room = counted(within(), |said| rooms[said.room].clone());
        assert_eq!(ranking(&owner, "users", &range).await, by_user, "{range}");
        assert_eq!(ranking(&owner, "conversations", &range).await, by_room, "{range}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn b1_12_users_and_groups_live_in_a_relational_database() {
    let cluster = Cluster::all().await;
    let ada = cluster.client().register("ada").await;
    let ben = cluster.client().register("ben").await;
    ada.create_group("Relations", &[&ben]).await;
    let options = SqliteConnectOptions::new().filename(cluster.data().join("directory.sqlite")).read_only(true);
    let mut database = SqliteConnection::connect_with(&options).await.unwrap();
    const MEMBERS: &str = "SELECT users.username FROM groups JOIN members ON members.group_id = groups.id \
        JOIN users ON users.id = members.user_id WHERE groups.name = ? ORDER BY users.username";
    let members: Vec<String> = sqlx::query_scalar(MEMBERS).bind("Relations").fetch_all(&mut database).await.unwrap();
    assert_eq!(members, [ada.username(), ben.username()]);
}
