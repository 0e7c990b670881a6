//! Traces: spans to an OpenTelemetry collector, over OTLP (protobuf over HTTP).
//!
//! A thread of its own sends them, by a blocking client: it has no runtime that an asynchronous one could use. Requests never
//! wait for it: what does not fit into its queue is let go.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use opentelemetry::trace::TracerProvider;
use opentelemetry::{KeyValue, StringValue, Value};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanData, SpanExporter,
};
use serde::{Deserialize, Serialize};
use types::Secret;

/// Spans that wait to be sent, at most; further ones are let go.
const QUEUE_SPANS: usize = 8_192;
/// Spans that are sent at once, at most.
const BATCH_SPANS: usize = 512;
/// How long spans wait for others to be sent with.
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long the end of the process may wait until the last spans are sent, if it has so much time.
const FLUSH: Duration = Duration::from_secs(3);
/// Where a collector takes traces.
const PATH: &str = "/v1/traces";

/// Where traces go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// The collector's address, such as `http://127.0.0.1:4318`. Plain HTTP: put a collector on the way to one that is far
    /// away.
    pub endpoint: String,
    /// How many of the traces that begin here are recorded, 0.0 to 1.0. One that a caller began is recorded when the caller
    /// says so.
    pub sample_ratio: f64,
    /// Headers of every request to the collector. They may be secrets: `rookery config` does not show their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
}

/// What collects traces, and its end.
pub(super) struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Begins to send. `roles` are the process's, by which processes are told apart.
    ///
    /// # Errors
    /// When the configuration makes no sense. A collector that cannot be reached is no error.
    pub(super) fn begin(config: &Otlp, roles: Vec<&'static str>) -> anyhow::Result<Self> {
        let Otlp { endpoint, sample_ratio, headers } = config;
        if !endpoint.starts_with("http://") {
            bail!("telemetry.otlp.endpoint {endpoint:?} must begin with `http://`");
        }
        if !(0.0..=1.0).contains(sample_ratio) {
            bail!("telemetry.otlp.sample_ratio {sample_ratio} must lie between 0 and 1");
        }
        let endpoint = endpoint.trim_end_matches('/');
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_endpoint(format!("{}{PATH}", endpoint.trim_end_matches(PATH)))
            .with_timeout(TIMEOUT)
            .with_headers(exposed(headers))
            .build()
            .context("telemetry.otlp")?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_SPANS)
            .with_max_export_batch_size(BATCH_SPANS)
            .with_scheduled_delay(GATHER)
            .build();
        let exporter = Reporting { inner: exporter, is_failing: AtomicBool::new(false) };
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let roles: Vec<StringValue> = roles.into_iter().map(StringValue::from).collect();
        let resource = Resource::builder_empty()
            .with_service_name("rookery")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("rookery.roles", Value::Array(roles.into())))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(*sample_ratio))))
            .with_resource(resource)
            .with_span_processor(processor)
            .build();
        Ok(Self { provider })
    }

    /// What makes spans.
    pub(super) fn tracer(&self) -> SdkTracer {
        self.provider.tracer("rookery")
    }

    /// Sends what waits, within a bound.
    pub(super) fn end(&self, left: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSH.min(left)) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

fn exposed(headers: &BTreeMap<String, Secret>) -> HashMap<String, String> {
    headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect()
}

/// Tells of a collector that does not take spans once, and once more when it does again.
#[derive(Debug)]
struct Reporting<E> {
    inner: E,
    is_failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Reporting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let sent = self.inner.export(batch).await;
        let was_failing = self.is_failing.swap(sent.is_err(), Ordering::Relaxed);
        match &sent {
            Ok(()) if was_failing => tracing::info!("traces are taken again"),
            Ok(()) => {}
            Err(error) if !was_failing => {
                tracing::warn!(%error, "traces are not taken; they are let go until they are");
            }
            Err(_) => {}
        }
        let outcome = if sent.is_ok() { "sent" } else { "lost" };
        metrics::counter!("rookery_trace_spans_total", "outcome" => outcome).increment(spans);
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn otlp(endpoint: &str, sample_ratio: f64) -> Otlp {
        Otlp { endpoint: endpoint.into(), sample_ratio, headers: BTreeMap::new() }
    }

    #[test]
    fn what_makes_no_sense_is_told_at_the_start() {
        for (endpoint, ratio) in [("127.0.0.1:4318", 1.0), ("https://a", 1.0), ("http://a", 1.5), ("http://a", -0.1)] {
            assert!(Traces::begin(&otlp(endpoint, ratio), vec![]).is_err(), "{endpoint} {ratio}");
        }
    }
}
