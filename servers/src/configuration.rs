//! The stores' part of a `rookery.toml` that names real servers.

use crate::{Endpoints, S3};

/// What a cluster calls its own on servers that it may share with others.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// Its streams, its databases and its bucket.
    pub cluster: &'a str,
    /// Its CQL keyspace.
    pub keyspace: &'a str,
    /// The shards of its log.
    pub shards: u16,
    /// How many NATS servers keep each message.
    pub replicas: usize,
    /// The most connections that one process makes to Postgres.
    pub max_connections: u32,
}

impl Endpoints {
    /// The five stores' tables, as TOML. `replica` is the address of a replica of Postgres.
    #[must_use]
    pub fn configuration(&self, names: &Names<'_>, replica: Option<&str>) -> String {
        let Names { cluster, keyspace, shards, replicas, max_connections } = names;
        let nats: Vec<&str> = self.nats.split(',').collect();
        let Self { postgres, cassandra, clickhouse, .. } = self;
        let S3 { endpoint, region, access_key_id, secret_access_key } = &self.s3;
        let replica_url = replica.map(|url| format!("replica_url = \"{url}/{cluster}\"\n")).unwrap_or_default();
        format!(
            r#"[log]
type = "jetstream"
servers = {nats:?}
name = "{cluster}"
shards = {shards}
replicas = {replicas}

[history]
type = "scylla"
nodes = ["{cassandra}"]
keyspace = "{keyspace}"
replication = {{ replication_factor = 1 }}

[directory]
type = "postgres"
url = "{postgres}/{cluster}"
{replica_url}max_connections = {max_connections}

[analytics]
type = "clickhouse"
url = "{clickhouse}"
database = "{cluster}"

[analytics.ranges]
servers = {nats:?}
name = "{cluster}"
replicas = {replicas}

[blobs]
type = "s3"
endpoint = "{endpoint}"
region = "{region}"
bucket = "{cluster}"
access_key_id = "{access_key_id}"
secret_access_key = "{secret_access_key}"
path_style = true
"#
        )
    }
}
