//! The contract on a real server, and what is ClickHouse's own.

mod chaos;
mod pending;
mod schema;

use std::path::Path;

use types::{GroupId, Region, UserId};

use super::*;
use crate::{Fact, Ranges};

/// A store of its own on the servers that tests share.
fn config_for(name: &str) -> Config {
    config_at(&servers::endpoints().clickhouse, name)
}

/// A store of its own on a ClickHouse server.
fn config_at(url: &str, name: &str) -> Config {
    Config::Clickhouse {
        url: url.into(),
        database: name.into(),
        user: "default".into(),
        password: None,
        replicated: false,
        ranges: Ranges {
            servers: vec![servers::endpoints().nats.as_str().into()],
            name: name.into(),
            credentials: None,
            replicas: 1,
        },
    }
}

/// A name that no other test has, from a temporary folder's.
fn name_of(place: &Path) -> String {
    let name = place.file_name().unwrap().to_str().unwrap();
    format!("analytics_test_{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "_"))
}

/// A name that no other test has.
fn new_name() -> String {
    format!("analytics_test_{}", ranges::new_owner().replace('-', "_"))
}

async fn open_in(place: &Path) -> Arc<dyn Analytics> {
    let config = config_for(&name_of(place));
    migrate(&config).await.unwrap();
    open(&config).await.unwrap()
}

async fn drop_in(place: &Path) {
    remove(&config_for(&name_of(place))).await;
}

/// Takes a store away again.
async fn remove(config: &Config) {
    let Config::Clickhouse { database, ranges, .. } = config else { unreachable!() };
    client(config).query(&format!("DROP DATABASE IF EXISTS {database} SYNC")).execute().await.unwrap();
    let nats = async_nats::connect(ranges.servers[0].expose()).await.unwrap();
    async_nats::jetstream::new(nats).delete_key_value(&ranges.name).await.unwrap();
}

/// A store with a client of its own, to look behind it.
struct Scene {
    config: Config,
    store: Store,
}

impl Scene {
    async fn new() -> Self {
        let config = config_for(&new_name());
        migrate(&config).await.unwrap();
        let store = Store::open(&config, Patience::default()).await.unwrap();
        Self { config, store }
    }

    async fn execute(&self, sql: &str) {
        self.store.client.query(sql).execute().await.unwrap();
    }

    async fn number(&self, sql: &str) -> u64 {
        self.store.client.query(sql).fetch_one::<u64>().await.unwrap()
    }

    async fn end(self) {
        remove(&self.config).await;
    }
}

/// Facts of one user in one group, a minute apart, numbered from `first` to `last`.
fn facts(first: u64, last: u64) -> Vec<Fact> {
    let sender = UserId::generate(Region::default());
    let conversation = GroupId::generate(Region::default()).into();
    let at = |seq: u64| Timestamp::from_millis(i64::try_from(seq).unwrap() * 60_000);
    (first..=last).map(|seq| Fact { seq, at: at(seq), region: sender.region(), conversation, sender }).collect()
}

fn range(after_seq: u64, through_seq: u64, facts: &[Fact]) -> Range<'_> {
    let from = facts.partition_point(|fact| fact.seq <= after_seq);
    let to = facts.partition_point(|fact| fact.seq <= through_seq);
    Range { shard: 0, after_seq, through_seq, facts: &facts[from..to] }
}

fn everything() -> Filter {
    Filter { include_direct: true, ..Filter::default() }
}

crate::contract::contract_tests!(open_in, drop_in);
