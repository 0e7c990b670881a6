//! Logs, metrics and traces. Logs go to the standard error, one line each; never a message's text, a password or a
//! token. Traces go to a collector, if one is configured.

mod traces;

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
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
    /// Sends the traces that wait, within a few seconds, and within what is left of the time to end.
    pub fn end(self, left: Duration) {
        if let Some(traces) = self.traces {
            traces.end(left);
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

/// How often samples are put into their buckets. Until then each takes memory of its own.
const UPKEEP: Duration = Duration::from_secs(5);
/// Durations, in seconds: from a commit on a fast disk to a request that was given up.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// How many were taken at once.
const COUNTS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0];

/// Takes this process's metrics, from now until `shutdown`, for `/metrics`.
///
/// # Errors
/// When somebody takes them already.
pub fn record_metrics(shutdown: CancellationToken) -> anyhow::Result<PrometheusHandle> {
    let handle = recorder()?.install_recorder().context("metrics cannot be recorded")?;
    let kept = handle.clone();
    tokio::spawn(keep_up(move || kept.run_upkeep(), shutdown));
    Ok(handle)
}

/// Fixed buckets, for what several processes say can then be added; quantiles cannot.
fn recorder() -> anyhow::Result<PrometheusBuilder> {
    let seconds = Matcher::Suffix("_seconds".into());
    let builder = PrometheusBuilder::new().set_buckets(&COUNTS)?;
    Ok(builder.set_buckets_for_metric(seconds, &SECONDS)?)
}

/// Runs `upkeep` now and then, whether somebody asks for the metrics or not.
async fn keep_up(upkeep: impl Fn(), shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => upkeep(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const DURATION: &str = "a_seconds";
    const SIZE: &str = "a_size";

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
    fn histograms_have_buckets_which_can_be_added_up() {
        let recorder = recorder().unwrap().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!(DURATION).record(0.003);
            metrics::histogram!(SIZE).record(3.0);
        });
        let rendered = recorder.handle().render();
        for line in
            ["a_seconds_bucket{le=\"0.005\"} 1", "a_seconds_bucket{le=\"0.0025\"} 0", "a_size_bucket{le=\"5\"} 1"]
        {
            assert!(rendered.lines().any(|found| found == line), "{line} is not in {rendered}");
        }
        assert!(!rendered.contains("quantile"), "{rendered}");
    }

    #[tokio::test(start_paused = true)]
    async fn samples_are_looked_after_though_nobody_asks_for_them_until_the_end() {
        let (shutdown, times) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let counted = times.clone();
        let kept = tokio::spawn(keep_up(move || _ = counted.fetch_add(1, Ordering::Relaxed), shutdown.clone()));
        tokio::time::sleep(10 * UPKEEP).await;
        assert!(times.load(Ordering::Relaxed) >= 10);
        shutdown.cancel();
        kept.await.unwrap();
    }

    #[test]
    fn spans_are_made_for_a_collector_also_when_nothing_is_logged() {
        let config = Config { level: "off".into(), ..Config::default() };
        let otlp = Otlp { endpoint: "http://127.0.0.1:1".into(), sample_ratio: 1.0, headers: [].into() };
        let traces = Traces::begin(&otlp, vec![]).unwrap();
        assert!(is_made(&config, Some(&traces)));
    }
}
