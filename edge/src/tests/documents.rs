//! The documents: the description of the API, the default configuration, the pages.

use std::collections::BTreeSet;

use axum::body::Body;
use http::{Method, Request, header};
use insta::assert_json_snapshot;

use crate::config::Config;
use crate::tests::harness::{App, sorted};
use crate::tests::strangers::operations;

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
