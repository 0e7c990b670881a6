//! The documents: the description of the API, the default configuration, the pages.

use std::collections::BTreeSet;

use axum::body::Body;
use http::{Method, Request, header};
use insta::assert_json_snapshot;
use serde_json::Value;

use crate::attachments::MEDIA_TYPE_BYTES;
use crate::config::{AttachmentsConfig, Config, LimitsConfig};
use crate::hub::{GOING_AWAY, MAX_WATCHED, SIGNED_OUT, TOO_MANY, TOO_SLOW};
use crate::posting::content::MAX_MENTIONS;
use crate::tests::harness::{App, sorted};
use crate::tests::strangers::operations;
use crate::validate::{LINK_BYTES, PASSWORD_CHARACTERS, USERNAME_CHARACTERS};
use crate::ws::{request, rewind};

/// What people read about the API.
const DOCUMENT: &str = include_str!("../../../docs/API.md");

fn live() -> Value {
    serde_json::from_str(include_str!("../asyncapi.json")).unwrap()
}

/// What stands below a heading of the document.
fn section(heading: &str) -> &'static str {
    let begun = DOCUMENT.split(&format!("\n## {heading}\n")).nth(1).unwrap();
    begun.split("\n## ").next().unwrap()
}

/// The cells of every table in a text, headings and rules left out.
fn cells(text: &'static str) -> Vec<Vec<&'static str>> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    rows.map(|row| row.split('|').map(str::trim).collect()).collect()
}

/// A number with commas between its thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn the_description_is_as_agreed() {
    assert_json_snapshot!(sorted(&serde_json::to_value(crate::openapi()).unwrap()));
}

#[test]
fn the_default_configuration_is_as_documented() {
    assert_json_snapshot!(Config::default());
}

#[test]
fn a_configuration_with_an_unknown_key_is_refused() {
    for json in [r#"{"nonsense":1}"#, r#"{"limits":{"nonsense":1}}"#, r#"{"region":{"number":4096}}"#] {
        assert!(serde_json::from_str::<Config>(json).is_err(), "{json}");
    }
    assert_eq!(serde_json::from_str::<Config>("{}").unwrap(), Config::default());
}

#[test]
fn every_operation_is_named_tagged_and_told_of() {
    let mut names = BTreeSet::new();
    for operation in operations() {
        let told = &operation.description;
        let name = told["operationId"].as_str().unwrap().to_owned();
        assert!(names.insert(name.clone()), "{name} twice");
        assert_eq!(told["tags"].as_array().map(Vec::len), Some(1), "{name}");
        assert!(told["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{name}");
        let answers: BTreeSet<&str> = told["responses"].as_object().unwrap().keys().map(String::as_str).collect();
        assert!(answers.contains("429") && answers.contains("503"), "{name}");
        assert_eq!(operation.needs_token(), answers.contains("401") && operation.needs_token(), "{name}");
        assert!(!operation.has_body() || answers.is_superset(&["400", "413", "415", "422"].into()), "{name}");
        assert!(!operation.path.contains('{') || answers.contains("404"), "{name}");
    }
}

#[test]
fn every_reference_of_the_description_leads_somewhere() {
    let description = serde_json::to_value(crate::openapi()).unwrap();
    let text = description.to_string();
    let references: BTreeSet<&str> =
        text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(references.len() > 20);
    for reference in references {
        assert!(description.pointer(reference).is_some(), "{reference}");
    }
    assert_eq!(description["openapi"], "3.1.0");
}

/// The limits as the document writes them.
fn limits() -> Vec<(&'static str, String)> {
    let limits = LimitsConfig::default();
    let attachments = AttachmentsConfig::default();
    let characters = |count| format!("{} characters", grouped(count));
    let between = |range: std::ops::RangeInclusive<usize>| format!("{} to {} characters", range.start(), range.end());
    let kib = |bytes: usize| format!("{} KiB", grouped(bytes / 1024));
    let rate = |rate, burst| format!("{rate} per second, burst {burst}");
    let per_minute = |rate: u32| format!("{rate} per minute");
    vec![
        ("Text of a message", characters(limits.text_characters)),
        ("Name of a user or a group", characters(limits.name_characters)),
        ("User name", between(USERNAME_CHARACTERS)),
        ("Password", between(PASSWORD_CHARACTERS)),
        ("Link to an image, a video or a picture", format!("{} bytes", grouped(LINK_BYTES))),
        ("Users in `mentions`", MAX_MENTIONS.to_string()),
        ("`ref` of a frame", format!("{} bytes", request::REF_BYTES)),
        ("Body of a request", kib(limits.body_bytes)),
        ("Frame from a client", kib(limits.frame_bytes)),
        ("Attachment", format!("{} MiB", attachments.max_bytes / 1024 / 1024)),
        ("Uploads at once of one user", attachments.uploads_at_once_per_user.to_string()),
        (
            "Uploads by link of one user that are not completed; they are given up after a day",
            grouped(directory::MAX_OPEN_UPLOADS),
        ),
        ("`content_type` of a file", format!("{MEDIA_TYPE_BYTES} visible ASCII characters")),
        ("Members added by one request", grouped(directory::MAX_ADDED_AT_ONCE)),
        ("Members of a group", grouped(directory::MAX_MEMBERS)),
        ("Groups of a user", grouped(directory::MAX_GROUPS_PER_USER)),
        ("User names that a user has and has had", grouped(directory::MAX_USERNAMES_PER_USER)),
        (
            "Sessions of a user; another log-in ends the one refreshed longest ago",
            grouped(directory::MAX_SESSIONS_PER_USER),
        ),
        (
            "Names that a search looks through; user names are searched without a limit",
            grouped(directory::MAX_NAMES_SEARCHED),
        ),
        ("Users watched by one socket", MAX_WATCHED.to_string()),
        ("Requests and frames of one user", rate(limits.requests_per_second_per_user, limits.request_burst_per_user)),
        (
            "Requests of one address without a valid token",
            rate(limits.requests_per_second_per_address, limits.request_burst_per_address),
        ),
        (
            "Registrations, log-ins and password changes from one address",
            per_minute(limits.sign_ins_per_minute_per_address),
        ),
        ("Refreshes from one address that fail", per_minute(limits.sign_ins_per_minute_per_address)),
        ("Refreshes of one session", per_minute(limits.refreshes_per_minute_per_session)),
        ("Wrong passwords for one login", per_minute(limits.wrong_passwords_per_minute_per_account)),
        ("Live connections of one user", limits.connections_per_user.to_string()),
        ("Sends of one socket waiting for the log", limits.sends_in_flight.to_string()),
        ("Bytes waiting for a slow client", kib(limits.outbox_bytes)),
        ("Events of one conversation in a resume", grouped(rewind::MAX_EVENTS)),
    ]
}

#[test]
fn the_limits_are_as_documented() {
    let table = cells(section("Limits"));
    let told: Vec<(&str, String)> = table.iter().skip(1).map(|row| (row[0], row[1].to_owned())).collect();
    assert_eq!(told, limits());
    let config = serde_json::to_value(Config::default()).unwrap();
    for setting in table.iter().skip(1).flat_map(|row| row[2].split('`').skip(1).step_by(2)) {
        let name = setting.rsplit('.').next().unwrap();
        let part = if setting.contains(".attachments.") { "attachments" } else { "limits" };
        assert!(config[part].get(name).is_some(), "{setting}");
    }
}

#[test]
fn every_close_code_is_documented_and_described() {
    let codes =
        [1000, GOING_AWAY, 1002, 1003, 1007, 1008, 1009, SIGNED_OUT, TOO_SLOW, TOO_MANY].map(|code| code.to_string());
    let rows = cells(section("Live: `GET /v1/ws`"));
    let told: Vec<&str> = rows.iter().map(|row| row[0]).filter(|cell| cell.parse::<u16>().is_ok()).collect();
    assert_eq!(told, codes);
    let live = live();
    let described: Vec<&String> = live["channels"]["live"]["x-close-codes"].as_object().unwrap().keys().collect();
    assert_eq!(described, codes.iter().collect::<Vec<_>>());
}

#[test]
fn the_frames_that_the_document_shows_have_the_fields_that_are_described() {
    let live = live();
    let frames =
        section("Live: `GET /v1/ws`").split("```json\n").skip(1).map(|block| block.split("```").next().unwrap());
    let mut shown = Vec::new();
    for frame in frames {
        let frame: Value = serde_json::from_str(frame).unwrap();
        let name = frame["type"].as_str().unwrap();
        let payload = live["components"]["messages"][name]["payload"]["$ref"].as_str().unwrap();
        let schema = live.pointer(payload.trim_start_matches('#')).unwrap();
        let fields: BTreeSet<&String> = frame.as_object().unwrap().keys().collect();
        assert_eq!(fields, schema["properties"].as_object().unwrap().keys().collect(), "{name}");
        shown.push(name.to_owned());
    }
    assert_eq!(shown, ["hello", "event"]);
}

#[test]
fn every_reference_of_the_frames_description_leads_somewhere() {
    let live = live();
    let text = live.to_string();
    let references: BTreeSet<&str> =
        text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(references.len() > 40);
    for reference in references {
        assert!(live.pointer(reference).is_some(), "{reference}");
    }
    assert_eq!(live["asyncapi"], "3.0.0");
    assert_eq!(live["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn the_pages_are_served_with_a_strict_policy_and_asked_for_again() {
    let app = App::start().await;
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/web/index.html", "text/html; charset=utf-8"),
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/docs.css", "text/css; charset=utf-8"),
        ("/docs/docs.js", "text/javascript; charset=utf-8"),
        ("/openapi.json", "application/json"),
        ("/asyncapi.json", "application/json"),
    ] {
        let page = app.call(Method::GET, path, None, None).await;
        assert_eq!(
            (page.status.as_u16(), page.headers[header::CONTENT_TYPE].as_bytes()),
            (200, content_type.as_bytes())
        );
        let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(page.headers[header::CACHE_CONTROL], "no-cache");
        assert!(!page.body.is_empty());

        let tag = &page.headers[header::ETAG];
        let again = Request::get(path).header(header::IF_NONE_MATCH, format!("\"other\", W/{}", tag.to_str().unwrap()));
        let again = app.send(again.body(Body::empty()).unwrap()).await;
        assert_eq!((again.status.as_u16(), again.body.len(), &again.headers[header::ETAG]), (304, 0, tag), "{path}");
    }
}

#[test]
fn the_pages_ask_nobody_else_for_anything() {
    for text in [include_str!("../page/docs.html"), include_str!("../page/docs.css"), include_str!("../page/docs.js")] {
        assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("innerHTML"));
    }
}
