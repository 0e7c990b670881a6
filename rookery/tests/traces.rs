//! Traces of the real program, as a collector gets them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "traces/collector.rs"]
mod collector;

use std::time::{Duration, Instant};

use collector::{Collector, attribute};
use opentelemetry_proto::tonic::trace::v1::Span;
use rookery::telemetry::Otlp;
use serde_json::json;
use tempfile::TempDir;
use testkit::{Client, Process};
use tokio::net::TcpListener;

const PROGRAM: &str = env!("CARGO_BIN_EXE_rookery");
const TRACE: [u8; 16] = [0xab; 16];
const CALLER: [u8; 8] = [0xcd; 8];
/// What an event's way leaves behind, whatever sent it.
const BEHIND_THE_LOG: [&str; 3] = ["fan-out", "ingest.store", "analytics.record"];
/// Nothing else anywhere looks like this.
const TEXT: &str = "the quick brown rook";

/// The program, whose traces go to this endpoint.
async fn start(folder: &TempDir, endpoint: &str, sample_ratio: f64) -> Process {
    let headers = [("x-key".to_owned(), "for the collector".into())].into();
    let otlp = Otlp { endpoint: endpoint.to_owned(), sample_ratio, headers };
    Process::start_with(PROGRAM, &folder.path().join("data"), |config| config.telemetry.otlp = Some(otlp)).await
}

fn traceparent(sampled: bool) -> String {
    format!("00-{}-{}-0{}", "ab".repeat(16), "cd".repeat(8), u8::from(sampled))
}

fn find<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "one `{name}` among {:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>());
    found[0]
}

async fn two_in_a_group(process: &Process) -> (Client, Client, String) {
    let ada = process.client().register("ada").await;
    let ben = process.client().register("ben").await;
    let group = ada.create_group("rooks", &[&ben]).await;
    (ada, ben, group)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_followed_from_the_callers_span_to_history_and_counts() {
    let (folder, collector) = (tempfile::tempdir().unwrap(), Collector::start().await);
    // Nothing but what a caller asks for.
    let process = start(&folder, &collector.endpoint(), 0.0).await;
    let (ada, ben, group) = two_in_a_group(&process).await;
    let mut socket = ben.connect().await;
    let path = format!("/v1/conversations/{group}/messages");
    let traced = ada.with_header("traceparent", &traceparent(true));
    let message = traced.post(&path, json!({"text": TEXT})).await.expect(201);
    socket.next_event("message").await;

    let request = "POST /v1/conversations/{conversation}/messages";
    let mut names = vec![request, "send", "append"];
    names.extend(BEHIND_THE_LOG);
    let spans = collector.wait(&TRACE, &names).await;
    assert_eq!(find(&spans, request).parent_span_id, CALLER);
    assert_eq!(find(&spans, "send").parent_span_id, find(&spans, request).span_id);
    assert_eq!(find(&spans, "append").parent_span_id, find(&spans, "send").span_id);
    for name in BEHIND_THE_LOG {
        assert_eq!(find(&spans, name).parent_span_id, find(&spans, "append").span_id, "{name}");
    }
    assert_eq!(attribute(find(&spans, "send"), "event").as_deref(), message["id"].as_str());
    assert_eq!(attribute(find(&spans, "send"), "conversation.kind").as_deref(), Some("group"));
    assert_eq!(attribute(find(&spans, "fan-out"), "receivers").as_deref(), Some("1"));
    assert_eq!(attribute(find(&spans, request), "http.response.status_code").as_deref(), Some("201"));
    assert_eq!(collector.spans().len(), spans.len(), "nothing else was recorded");
    assert!(!collector.has_seen(TEXT), "a message's text is in no span");
    assert!(collector.heads().iter().all(|head| head.contains("x-key: for the collector")), "{:?}", collector.heads());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_a_websocket_begins_a_trace_and_a_caller_may_ask_for_none() {
    let (folder, collector) = (tempfile::tempdir().unwrap(), Collector::start().await);
    let process = start(&folder, &collector.endpoint(), 1.0).await;
    let (ada, ben, _) = two_in_a_group(&process).await;
    let unrecorded = ada.with_header("traceparent", &traceparent(false));
    let direct = format!("@{}", ben.id());
    unrecorded.post(&format!("/v1/conversations/{direct}/messages"), json!({"text": TEXT})).await.expect(201);

    let (mut sender, mut receiver) = (ada.connect().await, ben.connect().await);
    let mut ids = [ada.id(), ben.id()];
    ids.sort_unstable();
    let ack = sender.send_text(&ids.join("~"), TEXT).await;
    receiver.next_event("message").await;
    let event = ack["id"].as_str();
    let send = testkit::eventually("the send's span comes", || async {
        collector.spans().into_iter().find(|span| span.name == "send" && attribute(span, "event").as_deref() == event)
    })
    .await;
    assert!(send.parent_span_id.is_empty(), "it is the first of its trace");
    let spans = collector.wait(&send.trace_id, &BEHIND_THE_LOG).await;
    assert_eq!(find(&spans, "append").parent_span_id, send.span_id);
    // Handed to the receiver's and to the sender's socket, by two topics, and told of once.
    assert_eq!(attribute(find(&spans, "fan-out"), "receivers").as_deref(), Some("2"));
    assert_eq!(attribute(find(&spans, "ingest.store"), "conversation.kind").as_deref(), Some("direct"));
    assert_eq!(collector.trace(&TRACE), [], "the earlier message was not to be recorded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_end_sends_the_last_spans() {
    let (folder, collector) = (tempfile::tempdir().unwrap(), Collector::start().await);
    let process = start(&folder, &collector.endpoint(), 0.0).await;
    let (ada, _, group) = two_in_a_group(&process).await;
    let traced = ada.with_header("traceparent", &traceparent(true));
    traced.post(&format!("/v1/conversations/{group}/messages"), json!({"text": TEXT})).await.expect(201);
    assert!(process.terminate().await.success());
    let spans = collector.trace(&TRACE);
    // These had ended when the answer came; whether ingest took the event before it ended itself is another matter.
    for name in ["send", "append"] {
        find(&spans, name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_down_slows_nobody_and_is_told_of_once() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens here any more.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let process = start(&folder, &format!("http://{address}"), 1.0).await;
    let log = chat_on(&process, || async {
        let log = process.log();
        log.contains("traces are not taken").then_some(())
    })
    .await;
    assert_eq!(log, 1);
    assert!(process.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    // The system takes the connections, and that is all.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let process = start(&folder, &format!("http://{}", silent.local_addr().unwrap()), 1.0).await;
    chat_on(&process, || async { Some(()) }).await;
    let began = Instant::now();
    assert!(process.terminate().await.success());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

/// Sends more than fits into any queue of spans, waits for the condition, sends on, and gives how often the log tells of
/// the collector.
async fn chat_on<F: Future<Output = Option<()>>>(process: &Process, condition: impl FnMut() -> F) -> usize {
    let (ada, _, group) = two_in_a_group(process).await;
    let mut socket = ada.connect().await;
    for number in 0..2_000 {
        socket.send_text(&group, &number.to_string()).await;
    }
    testkit::eventually("the condition holds", condition).await;
    for number in 0..100 {
        socket.send_text(&group, &number.to_string()).await;
    }
    process.log().matches("traces are not taken").count()
}
