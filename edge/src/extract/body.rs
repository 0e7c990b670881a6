//! JSON bodies: bounded in size, time and depth, and refused with a pointer to what is wrong.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_path_to_error::Segment;

use crate::error::FieldError;
use crate::{ApiError, Edge};

/// The longest detail that is told of a fault, in characters: it may quote the request.
const DETAIL_CHARACTERS: usize = 300;

/// A JSON body. What is no JSON is 400; JSON of another shape, with unknown fields too, is 422.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<Edge>> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, edge: &Arc<Edge>) -> Result<Self, ApiError> {
        let limits = &edge.config.limits;
        if !is_json(request.headers()) {
            return Err(ApiError::unsupported_type("application/json"));
        }
        let arriving = read(request.into_body(), limits.body_bytes);
        let bytes = tokio::time::timeout(Duration::from_secs(limits.body_seconds), arriving)
            .await
            .unwrap_or_else(|_| Err(ApiError::too_slow()))?;
        parse(&bytes).map(Self)
    }
}

/// `application/json`, or another type that is JSON by its name.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

async fn read(body: Body, limit_bytes: usize) -> Result<Bytes, ApiError> {
    let is_known_too_large = body.size_hint().lower() > limit_bytes as u64;
    if is_known_too_large {
        return Err(ApiError::too_large(limit_bytes));
    }
    match Limited::new(body, limit_bytes).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::too_large(limit_bytes)),
        Err(_) => Err(ApiError::malformed("the body broke off")),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // Fields would be taken in order from a list, too. A list is no object.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(ApiError::invalid("", "must be an object"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let pointer = pointer(error.path());
        refuse(pointer, error.inner())
    })?;
    json.end().map_err(|error| refuse(String::new(), &error))?;
    Ok(value)
}

fn refuse(mut pointer: String, error: &serde_json::Error) -> ApiError {
    let detail: String = error.to_string().chars().take(DETAIL_CHARACTERS).collect();
    if error.classify() != Category::Data {
        return ApiError::malformed(detail);
    }
    if let Some(field) = named_field(&detail) {
        let step = format!("/{}", escape(field));
        if !pointer.ends_with(&step) {
            pointer.push_str(&step);
        }
    }
    ApiError::invalid_fields(vec![FieldError { pointer, detail }])
}

/// The field that the fault is about, where it is one of the object and not of a value in it.
fn named_field(detail: &str) -> Option<&str> {
    let rest = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|start| detail.strip_prefix(start))?;
    rest.split_once('`').map(|(field, _)| field)
}

/// The JSON pointer (RFC 6901) of a place.
fn pointer(path: &serde_path_to_error::Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&format!("/{}", escape(key))),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

fn escape(key: &str) -> String {
    let key: String = key.chars().take(DETAIL_CHARACTERS).collect();
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[expect(dead_code, reason = "only read in")]
        list: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only read in")]
        count: u8,
    }

    #[tokio::test]
    async fn a_fault_is_pointed_at() {
        for (body, pointer) in [
            (r#"{"list":[{"count":1},{"count":"x"}]}"#, "/list/1/count"),
            (r#"{"list":[{"count":300}]}"#, "/list/0/count"),
            (r#"{"list":[{}]}"#, "/list/0/count"),
            (r#"{"list":[{"count":1,"other":2}]}"#, "/list/0/other"),
            (r#"{"list":[{"count":1,"count":1}]}"#, "/list/0/count"),
            (r#"{"list":7}"#, "/list"),
            (r#"{"a/b~":1}"#, "/a~1b~0"),
            ("{}", "/list"),
            (" [[]]", ""),
            ("7", ""),
        ] {
            let error = parse::<Outer>(body.as_bytes()).unwrap_err();
            assert_eq!((error.code(), error.pointers()), ("invalid", vec![pointer]), "{body}: {}", error.detail());
        }
    }

    #[test]
    fn what_is_no_json_is_malformed() {
        let deep = r#"{"list":"#.repeat(50_000);
        for body in [b"".as_slice(), b"{", b"{}x", b"{\"\xff\":1}", b"{\"list\":[", deep.as_bytes(), b"nul"] {
            assert_eq!(parse::<serde_json::Value>(body).unwrap_err().code(), "malformed");
        }
    }

    #[test]
    fn the_body_must_be_called_json() {
        for (value, wanted) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/vnd.rookery+json", true),
            ("text/plain", false),
            ("text/json", false),
            ("application/jsonp", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]);
            assert_eq!(is_json(&headers), wanted, "{value}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
