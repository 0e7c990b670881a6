//! The built-in page and the page of the documentation: files in the program, served with a strict policy.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::RawPathParams;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

use crate::{ApiError, Edge};

/// Scripts, styles and connections of this origin alone; pictures from where users have them, over TLS.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; img-src 'self' data: blob: https:; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'none'; object-src 'none'",
);

/// The files of `web/`.
static WEB: LazyLock<BTreeMap<&str, Asset>> = LazyLock::new(|| {
    let files: &[(&str, &'static [u8])] = include!(concat!(env!("OUT_DIR"), "/web.rs"));
    files.iter().map(|(name, bytes)| (*name, Asset::new(content_type(name), Bytes::from_static(bytes)))).collect()
});

/// The documentation.
pub(crate) static DOCS: LazyLock<Asset> = LazyLock::new(|| file("docs.html", include_bytes!("page/docs.html")));
/// Its style.
pub(crate) static DOCS_CSS: LazyLock<Asset> = LazyLock::new(|| file("docs.css", include_bytes!("page/docs.css")));
/// Its script.
pub(crate) static DOCS_JS: LazyLock<Asset> = LazyLock::new(|| file("docs.js", include_bytes!("page/docs.js")));
/// The description of the WebSocket's frames.
pub(crate) static ASYNCAPI: LazyLock<Asset> = LazyLock::new(|| file("asyncapi.json", include_bytes!("asyncapi.json")));

pub(crate) fn router() -> Router<Arc<Edge>> {
    Router::new().route("/", get(index)).route("/web/{file}", get(web_file))
}

async fn index(headers: HeaderMap) -> Result<Response, ApiError> {
    find("index.html", &headers)
}

async fn web_file(params: RawPathParams, headers: HeaderMap) -> Result<Response, ApiError> {
    let name = params.iter().next().map(|(_, name)| name).unwrap_or_default();
    find(name, &headers)
}

fn find(name: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let asset = WEB.get(name).ok_or_else(ApiError::not_found)?;
    Ok(asset.answer(headers))
}

fn file(name: &str, bytes: &'static [u8]) -> Asset {
    Asset::new(content_type(name), Bytes::from_static(bytes))
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("json" | "webmanifest") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    }
}

/// A file in the program. Browsers ask each time whether theirs is still the one.
pub(crate) struct Asset {
    content_type: &'static str,
    bytes: Bytes,
    etag: HeaderValue,
}

impl Asset {
    pub(crate) fn new(content_type: &'static str, bytes: Bytes) -> Self {
        let digest = Sha256::digest(&bytes);
        let hex: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let etag = HeaderValue::try_from(format!("\"{hex}\""));
        let etag = etag.unwrap_or_else(|error| unreachable!("hexadecimal digits fit into a header: {error}"));
        Self { content_type, bytes, etag }
    }

    /// The file, or 304 for a client that has it.
    pub(crate) fn answer(&self, headers: &HeaderMap) -> Response {
        let common: [(HeaderName, HeaderValue); 3] = [
            (header::ETAG, self.etag.clone()),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::CONTENT_SECURITY_POLICY, POLICY),
        ];
        let has_it = headers.get_all(header::IF_NONE_MATCH).iter().any(|value| self.is_named_by(value));
        if has_it {
            return (StatusCode::NOT_MODIFIED, common).into_response();
        }
        (common, [(header::CONTENT_TYPE, self.content_type)], self.bytes.clone()).into_response()
    }

    fn is_named_by(&self, value: &HeaderValue) -> bool {
        let mut tags = value.to_str().unwrap_or_default().split(',').map(str::trim);
        tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == self.etag.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_the_page_asks_for_is_there() {
        for (name, asset) in WEB.iter() {
            let text = String::from_utf8_lossy(&asset.bytes);
            let wanted = text.split("\"/web/").skip(1).filter_map(|rest| rest.split('"').next());
            for file in wanted {
                assert!(WEB.contains_key(file), "{name} asks for {file}");
            }
        }
        assert!(WEB.contains_key("index.html"));
    }

    #[test]
    fn every_file_has_a_type_that_browsers_know() {
        for (name, asset) in WEB.iter() {
            assert_ne!(asset.content_type, "application/octet-stream", "{name}");
        }
    }
}
