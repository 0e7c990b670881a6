//! How the processes of a role agree on who reads which shard: keys in a bucket whose entries end by themselves.
//!
//! Each process keeps one entry alive that says it is there, and one for each shard that it holds, written only over
//! the revision that it wrote before. A process that ends stops keeping its entries alive, and after
//! [`LIFETIME`] its shards are free. Nobody's clock matters but the server's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{HeaderMap, Message};
use serde::Deserialize;
use serde_json::json;

use super::connection::unavailable;
use super::headers;
use super::reading::{Batch, Reading, Refusal};
use crate::{Error, Result};

/// How long an entry lives unless it is written again.
pub(super) const LIFETIME: Duration = Duration::from_secs(5);
/// How often entries are written again.
pub(super) const RENEWAL: Duration = Duration::from_secs(1);
/// How much earlier than the server a holder takes its lease for ended.
const MARGIN: Duration = Duration::from_millis(500);
/// How long a holder may rely on a lease, from before it asked for it.
pub(super) const RELIANCE: Duration = LIFETIME.saturating_sub(MARGIN);
/// The header that marks an entry as deleted.
const OPERATION: &str = "KV-Operation";
/// Its value.
const DELETED: &str = "DEL";
/// Somebody else has written since, as two generations of servers say it.
const OVERTAKEN: [u64; 2] = [10_071, 10_164];

/// The bucket.
pub(super) struct Leases {
    reading: Arc<Reading>,
    /// The name of this process.
    pub(super) me: String,
}

/// What stands in the bucket about one role.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The processes of the role that live.
    pub(super) members: Vec<String>,
    /// Who holds each shard, `None` when it was given back, and the revision.
    pub(super) leases: HashMap<u16, (Option<String>, u64)>,
}

impl Table {
    /// Adds an entry of the bucket. Whatever is none is passed over.
    fn add(&mut self, message: &Message) -> Option<()> {
        let found = message.headers.as_ref()?;
        let (subject, revision) = (headers::text(found, headers::SUBJECT)?, headers::number(found, headers::SEQUENCE)?);
        let is_there = headers::text(found, OPERATION).is_none();
        let owner = String::from_utf8_lossy(&message.payload).into_owned();
        let mut key = subject.rsplit('.');
        match (key.next()?, key.nth(1)?) {
            (_, "member") if is_there => self.members.push(owner),
            (shard, "lease") => {
                self.leases.insert(shard.parse().ok()?, (is_there.then_some(owner), revision));
            }
            _ => {}
        }
        Some(())
    }
}

#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    seq: u64,
    error: Option<Refusal>,
}

impl Leases {
    pub(super) fn new(reading: Arc<Reading>) -> Self {
        let me = reading.client.new_inbox().replace('.', "-");
        Self { reading, me }
    }

    /// What stands about a role.
    pub(super) async fn table(&self, group: &str) -> Result<Table> {
        let names = &self.reading.names;
        let keys = [names.readers_key(&format!("member.{group}.*")), names.readers_key(&format!("lease.{group}.*"))];
        let question = json!({ "multi_last": keys });
        // The server gives no more than so many.
        let Batch { messages, .. } = self.reading.direct_from(&names.readers_stream(), &question, 1_024).await?;
        let mut table = Table::default();
        for message in &messages {
            table.add(message);
        }
        Ok(table)
    }

    /// Says that this process is there.
    pub(super) async fn join(&self, group: &str) -> Result<()> {
        self.write(&self.member_key(group), None, None).await.map(drop)
    }

    /// Says that this process is no longer there.
    pub(super) async fn leave(&self, group: &str) -> Result<()> {
        self.write(&self.member_key(group), None, Some(DELETED)).await.map(drop)
    }

    /// Takes a shard, or keeps it, if nobody has written since `revision`. Gives the new revision, `None` when
    /// somebody has.
    pub(super) async fn take(&self, group: &str, shard: u16, revision: u64) -> Result<Option<u64>> {
        self.write(&lease_key(group, shard), Some(revision), None).await
    }

    /// Gives a shard back.
    pub(super) async fn give_back(&self, group: &str, shard: u16, revision: u64) -> Result<()> {
        self.write(&lease_key(group, shard), Some(revision), Some(DELETED)).await.map(drop)
    }

    fn member_key(&self, group: &str) -> String {
        format!("member.{group}.{}", self.me)
    }

    async fn write(&self, key: &str, over: Option<u64>, operation: Option<&str>) -> Result<Option<u64>> {
        let mut headers = HeaderMap::new();
        if let Some(revision) = over {
            headers.insert(headers::EXPECTED_LAST, revision.to_string());
        }
        if let Some(operation) = operation {
            headers.insert(OPERATION, operation);
        }
        let subject = self.reading.names.readers_key(key);
        let payload = self.me.clone().into();
        let written = self.reading.client.request_with_headers(subject, headers, payload).await.map_err(unavailable)?;
        match serde_json::from_slice(&written.payload).map_err(unavailable)? {
            Written { seq, error: None } => Ok(Some(seq)),
            Written { error: Some(Refusal { err_code, .. }), .. } if OVERTAKEN.contains(&err_code) => Ok(None),
            Written { error: Some(error), .. } => Err(Error::Unavailable(error.description)),
        }
    }
}

fn lease_key(group: &str, shard: u16) -> String {
    format!("lease.{group}.{shard}")
}

/// Whether a change of the bucket says that something was given back.
pub(super) fn is_given_back(message: &Message) -> bool {
    message.headers.as_ref().and_then(|found| headers::text(found, OPERATION)) == Some(DELETED)
}
