//! What handlers take from a request. Every refusal is an [`ApiError`].
//!
//! Whoever takes a conversation from the path has been let in: the extractors ask [`crate::membership`] first.

mod body;
mod path;
mod query;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use http::request::Parts;
use http::{HeaderMap, header};

pub(crate) use body::Json;
pub(crate) use path::{
    AttachmentParam, ConversationParam, InConversation, MemberParams, MessageParams, OfAttachment, OfMember, OfMessage,
    OfSession, OfUpload, OfUser, SessionParam, ToConversation, UploadParam, UserParam, conversation_of,
};
pub(crate) use query::{Limit, Query};

use crate::auth::Caller;
use crate::{ApiError, Edge};

impl FromRequestParts<Arc<Edge>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, edge: &Arc<Edge>) -> Result<Self, ApiError> {
        if let Some(caller) = parts.extensions.get::<Self>() {
            return Ok(caller.clone());
        }
        let missing = || ApiError::unauthenticated("give the access token as `Authorization: Bearer <token>`");
        edge.tokens.verify(bearer(&parts.headers).ok_or_else(missing)?)
    }
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Where the client is, as far as the proxies between are to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

impl ClientAddress {
    pub(crate) fn of(parts: &Parts, trusted_proxies: usize) -> Self {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
        Self(forwarded_for(&parts.headers, trusted_proxies).or(peer).unwrap_or(Ipv4Addr::LOCALHOST.into()))
    }
}

impl FromRequestParts<Arc<Edge>> for ClientAddress {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, edge: &Arc<Edge>) -> Result<Self, ApiError> {
        Ok(Self::of(parts, edge.config.limits.trusted_proxies))
    }
}

/// The entry of `X-Forwarded-For` that the outermost trusted proxy wrote. What stands before it may be invented.
fn forwarded_for(headers: &HeaderMap, trusted_proxies: usize) -> Option<IpAddr> {
    let from_the_end = trusted_proxies.checked_sub(1)?;
    let lines = headers.get_all("x-forwarded-for").iter().rev().filter_map(|line| line.to_str().ok());
    let entry = lines.flat_map(|line| line.rsplit(',')).nth(from_the_end)?.trim();
    // Some proxies add the port.
    entry.parse().or_else(|_| entry.parse::<SocketAddr>().map(|address| address.ip())).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn an_address_is_believed_as_far_as_proxies_are_trusted() {
        let headers = headers("x-forwarded-for", &["203.0.113.9, 198.51.100.7:4711", "192.0.2.1"]);
        for (trusted, wanted) in
            [(0, None), (1, Some("192.0.2.1")), (2, Some("198.51.100.7")), (3, Some("203.0.113.9")), (4, None)]
        {
            assert_eq!(forwarded_for(&headers, trusted), wanted.map(|text| text.parse().unwrap()), "{trusted}");
        }
    }

    #[test]
    fn only_a_bearer_is_read() {
        assert_eq!(bearer(&headers("authorization", &["Bearer a.b.c"])), Some("a.b.c"));
        assert_eq!(bearer(&headers("authorization", &["bearer a.b.c"])), Some("a.b.c"));
        for value in ["", "Bearer", "Basic YTpi", "a.b.c"] {
            assert_eq!(bearer(&headers("authorization", &[value])), None, "{value}");
        }
    }
}
