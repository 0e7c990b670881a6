//! The configuration: defaults < `rookery.toml` < environment < command line. Each crate owns its part; this
//! is the one file that reads the environment.
//!
//! `ROOKERY__EDGE__LISTEN=0.0.0.0:80` sets `listen` in `[edge]`. `PORT`, as hosting platforms set it, is taken
//! when nothing more precise is said. A key that nobody knows is an error, not a surprise.

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

    /// This configuration as it may be shown.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        let mut shown = self.clone();
        let headers = shown.telemetry.otlp.iter_mut().flat_map(|otlp| otlp.headers.values_mut());
        headers.for_each(|value| HIDDEN.clone_into(value));
        shown
    }
}

/// What stands for a secret.
const HIDDEN: &str = "(hidden)";

/// The file that is read when none is named, if it is there.
const DEFAULT_FILE: &str = "rookery.toml";
/// What the names of our variables begin with.
const PREFIX: &str = "ROOKERY__";

/// The effective configuration of a command line.
///
/// # Errors
/// When the named file is missing, is not TOML, or sets a key that nobody knows.
pub fn load(args: &Args) -> anyhow::Result<Config> {
    let mut table = Table::try_from(Config::default()).context("the defaults have no TOML")?;
    if let Some((path, text)) = read_file(args.config.as_deref())? {
        let file = text.parse::<Table>().with_context(|| format!("{} is not TOML", path.display()))?;
        merge(&mut table, file);
    }
    merge(&mut table, from_environment(environment())?);
    let mut config: Config = Value::Table(table).try_into().context("the configuration does not hold together")?;
    if let Some(data) = &args.data {
        config.data.clone_from(data);
    }
    if let Some(listen) = args.listen {
        config.edge.listen = listen;
    }
    Ok(config)
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

fn from_environment(variables: impl Iterator<Item = (OsString, OsString)>) -> anyhow::Result<Table> {
    let mut table = Table::new();
    let mut port = None;
    // Sorted, so that `…__TYPE` beside other keys of its table gives the same result on every run.
    let variables: std::collections::BTreeMap<_, _> = variables.collect();
    for (name, value) in variables {
        let Some(name) = name.to_str() else { continue };
        let is_ours = name.starts_with(PREFIX);
        if !is_ours && name != "PORT" {
            continue;
        }
        let value = value.into_string().ok().with_context(|| format!("{name} is not UTF-8"))?;
        if let Some(path) = name.strip_prefix(PREFIX) {
            insert(&mut table, &path.to_lowercase(), &value).with_context(|| format!("{name} cannot be set"))?;
        } else {
            port = Some(value);
        }
    }
    if let Some(port) = port {
        let edge = table.entry("edge").or_insert_with(|| Table::new().into());
        let edge = edge.as_table_mut().context("ROOKERY__EDGE is no table")?;
        edge.entry("listen").or_insert_with(|| format!("0.0.0.0:{port}").into());
    }
    Ok(table)
}

/// Sets `history__type` to a value, which is TOML where it can be (`5`, `true`, `["a"]`) and else a string.
fn insert(table: &mut Table, path: &str, value: &str) -> anyhow::Result<()> {
    let Some((head, rest)) = path.split_once("__") else {
        if path.is_empty() {
            bail!("a part of its name is empty");
        }
        let parsed = format!("value = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
        table.insert(path.to_owned(), parsed.unwrap_or_else(|| value.into()));
        return Ok(());
    };
    let below = table.entry(head).or_insert_with(|| Table::new().into());
    insert(below.as_table_mut().context("it lies below a value")?, rest, value)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> anyhow::Result<Table> {
        from_environment(pairs.iter().map(|(name, value)| (name.into(), value.into())))
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
    fn a_part_of_a_store_may_be_set_alone() {
        let config = effective("[log]\nretention_hours = 7".parse().unwrap()).unwrap();
        assert_eq!((config.log.retention_hours(), config.log.duplicate_window_seconds()), (7, 120));
    }

    #[test]
    fn a_collectors_headers_are_not_shown() {
        let file = "[telemetry.otlp]\nendpoint = \"http://127.0.0.1:4318\"\nsample_ratio = 0.1\nheaders = { key = \"secret\" }";
        let config = effective(file.parse().unwrap()).unwrap();
        assert!(config.to_toml().contains("secret"));
        let shown = config.without_secrets().to_toml();
        assert!(shown.contains("key = \"(hidden)\"") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn analytics_may_stand_in_clickhouse_and_its_password_is_never_printed() {
        let file = "[analytics]\ntype = 'clickhouse'\nurl = 'http://a:8123'\nranges = { servers = ['nats://b:4222'] }";
        let mut over: Table = file.parse().unwrap();
        let password = variables(&[("ROOKERY__ANALYTICS__PASSWORD", "tell nobody")]).unwrap();
        merge(&mut over, password);
        let config = effective(over).unwrap();
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
        let table =
            variables(&[("ROOKERY__LOG__RETENTION_HOURS", "7"), ("ROOKERY__DATA", "/tmp/x"), ("HOME", "/")]).unwrap();
        let config = effective(table).unwrap();
        assert_eq!(config.log.retention_hours(), 7);
        assert_eq!(config.data, Path::new("/tmp/x"));
    }

    #[test]
    fn secrets_are_not_printed() {
        let over = "[directory]\ntype = 'postgres'\nurl = 'postgres://rook:sesame@db/rookery'\nreplica_url = '7'";
        let printed = effective(over.parse().unwrap()).unwrap().to_toml();
        assert!(printed.contains("\nurl = \"***\"") && !printed.contains("sesame"), "{printed}");
    }

    #[test]
    fn a_platforms_port_is_taken_unless_more_is_said() {
        let config = effective(variables(&[("PORT", "5000")]).unwrap()).unwrap();
        assert_eq!(config.edge.listen.to_string(), "0.0.0.0:5000");
        let config =
            effective(variables(&[("PORT", "5000"), ("ROOKERY__EDGE__LISTEN", "127.0.0.1:80")]).unwrap()).unwrap();
        assert_eq!(config.edge.listen.to_string(), "127.0.0.1:80");
    }

    #[test]
    fn a_named_file_that_is_missing_is_an_error() {
        let args = Args::parse_from(["rookery", "--config", "/nowhere/rookery.toml"]);
        assert!(format!("{:#}", load(&args).unwrap_err()).contains("/nowhere/rookery.toml"));
    }
}
