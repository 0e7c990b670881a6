//! The group messenger: what its rows ask for beside what the canonical API's tests show.

use std::collections::BTreeMap;

use directory::{Command, NewUser};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, PgConnection};
use testkit::{Client, Cluster, REGIONS, eventually, scenarios};
use types::{Region, Timestamp, UserId};

use super::operator_and_importer;

scenarios!(
    b1_09_a_long_history_is_counted_as_a_simple_count_says,
    b1_12_users_and_groups_live_in_a_relational_database,
);

/// Messages are brought over as they were said, over so many days.
const DAYS: i64 = 90;
const MINUTE_MS: i64 = 60_000;
/// 2026-08-01.
const BEGIN_MS: i64 = 1_785_542_400_000;
const ROOMS: usize = 8;
const USERS: usize = 13;
/// Messages in one request, and requests at once.
const BATCH: usize = 100;
const AT_ONCE: usize = 8;

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

fn history(messages: usize) -> Vec<Said> {
    let pick = |n: usize, salt: u64, of: usize| {
        let (one, two) = (scattered(n, salt), scattered(n, salt + 1));
        // The smaller of two: some are picked far more often than others.
        usize::try_from(one.min(two) % of as u64).unwrap().min(usize::try_from(two % of as u64).unwrap())
    };
    let minutes = u64::try_from(DAYS * 24 * 60).unwrap();
    let said = (0..messages).map(|n| Said {
        at: Timestamp::from_millis(BEGIN_MS + i64::try_from(scattered(n, 7) % minutes).unwrap() * MINUTE_MS),
        room: pick(n, 11, ROOMS),
        user: pick(n, 23, USERS),
    });
    said.collect()
}

/// A world in which the history is brought over.
struct World {
    reader: Client,
    users: Vec<UserId>,
    rooms: Vec<String>,
    said: Vec<Said>,
}

impl World {
    async fn new(cluster: &Cluster, messages: usize) -> Self {
        let (_, importer) = operator_and_importer(cluster).await;
        let reader = cluster.client().register("owner").await;
        let mut users = Vec::new();
        for n in 0..USERS {
            users.push(born_in(cluster, REGIONS[n % REGIONS.len()].1, n).await);
        }
        let mut rooms = Vec::new();
        for n in 0..ROOMS {
            let group = json!({"kind": "group", "name": format!("room {n}"), "members": users});
            let made = reader.post("/v1/conversations", group).await.expect(201);
            rooms.push(made["id"].as_str().unwrap().to_owned());
        }
        let world = Self { reader, users, rooms, said: history(messages) };
        world.import(&importer).await;
        eventually("all is counted", || async {
            let activity = world.reader.get("/v1/analytics/activity?bucket=day&limit=100").await.expect(200);
            let days = activity["items"].as_array().unwrap();
            let total: u64 = days.iter().map(|day| day["messages"].as_u64().unwrap()).sum();
            (total == messages as u64).then_some(())
        })
        .await;
        world
    }

    async fn import(&self, importer: &Client) {
        let mut batches = Vec::new();
        for (room, id) in self.rooms.iter().enumerate() {
            let of_room: Vec<&Said> = self.said.iter().filter(|said| said.room == room).collect();
            for batch in of_room.chunks(BATCH) {
                let message = |said: &&Said| json!({"message_str": "x", "message_sent_ts": said.at, "sender_user_id": self.users[said.user]});
                batches.push((id, json!({"data": batch.iter().map(message).collect::<Vec<Value>>()})));
            }
        }
        // Their order does not matter: what was said long ago may be stored late.
        let send = async |(room, batch): (&String, Value)| {
            importer.post(&format!("/chatrooms/{room}/messages"), batch).await.expect(201);
        };
        stream::iter(batches).for_each_concurrent(AT_ONCE, send).await;
    }

    /// Compares both rankings, page by page.
    async fn agrees(&self, (from, to): (Option<Timestamp>, Option<Timestamp>), region: Option<(&str, Region)>) {
        let bound = |name: &str, at: Option<Timestamp>| at.map(|at| format!("&{name}={at}")).unwrap_or_default();
        let only = region.map(|(name, _)| format!("&region={name}")).unwrap_or_default();
        let range = bound("start", from) + &bound("end", to) + &only;
        let within = || {
            self.said.iter().filter(move |said| {
                let is_of = region.is_none_or(|(_, region)| self.users[said.user].region() == region);
                is_of && from.is_none_or(|from| said.at >= from) && to.is_none_or(|to| said.at < to)
            })
        };
        let by_user = counted(within(), |said| self.users[said.user].to_string());
        let by_room = counted(within(), |said| self.rooms[said.room].clone());
        assert_eq!(ranking(&self.reader, "users", &range).await, by_user, "{range}");
        assert_eq!(ranking(&self.reader, "conversations", &range).await, by_room, "{range}");
    }
}

/// A user of any region. This system's edges make users of its own region alone; the directory takes all.
async fn born_in(cluster: &Cluster, region: Region, number: usize) -> UserId {
    let user = NewUser {
        id: UserId::generate(region),
        username: format!("user{number}"),
        name: String::new(),
        email: format!("user{number}@example.org"),
        password_hash: "$".into(),
        at: Timestamp::now(),
    };
    let id = user.id;
    cluster.seams().directory.execute(&Command::Register { user, session: None }).await.unwrap().unwrap();
    id
}

/// The whole ranking, by pages of five, which is what is shown without a limit: each one's id and number of messages.
async fn ranking(reader: &Client, of: &str, range: &str) -> Vec<(String, u64)> {
    let (mut ranked, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = reader.get(&format!("/v1/analytics/top-{of}?direct=false{range}{cursor}")).await.expect(200);
        let key = if of == "users" { "user" } else { "conversation" };
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 5);
        let one = |item: &Value| (item[key]["id"].as_str().unwrap().to_owned(), item["messages"].as_u64().unwrap());
        ranked.extend(items.iter().map(one));
        let Some(next) = page["next"].as_str() else { return ranked };
        assert_eq!(items.len(), 5, "only the last page is shorter");
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
    is_counted(cluster, 3_000).await;
}

/// Once, for it takes long, and on the stores that a cluster has.
#[tokio::test(flavor = "multi_thread")]
async fn b1_09_a_hundred_thousand_messages_are_counted_as_a_simple_count_says() {
    is_counted(&Cluster::all_on_servers().await, 100_000).await;
}

async fn is_counted(cluster: &Cluster, messages: usize) {
    let world = World::new(cluster, messages).await;
    let at = |minutes: i64| Timestamp::from_millis(BEGIN_MS + minutes * MINUTE_MS);
    let (start, end, one) = (at(20 * 24 * 60 + 17), at(61 * 24 * 60 + 43), world.said[0].at);
    for range in [
        (None, None),
        (Some(start), None),
        (None, Some(end)),
        (Some(start), Some(end)),
        (Some(one), Some(one)),
        (Some(one), Some(one.plus(std::time::Duration::from_secs(60)))),
    ] {
        world.agrees(range, None).await;
        for region in REGIONS {
            world.agrees(range, Some(region)).await;
        }
    }
}

async fn b1_12_users_and_groups_live_in_a_relational_database(cluster: &Cluster) {
    const MEMBERS: &str = "SELECT users.username FROM groups JOIN members ON members.group_id = groups.id \
        JOIN users ON users.id = members.user_id WHERE groups.name = $1 ORDER BY users.username";
    let ada = cluster.client().register("ada").await;
    let ben = cluster.client().register("ben").await;
    ada.create_group("Relations", &[&ben]).await;
    let config = cluster.config();
    let members: Vec<String> = match &config.directory {
        directory::Config::Sqlite { path } => {
            let options = SqliteConnectOptions::new().filename(config.data.join(path)).read_only(true);
            let mut database = SqliteConnection::connect_with(&options).await.unwrap();
            sqlx::query_scalar(MEMBERS).bind("Relations").fetch_all(&mut database).await.unwrap()
        }
        directory::Config::Postgres { url, .. } => {
            let mut database = PgConnection::connect(url.expose()).await.unwrap();
            sqlx::query_scalar(MEMBERS).bind("Relations").fetch_all(&mut database).await.unwrap()
        }
    };
    assert_eq!(members, [ada.username(), ben.username()]);
}
