//! Spans of one trace on both sides of the log: whoever appends hands its span's place over beside the event, and whoever
//! handles the event later makes spans below it.
//!
//! The spans are `tracing`'s, all of one target, so that one filter decides about them. While nobody collects traces a span
//! is not made at all: a look at a static, and nothing travels. Only traces that are recorded travel.

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use types::{Entry, TraceContext};

/// The target of all spans that are collected as traces, and of nothing else.
pub const TARGET: &str = "rookery::trace";

/// Makes a span to be collected, with a name and fields as `tracing::info_span!` takes them.
#[macro_export]
macro_rules! trace_span {
    ($name:literal $(, $($fields:tt)*)?) => {
        ::tracing::info_span!(target: $crate::trace::TARGET, $name $(, $($fields)*)?)
    };
}

/// Where a span stands, for others to go on from; `None` when its trace is not recorded.
#[must_use]
pub fn context_of(span: &Span) -> Option<TraceContext> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    let ids = (context.trace_id().to_bytes(), context.span_id().to_bytes());
    TraceContext::new(ids.0, ids.1, context.trace_flags().to_u8()).ok().filter(TraceContext::is_sampled)
}

/// Makes a span that has just been made a child of another, which may be another process's.
pub fn follow(span: &Span, parent: TraceContext) {
    if span.is_disabled() {
        return;
    }
    let parent = SpanContext::new(
        TraceId::from_bytes(parent.trace_id()),
        SpanId::from_bytes(parent.span_id()),
        TraceFlags::new(parent.flags()),
        true,
        TraceState::default(),
    );
    let parent = opentelemetry::Context::new().with_remote_span_context(parent);
    if let Err(error) = span.set_parent(parent) {
        tracing::debug!(%error, "a span stands outside its trace");
    }
}

/// A span of each entry whose trace is recorded, below the one that appended it. They end when they are dropped.
#[must_use]
pub fn follow_all(entries: &[Entry], make: impl Fn(&Entry) -> Span) -> Vec<Span> {
    let traced = entries.iter().filter_map(|entry| Some((entry, entry.trace?)));
    let spans = traced.map(|(entry, parent)| {
        let span = make(entry);
        follow(&span, parent);
        span
    });
    spans.filter(|span| !span.is_disabled()).collect()
}

/// Marks a span as failed.
pub fn fail(span: &Span) {
    if !span.is_disabled() {
        span.set_status(opentelemetry::trace::Status::error(""));
    }
}
