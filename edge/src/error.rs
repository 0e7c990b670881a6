//! The one place that knows HTTP status codes: every failure that a client may see, as RFC 9457 says it.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use directory::Refusal;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// A failure as clients see it, over REST and over the WebSocket alike.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    retry_after_seconds: Option<u32>,
}

/// What is wrong with one field of a request.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// A JSON pointer into the body, or the parameter's name.
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

/// The body of every error answer (RFC 9457).
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Problem<'a> {
    /// A reference to this kind of problem.
    #[serde(rename = "type")]
    kind: String,
    /// The status in words.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// A stable name of the problem, for programs.
    code: &'a str,
    /// What went wrong, for people.
    detail: &'a str,
    /// The fields that are wrong.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

/// Every code, with what it means. They are stable: programs go by them.
pub(crate) const CODES: [(&str, &str); 33] = [
    ("malformed", "400: the request cannot be parsed"),
    ("unauthenticated", "401: the access token is missing or no longer valid"),
    ("token_expired", "401: the access token has expired; refresh it"),
    ("wrong_credentials", "401: the login or the password is wrong"),
    ("session_reused", "401: the refresh token was used before; its session has ended"),
    ("forbidden", "403: the caller is known, but not allowed to do this"),
    ("not_found", "404: there is nothing here, or the caller is not a member"),
    ("method_not_allowed", "405: the header `Allow` lists the methods"),
    ("too_slow", "408: the body did not arrive in time"),
    ("username_taken", "409: the user name is, or was, somebody else's"),
    ("too_many_usernames", "409: the user has had ten user names; only one of those is possible"),
    ("email_taken", "409: the email address is somebody else's"),
    ("id_taken", "409: the id is already in use for something else"),
    ("message_deleted", "409: a deleted message cannot be changed"),
    ("too_many_members", "409: the group has reached its limit of members"),
    ("too_many_groups", "409: a user has reached the limit of groups"),
    ("too_many_sends", "409: the attachment was already in a thousand messages, deleted ones included"),
    ("too_many_uploads", "409: a hundred uploads by link wait to be completed"),
    ("not_uploaded", "409: nothing has been uploaded to the link yet"),
    ("not_supported", "409: the configured store cannot do this: a folder has no upload links"),
    ("too_large", "413: the body, or the file, is too large"),
    ("unsupported_type", "415: this type of body, or of file, is not accepted"),
    ("type_mismatch", "415: the file's content is not of the declared type"),
    ("no_such_range", "416: the file has no such part; `Content-Range` gives its length"),
    ("damaged_file", "422: the file is truncated, or its parts are inconsistent"),
    ("polyglot_file", "422: the file is valid as another format as well"),
    ("invalid", "422: fields or parameters are invalid; `errors` lists them"),
    ("too_many_requests", "429: wait as long as `Retry-After` says"),
    ("internal", "500: a fault of the server; its log has the details"),
    ("busy", "503: this edge is overloaded; try again"),
    ("not_ready", "503: this edge cannot serve now"),
    ("unavailable", "503: a store cannot be reached; try again, with the same id"),
    ("unknown_type", "WebSocket and Socket.IO only: there is no such frame type, or event"),
];

impl ApiError {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        debug_assert!(CODES.iter().any(|(known, _)| *known == code), "`{code}` is not listed");
        Self { status, code, detail: detail.into(), errors: Vec::new(), retry_after_seconds: None }
    }

    /// 400: the request cannot be read.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// 401: no token, or one that is not good (any more).
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
    }

    /// 401 with a name of its own, such as `session_reused`.
    pub fn unauthenticated_as(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    /// 403: the caller is known and may not.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// 404: there is none, or the caller is no member. The two are told apart by nothing.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here that you may see")
    }

    /// 405: there is something here, but not for this method.
    pub fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "the header `Allow` lists the methods")
    }

    /// 408: the request did not arrive in time.
    pub fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body did not arrive in time")
    }

    /// 409: it stands against what is there.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 413: the body is larger than it may be.
    pub fn too_large(limit_bytes: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("the body may have at most {limit_bytes} bytes"))
    }

    /// 415: the body is not of the type that is read here.
    pub fn unsupported_type(wanted: &str) -> Self {
        let detail = format!("the body must be `{wanted}`, and `Content-Type` must say so");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_type", detail)
    }

    /// 413: the file is larger than it may be.
    pub(crate) fn file_too_large(limit_bytes: u64) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", format!("a file may have at most {limit_bytes} bytes"))
    }

    /// 415: the file is of no kind that is taken.
    pub(crate) fn unsupported_content(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_type", detail)
    }

    /// 415: the file is of another type than it is called.
    pub(crate) fn type_mismatch(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "type_mismatch", detail)
    }

    /// 416: the file has no such part.
    pub(crate) fn no_such_range() -> Self {
        Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "no_such_range", "the file has no such part")
    }

    /// 422 with a name of its own: the file cannot be taken.
    pub(crate) fn unfit_file(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    /// 422: one field is well-formed but invalid.
    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::invalid_fields(vec![FieldError { pointer: pointer.into(), detail: detail.into() }])
    }

    /// 422: fields are well-formed but invalid.
    pub fn invalid_fields(errors: Vec<FieldError>) -> Self {
        let detail = errors.first().map_or_else(String::new, |error| format!("{}: {}", error.pointer, error.detail));
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail) }
    }

    /// Some of many things were done and these were not. `first` is what stood against the first of them.
    pub(crate) fn partial(first: Self, done: usize, errors: Vec<FieldError>) -> Self {
        let detail = format!("{done} were stored; `errors` lists those that were not: {}", first.detail);
        Self { detail, errors, ..first }
    }

    /// 429: the client asks for more than it may.
    pub fn too_many(detail: impl Into<String>, retry_after: Duration) -> Self {
        let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
        Self {
            retry_after_seconds: Some(u32::try_from(seconds.max(1)).unwrap_or(u32::MAX)),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail)
        }
    }

    /// 500: a fault of this program. The log has the details.
    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "a fault of the server; its log has the details")
    }

    /// 503: this edge has too much to do.
    pub(crate) fn busy(detail: impl Into<String>) -> Self {
        Self { retry_after_seconds: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail) }
    }

    /// 503: this edge should not be given requests now. The pointers name what is missing.
    pub(crate) fn not_ready(errors: Vec<FieldError>) -> Self {
        Self {
            errors,
            retry_after_seconds: Some(1),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", "this edge cannot serve now")
        }
    }

    /// 503: something cannot be stored or read now.
    pub fn unavailable() -> Self {
        let detail = "a store cannot be reached at the moment; try again, with the same id";
        Self { retry_after_seconds: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail) }
    }

    /// On a live connection: there is no such event.
    pub(crate) fn unknown_type(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "unknown_type", detail)
    }

    /// The same failure, of a part of a request: its fields stand below `pointer`.
    pub(crate) fn below(mut self, pointer: &str) -> Self {
        for error in &mut self.errors {
            error.pointer.insert_str(0, pointer);
        }
        self.told_by_fields()
    }

    /// What is invalid is told by its first field.
    fn told_by_fields(mut self) -> Self {
        if let Some(first) = self.errors.first().filter(|_| self.code == "invalid") {
            self.detail = format!("{}: {}", first.pointer, first.detail);
        }
        self
    }

    /// The same failure, for a request that calls `to` what is called `from` elsewhere.
    pub(crate) fn pointing_at(mut self, from: &str, to: &str) -> Self {
        for error in &mut self.errors {
            if let Some(parent) = error.pointer.strip_suffix(from) {
                error.pointer = format!("{parent}{to}");
            }
        }
        self.told_by_fields()
    }

    /// The stable name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What went wrong, for people.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The fields that are wrong.
    #[cfg(test)]
    pub(crate) fn pointers(&self) -> Vec<&str> {
        self.errors.iter().map(|error| error.pointer.as_str()).collect()
    }

    /// When to try again.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.retry_after_seconds
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let problem = Problem {
            kind: format!("/docs#{}", self.code),
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
            errors: &self.errors,
        };
        let mut response = (self.status, axum::Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::PAYLOAD_TOO_LARGE {
            // The rest of the body is not read, so nothing more can come over this connection.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::UsernameTaken => Self::conflict("username_taken", detail),
            Refusal::TooManyUsernames => Self::conflict("too_many_usernames", detail),
            Refusal::EmailTaken => Self::conflict("email_taken", detail),
            Refusal::IdTaken => Self::conflict("id_taken", detail),
            Refusal::TooManyMembers => Self::conflict("too_many_members", detail),
            Refusal::TooManyGroups => Self::conflict("too_many_groups", detail),
            Refusal::TooManySends => Self::conflict("too_many_sends", detail),
            Refusal::TooManyUploads => Self::conflict("too_many_uploads", detail),
            Refusal::UnknownUser
            | Refusal::UnknownGroup
            | Refusal::UnknownSession
            | Refusal::UnknownAttachment
            | Refusal::UnknownUpload => Self::not_found(),
            Refusal::SessionReused => Self::unauthenticated_as("session_reused", detail),
            Refusal::NotOwner | Refusal::NotOperator | Refusal::PasswordChanged => Self::forbidden(detail),
        }
    }
}

impl From<log::Error> for ApiError {
    fn from(error: log::Error) -> Self {
        tracing::warn!(%error, "the log failed a request");
        Self::unavailable()
    }
}

impl From<directory::Error> for ApiError {
    fn from(error: directory::Error) -> Self {
        tracing::warn!(%error, "the directory failed a request");
        Self::unavailable()
    }
}

impl From<history::Error> for ApiError {
    fn from(error: history::Error) -> Self {
        tracing::warn!(%error, "history failed a request");
        Self::unavailable()
    }
}

impl From<blobs::Error> for ApiError {
    fn from(error: blobs::Error) -> Self {
        tracing::warn!(%error, "the blob store failed a request");
        Self::unavailable()
    }
}

impl From<analytics::Error> for ApiError {
    fn from(error: analytics::Error) -> Self {
        tracing::warn!(%error, "analytics failed a request");
        Self::unavailable()
    }
}

#[cfg(test)]
mod tests {
    use super::CODES;

    #[test]
    fn every_code_is_documented() {
        let document = include_str!("../../docs/API.md");
        for (code, _) in CODES {
            assert!(document.contains(&format!("`{code}`")), "docs/API.md does not tell of `{code}`");
        }
    }
}
