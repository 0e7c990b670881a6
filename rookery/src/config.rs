//! The configuration: defaults < `PORT` < `rookery.toml` < environment < command line. Each crate owns its part; this
//! is the one file that reads the environment.
//!
//! `ROOKERY__EDGE__LISTEN=0.0.0.0:80` sets `listen` in `[edge]`. `PORT`, as hosting platforms set it, is taken
//! when nothing more precise is said. A key that nobody knows is an error, not a surprise.
//!
//! A variable is TOML where that is possible (`5`, `true`, `["a"]`), but for keys whose value is a text: those take it
//! as it stands, for a password may consist of digits.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::args::Args;

/// Everything that can be set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The folder of the embedded stores; made when missing.
    pub data: PathBuf,
    /// How long a graceful end may take, in seconds. Whoever is not done then is cut off.
    pub shutdown_seconds: u32,
    /// Logs and traces.
    pub telemetry: crate::telemetry::Config,
    /// Health and metrics of a process without an edge.
    pub operations: crate::operations::Config,
    /// The log.
    pub log: log::Config,
    /// Users, groups, members, sessions.
    pub directory: directory::Config,
    /// Every event, for good.
    pub history: history::Config,
    /// Counts.
    pub analytics: analytics::Config,
    /// Attachments.
    pub blobs: blobs::Config,
    /// Log to history, the directory's writes.
    pub ingest: ingest::Config,
    /// REST and WebSocket.
    pub edge: edge::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "rookery-data".into(),
            shutdown_seconds: 15,
            telemetry: crate::telemetry::Config::default(),
            operations: crate::operations::Config::default(),
            log: log::Config::default(),
            directory: directory::Config::default(),
            history: history::Config::default(),
            analytics: analytics::Config::default(),
            blobs: blobs::Config::default(),
            ingest: ingest::Config::default(),
            edge: edge::Config::default(),
        }
    }
}

impl Config {
    /// The configuration as `rookery.toml` would set it, with `***` for what is secret.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| unreachable!("strings, numbers and tables have TOML: {error}"))
    }
}

/// The file that is read when none is named, if it is there.
const DEFAULT_FILE: &str = "rookery.toml";
/// What the names of our variables begin with.
const PREFIX: &str = "ROOKERY__";
/// The port to listen on, as hosting platforms name it.
const PORT: &str = "PORT";

/// Keys whose value is a text and that have no default, by which one could see that. For all keys with a default that is seen
/// by it.
const TEXTS: [&str; 16] = [
    "access_key_id",
    "bucket",
    "credentials",
    "database",
    "endpoint",
    "keyspace",
    "local_datacenter",
    "name",
    "password",
    "public_endpoint",
    "region",
    "replica_url",
    "secret_access_key",
    "url",
    "user",
    "username",
];

/// The effective configuration of a command line.
///
/// # Errors
/// When the named file is missing, is not TOML, or sets a key that nobody knows.
pub fn load(args: &Args) -> anyhow::Result<Config> {
    let table = from(read_file(args.config.as_deref())?, environment())?;
    let mut config: Config = Value::Table(table).try_into().context("the configuration does not hold together")?;
    if let Some(data) = &args.data {
        config.data.clone_from(data);
    }
    if let Some(listen) = args.listen {
        config.edge.listen = listen;
    }
    Ok(config)
}

/// The defaults with what the file and the environment lay over them.
fn from(
    file: Option<(PathBuf, String)>,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> anyhow::Result<Table> {
    let mut table = Table::try_from(Config::default()).context("the defaults have no TOML")?;
    let variables = Variables::read(environment)?;
    if let Some(port) = variables.port {
        merge(&mut table, listening_on(&port)?);
    }
    if let Some((path, text)) = file {
        let file = text.parse::<Table>().with_context(|| format!("{} is not TOML", path.display()))?;
        merge(&mut table, file);
    }
    let mut over = Table::new();
    for (name, value) in &variables.ours {
        insert(&mut over, Some(&table), (&name.to_lowercase(), value))
            .with_context(|| format!("{PREFIX}{name} cannot be set"))?;
    }
    merge(&mut table, over);
    Ok(table)
}

#[expect(clippy::disallowed_methods, reason = "the environment is read here and nowhere else")]
fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}

fn read_file(named: Option<&Path>) -> anyhow::Result<Option<(PathBuf, String)>> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.to_owned(), text))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// Lays `over` upon `base`, table by table. A table that names another `type` replaces the one below it, whose
/// keys mean nothing to it.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) if !names_another_type(below, &above) => {
                merge(below, above);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn names_another_type(below: &Table, above: &Table) -> bool {
    above.get("type").is_some_and(|kind| below.get("type") != Some(kind))
}

/// The variables that concern us.
#[derive(Default)]
struct Variables {
    port: Option<String>,
    /// Without the prefix. Sorted, so that `…__TYPE` beside other keys of its table gives the same result on every run.
    ours: BTreeMap<String, String>,
}

impl Variables {
    fn read(variables: impl Iterator<Item = (OsString, OsString)>) -> anyhow::Result<Self> {
        let mut read = Self::default();
        for (name, value) in variables {
            let Some(name) = name.to_str() else { continue };
            let ours = name.strip_prefix(PREFIX);
            if ours.is_none() && name != PORT {
                continue;
            }
            let value = value.into_string().ok().with_context(|| format!("{name} is not UTF-8"))?;
            match ours {
                Some(ours) => drop(read.ours.insert(ours.to_owned(), value)),
                None => read.port = Some(value).filter(|port| !port.is_empty()),
            }
        }
        Ok(read)
    }
}

/// What a hosting platform's `PORT` sets.
fn listening_on(port: &str) -> anyhow::Result<Table> {
    let port: u16 = port.parse().with_context(|| format!("{PORT} is {port:?} and no port"))?;
    let edge = Table::from_iter([("listen".to_owned(), Value::from(format!("0.0.0.0:{port}")))]);
    Ok(Table::from_iter([("edge".to_owned(), edge.into())]))
}

/// Sets `history__type` to a value. `below` is what it will be laid upon.
fn insert(table: &mut Table, below: Option<&Table>, (path, value): (&str, &str)) -> anyhow::Result<()> {
    let Some((head, rest)) = path.split_once("__") else {
        if path.is_empty() {
            bail!("a part of its name is empty");
        }
        let present = below.and_then(|below| below.get(path));
        let is_text = present.map_or(TEXTS.contains(&path), Value::is_str);
        table.insert(path.to_owned(), if is_text { value.into() } else { toml_or_text(value) });
        return Ok(());
    };
    let below = below.and_then(|below| below.get(head)).and_then(Value::as_table);
    let table = table.entry(head).or_insert_with(|| Table::new().into());
    insert(table.as_table_mut().context("it lies below a value")?, below, (rest, value))
}

fn toml_or_text(value: &str) -> Value {
    let parsed = format!("value = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    parsed.unwrap_or_else(|| value.into())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    type Pair<'a> = (&'a str, &'a str);

    fn load_from(file: &str, variables: &[Pair<'_>]) -> anyhow::Result<Config> {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let table = from(Some(("rookery.toml".into(), file.to_owned())), variables)?;
        Ok(Value::Table(table).try_into()?)
    }

    fn effective(over: Table) -> Result<Config, toml::de::Error> {
        let mut table = Table::try_from(Config::default()).unwrap();
        merge(&mut table, over);
        Value::Table(table).try_into()
    }

    #[test]
    fn the_defaults_survive_toml() {
        let config = effective(Table::new()).unwrap();
        assert_eq!(config.data, Path::new("rookery-data"));
        insta::assert_snapshot!(Config::default().to_toml());
    }

    #[test]
    fn the_operators_document_shows_every_key_of_the_edge_with_its_default() {
        let document = include_str!("../../docs/OPERATING.md");
        let (_, section) = document.split_once("\n## Edge\n").unwrap();
        let (_, code) = section.split_once("```toml\n").unwrap();
        let told: Table = code.split("```").next().unwrap().parse().unwrap();
        let defaults = Table::try_from(Config::default()).unwrap();
        assert_eq!(told["edge"], defaults["edge"]);
        assert_eq!(told.len(), 1);
    }

    #[test]
    fn a_part_of_a_store_may_be_set_alone() {
        let config = effective("[log]\nretention_hours = 7".parse().unwrap()).unwrap();
        assert_eq!((config.log.retention_hours(), config.log.duplicate_window_seconds()), (7, 120));
    }

    #[test]
    fn a_collectors_headers_are_not_shown() {
        let file = "[telemetry.otlp]\nendpoint = \"http://127.0.0.1:4318\"\nsample_ratio = 0.1\nheaders = { key = \"secret\" }";
        let config = effective(file.parse().unwrap()).unwrap();
        let shown = config.to_toml();
        assert!(shown.contains("key = \"***\"") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn analytics_may_stand_in_clickhouse_and_its_password_is_never_printed() {
        let file = "[analytics]\ntype = 'clickhouse'\nurl = 'http://a:8123'\nranges = { servers = ['nats://b:4222'] }";
        let config = load_from(file, &[("ROOKERY__ANALYTICS__PASSWORD", "tell nobody")]).unwrap();
        let analytics::Config::Clickhouse { database, password, ranges, .. } = &config.analytics else {
            panic!("{config:?}")
        };
        assert_eq!((database.as_str(), ranges.name.as_str(), ranges.replicas), ("rookery", "rookery-analytics", 1));
        assert_eq!(password.as_ref().unwrap().expose(), "tell nobody");
        assert!(!config.to_toml().contains("tell nobody") && !format!("{config:?}").contains("tell nobody"));
    }

    #[test]
    fn an_unknown_key_is_an_error() {
        let error = effective("[log]\nretention_huors = 7".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("retention_huors"), "{error}");
    }

    #[test]
    fn the_environment_speaks_toml_or_text() {
        let variables = [("ROOKERY__LOG__RETENTION_HOURS", "7"), ("ROOKERY__DATA", "/tmp/x"), ("HOME", "/")];
        let config = load_from("", &variables).unwrap();
        assert_eq!(config.log.retention_hours(), 7);
        assert_eq!(config.data, Path::new("/tmp/x"));
    }

    #[test]
    fn a_text_stays_as_it_is_though_it_could_be_toml() {
        let file = "[analytics]\ntype = 'clickhouse'\nurl = 'http://a:8123'\nranges = { servers = ['nats://b:4222'] }";
        for password in ["12345678", "true", "\"abc\"", "['a']", "1979-05-27", ""] {
            let config = load_from(file, &[("ROOKERY__ANALYTICS__PASSWORD", password)]).unwrap();
            let analytics::Config::Clickhouse { password: taken, .. } = config.analytics else {
                panic!("it is ClickHouse")
            };
            assert_eq!(taken.unwrap().expose(), password);
        }
        assert_eq!(load_from("", &[("ROOKERY__DATA", "7")]).unwrap().data, Path::new("7"));
        assert_eq!(load_from("", &[("ROOKERY__EDGE__AUTH__ISSUER", "7")]).unwrap().edge.auth.issuer, "7");
    }

    /// Every key that a store on servers has, with values of their types.
    const ON_SERVERS: &str = r#"
        [log]
        type = "jetstream"
        servers = ["nats://a:4222"]
        name = "a"
        credentials = "a"
        shards = 8
        replicas = 3
        [directory]
        type = "postgres"
        url = "a"
        replica_url = "a"
        max_connections = 1
        [history]
        type = "scylla"
        nodes = ["a"]
        keyspace = "a"
        local_datacenter = "a"
        username = "a"
        password = "a"
        replication = { eu = 3 }
        request_timeout_ms = 1
        [analytics]
        type = "clickhouse"
        url = "a"
        database = "a"
        user = "a"
        password = "a"
        replicated = true
        [analytics.ranges]
        servers = ["a"]
        name = "a"
        credentials = "a"
        replicas = 1
        [blobs]
        type = "s3"
        endpoint = "a"
        region = "a"
        bucket = "a"
        access_key_id = "a"
        secret_access_key = "a"
        path_style = true
        public_endpoint = "a"
        [telemetry.otlp]
        endpoint = "http://a"
        sample_ratio = 0.1
        [operations]
        listen = "127.0.0.1:1""#;

    #[test]
    fn each_key_of_a_store_on_servers_may_come_from_the_environment_alone() {
        let file: Table = ON_SERVERS.parse().unwrap();
        let mut variables = Vec::new();
        name_leaves(&file, "ROOKERY", &mut variables);
        let pairs: Vec<Pair<'_>> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let config = load_from("", &pairs).unwrap();
        assert_eq!(config.to_toml(), load_from(ON_SERVERS, &[]).unwrap().to_toml());
        // Whatever is a text takes digits.
        let digits: Vec<Pair<'_>> =
            pairs.iter().map(|(name, value)| (*name, if *value == "a" { "7" } else { value })).collect();
        load_from("", &digits).unwrap();
    }

    /// The variables that say what the table does.
    fn name_leaves(table: &Table, path: &str, variables: &mut Vec<(String, String)>) {
        for (key, value) in table {
            let path = format!("{path}__{}", key.to_uppercase());
            match value {
                Value::Table(below) if key != "replication" => name_leaves(below, &path, variables),
                Value::String(text) => variables.push((path, text.clone())),
                value => variables.push((path, value.to_string())),
            }
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let over = "[directory]\ntype = 'postgres'\nurl = 'postgres://rook:sesame@db/rookery'\nreplica_url = '7'";
        let printed = effective(over.parse().unwrap()).unwrap().to_toml();
        assert!(printed.contains("\nurl = \"***\"") && !printed.contains("sesame"), "{printed}");
        let over = "[log]\ntype = 'jetstream'\nservers = ['nats://rook:sesame@a:4222', 'tls://sesame@b']\n[analytics]\n\
                    type = 'clickhouse'\nurl = 'http://c'\nranges = { servers = ['nats://rook:sesame@d'] }";
        let printed = effective(over.parse().unwrap()).unwrap().to_toml();
        for shown in ["\"nats://***@a:4222\"", "\"tls://***@b\"", "\"nats://***@d\""] {
            assert!(printed.contains(shown) && !printed.contains("sesame"), "{printed}");
        }
    }

    #[test]
    fn a_platforms_port_is_taken_unless_more_is_said() {
        let listen = |file: &str, variables: &[Pair<'_>]| {
            load_from(file, variables).map(|config| config.edge.listen.to_string())
        };
        assert_eq!(listen("", &[("PORT", "5000")]).unwrap(), "0.0.0.0:5000");
        assert_eq!(listen("", &[("PORT", "")]).unwrap(), "127.0.0.1:8080");
        assert_eq!(listen("[edge]\nlisten = '127.0.0.1:81'", &[("PORT", "5000")]).unwrap(), "127.0.0.1:81");
        let both = [("PORT", "5000"), ("ROOKERY__EDGE__LISTEN", "127.0.0.1:80")];
        assert_eq!(listen("", &both).unwrap(), "127.0.0.1:80");
        assert!(format!("{:#}", listen("", &[("PORT", "http")]).unwrap_err()).contains("PORT"));
    }

    #[test]
    fn a_named_file_that_is_missing_is_an_error() {
        let args = Args::parse_from(["rookery", "--config", "/nowhere/rookery.toml"]);
        assert!(format!("{:#}", load(&args).unwrap_err()).contains("/nowhere/rookery.toml"));
    }
}
