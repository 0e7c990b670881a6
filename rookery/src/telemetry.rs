//! Logs, metrics and traces. Logs go to the standard error, one line each; never a message's text, a password or a
//! token. Traces go to a collector, if one is configured.

mod traces;

use std::collections::BTreeSet;
use std::io::IsTerminal;

use anyhow::Context;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

pub use traces::Otlp;
use traces::Traces;

use crate::roles::Role;

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The least severe level, or directives such as `info,edge=debug`.
    pub level: String,
    /// For people or for machines.
    pub format: Format,
    /// Where traces go; nowhere when missing, and then no span is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otlp: Option<Otlp>,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self { level: "info".into(), format: Format::Text, otlp: None }
    }
}

/// What was begun and must be ended.
#[must_use]
pub struct Telemetry {
    traces: Option<Traces>,
}

/// Sends logs to the standard error from now on, and traces where the configuration says. `roles` are those of this
/// process.
///
/// # Errors
/// When the configuration makes no sense, or logs go elsewhere already.
pub fn init(config: &Config, roles: &BTreeSet<Role>) -> anyhow::Result<Telemetry> {
    let traces = config.otlp.as_ref().map(|otlp| Traces::begin(otlp, roles.iter().map(Role::name).collect()));
    let traces = traces.transpose()?;
    tracing_subscriber::registry().with(layers(config, traces.as_ref())?).try_init()?;
    Ok(Telemetry { traces })
}

impl Telemetry {
    /// Sends the traces that wait, within a few seconds.
    pub fn end(self) {
        if let Some(traces) = self.traces {
            traces.end();
        }
    }
}

type Layers = Vec<Box<dyn Layer<Registry> + Send + Sync>>;

/// What hears of spans and events: the log of all that is not a trace's, the collector of nothing else. A span that nobody
/// hears of is not made: where it would be, a static is looked at.
fn layers(config: &Config, traces: Option<&Traces>) -> anyhow::Result<Layers> {
    let level = EnvFilter::try_new(&config.level).with_context(|| format!("telemetry.level {:?}", config.level))?;
    let filter = level.add_directive(format!("{}=off", log::trace::TARGET).parse()?);
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match config.format {
        Format::Text => lines.with_target(false).with_filter(filter).boxed(),
        Format::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    let mut layers = vec![lines];
    if let Some(traces) = traces {
        let only_ours = Targets::new().with_target(log::trace::TARGET, Level::INFO);
        let spans = tracing_opentelemetry::layer().with_tracer(traces.tracer());
        let spans = spans.with_context_activation(false).with_location(false).with_threads(false);
        layers.push(spans.with_tracked_inactivity(false).with_filter(only_ours).boxed());
    }
    Ok(layers)
}

/// Takes this process's metrics from now on, for `/metrics`.
///
/// # Errors
/// When somebody takes them already.
pub fn record_metrics() -> anyhow::Result<PrometheusHandle> {
    PrometheusBuilder::new().install_recorder().context("metrics cannot be recorded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_made(config: &Config, traces: Option<&Traces>) -> bool {
        let subscriber = tracing_subscriber::registry().with(layers(config, traces).unwrap());
        tracing::subscriber::with_default(subscriber, || !log::trace_span!("a").is_disabled())
    }

    #[test]
    fn no_span_is_made_while_nobody_collects_them_whatever_is_logged() {
        for level in ["info", "trace"] {
            let config = Config { level: level.into(), ..Config::default() };
            assert!(!is_made(&config, None), "{level}");
        }
    }

    #[test]
    fn spans_are_made_for_a_collector_also_when_nothing_is_logged() {
        let config = Config { level: "off".into(), ..Config::default() };
        let otlp = Otlp { endpoint: "http://127.0.0.1:1".into(), sample_ratio: 1.0, headers: [].into() };
        let traces = Traces::begin(&otlp, vec![]).unwrap();
        assert!(is_made(&config, Some(&traces)));
    }
}
