//! Attachments: uploaded through the edge or by a link, and downloaded.

mod form;

use std::sync::Arc;
use std::time::Duration;

use axum::Json as Answer;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use types::event::Attachment;
use types::{AttachmentId, Timestamp};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::attachments::range::{self, Wanted};
use crate::attachments::{Label, described, name};
use crate::auth::Caller;
use crate::extract::{AttachmentParam, Json, OfAttachment, OfUpload, Query, UploadParam};
use crate::{ApiError, Edge};

pub(crate) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default()
        .routes(routes!(upload))
        .routes(routes!(begin))
        .routes(routes!(complete))
        .routes(routes!(download))
}

/// What a raw body is called.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Named {
    /// Its file name, without a path. If missing, the file's own name in the form is used.
    name: Option<String>,
}

/// A form with one file.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes the form")]
pub(crate) struct UploadForm {
    /// The file and its name.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// The bytes of a file.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "it only describes bodies")]
pub(crate) struct FileBytes(Vec<u8>);

/// Uploads a file.
///
/// The body is the file itself, with its `Content-Type`, or a form with the file. Its content is checked. The user who
/// uploaded it can then send it in messages. A file that is not sent is removed after a day.
#[utoipa::path(post, path = "/v1/attachments", tag = "attachments", operation_id = "upload_attachment",
    params(Named),
    request_body(content(
        (UploadForm = "multipart/form-data"), (FileBytes = "application/octet-stream"),
        (FileBytes = "application/pdf"), (FileBytes = "image/jpeg"), (FileBytes = "image/png"),
    )),
    responses(
        (status = 201, body = Attachment),
        (status = 400, description = "The form cannot be parsed, or the body broke off"),
        (status = 413, description = "The file is too large"),
        (status = 415, description = "This type of file is not accepted, or the content is not of the declared type"),
        (status = 422, description = "The file is damaged, or valid as another format as well, or its name contains a path"),
    ))]
pub(crate) async fn upload(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Query(Named { name }): Query<Named>,
    request: Request,
) -> Result<(StatusCode, Answer<Attachment>), ApiError> {
    let (label, pieces) = file_of(&edge, request, name).await?;
    let attachment = edge.attachments.upload(caller.user, label, pieces).await?;
    Ok((StatusCode::CREATED, Answer(described(&attachment))))
}

/// The file that a request carries, and what is said of it.
pub(crate) async fn file_of(
    edge: &Edge,
    request: Request,
    name: Option<String>,
) -> Result<(Label, futures_util::stream::BoxStream<'static, Result<Bytes, ApiError>>), ApiError> {
    let max_bytes = edge.attachments.max_bytes();
    let content_type = request.headers().get(header::CONTENT_TYPE).map(|value| value.to_str().map(str::to_owned));
    let content_type = content_type.transpose().map_err(|_| ApiError::malformed("`Content-Type` is not ASCII"))?;
    let body = request.into_body();
    let boundary = content_type.as_deref().and_then(form::boundary);
    let beside = if boundary.is_some() { form::MAX_HEAD_BYTES } else { 0 };
    if body.size_hint().lower() > max_bytes.saturating_add(beside) {
        return Err(ApiError::file_too_large(max_bytes));
    }
    if let Some(boundary) = boundary {
        // What stands before the file is as small as any other body. The file itself has limits of its own.
        let limit = Duration::from_secs(edge.config.limits.body_seconds);
        let found = tokio::time::timeout(limit, form::file(body, &boundary)).await;
        let (label, pieces) = found.unwrap_or_else(|_| Err(ApiError::too_slow()))?;
        let name = name.or(label.name);
        return Ok((Label { name, ..label }, pieces.boxed()));
    }
    Ok((Label { name, content_type }, pieces(body).boxed()))
}

fn pieces(body: Body) -> impl Stream<Item = Result<Bytes, ApiError>> + Send {
    body.into_data_stream().map(|piece| piece.map_err(|_| ApiError::malformed("the body broke off")))
}

/// A file to upload by a link.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewUpload {
    /// Its file name, without a path.
    #[schema(example = "rooks.png")]
    name: String,
    /// Its media type; determined from the content if missing.
    #[schema(example = "image/png")]
    content_type: Option<String>,
    /// The exact number of bytes.
    #[schema(example = 48_213)]
    size: u64,
}

/// Where to upload a file.
#[derive(Serialize, ToSchema)]
pub(crate) struct UploadLink {
    /// The upload's id, to complete it.
    id: AttachmentId,
    /// The method: `PUT`.
    #[schema(example = "PUT")]
    method: &'static str,
    /// Where to put the bytes, without a token. It accepts exactly `size` bytes.
    #[schema(example = "https://files.example.org/rookery/incoming/…")]
    url: String,
    /// When the link expires.
    expires_at: Timestamp,
}

/// Creates a link for uploading a file without going through the edge.
///
/// Only with files in S3. Put the bytes to `url`, then complete the upload.
#[utoipa::path(post, path = "/v1/attachments/uploads", tag = "attachments", operation_id = "begin_upload",
    request_body = NewUpload,
    responses(
        (status = 201, body = UploadLink),
        (status = 409, description = "This store has no upload links: upload through the edge; or a hundred uploads wait to be completed"),
        (status = 413, description = "The file is too large"),
    ))]
pub(crate) async fn begin(
    State(edge): State<Arc<Edge>>,
    caller: Caller,
    Json(new): Json<NewUpload>,
) -> Result<(StatusCode, Answer<UploadLink>), ApiError> {
    let label = Label { name: Some(new.name), content_type: new.content_type };
    let link = edge.attachments.begin_by_link(caller.user, label, new.size).await?;
    let crate::attachments::UploadLink { id, url, expires_at } = link;
    Ok((StatusCode::CREATED, Answer(UploadLink { id, method: "PUT", url, expires_at })))
}

/// Turns a file uploaded by a link into an attachment.
///
/// Its content is checked like any upload's. Repeating the request returns 200 with the same attachment.
#[utoipa::path(post, path = "/v1/attachments/uploads/{upload}/complete", tag = "attachments",
    operation_id = "complete_upload", params(UploadParam),
    responses(
        (status = 201, body = Attachment),
        (status = 200, description = "The upload had been completed before", body = Attachment),
        (status = 409, description = "Nothing has been uploaded to the link yet"),
        (status = 415, description = "This type of file is not accepted, or the content is not of the declared type"),
        (status = 422, description = "The file is damaged, or valid as another format as well"),
    ))]
pub(crate) async fn complete(
    State(edge): State<Arc<Edge>>,
    OfUpload { caller, upload }: OfUpload,
) -> Result<(StatusCode, Answer<Attachment>), ApiError> {
    let (attachment, is_repeated) = edge.attachments.complete(caller.user, upload).await?;
    let status = if is_repeated { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Answer(described(&attachment))))
}

/// How the bytes come.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Way {
    /// `false`: always the bytes themselves, for a client that cannot follow a redirect to another origin.
    redirect: Option<bool>,
}

/// Downloads a file: for its uploader, and for the members of conversations it was sent in.
///
/// With files in S3 the answer is a redirect to a link that works for a minute. Otherwise, or with `redirect=false`, it
/// is the bytes; `Range` may ask for a part of them.
#[utoipa::path(get, path = "/v1/attachments/{attachment}", tag = "attachments", operation_id = "download_attachment",
    params(AttachmentParam, Way),
    responses(
        (status = 200, description = "The bytes", content_type = "*/*", body = FileBytes),
        (status = 206, description = "A part of the bytes", content_type = "*/*", body = FileBytes),
        (status = 302, description = "`Location` is a link to the bytes"),
        (status = 304, description = "The client has the bytes already"),
        (status = 416, description = "The file has no such part"),
    ))]
pub(crate) async fn download(
    State(edge): State<Arc<Edge>>,
    OfAttachment { caller, attachment }: OfAttachment,
    Query(way): Query<Way>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let found = edge.attachments.find(caller.user, attachment).await?;
    let may_redirect = way.redirect.unwrap_or(true);
    if may_redirect && let Some(link) = edge.attachments.link(&found).await? {
        return Ok((StatusCode::FOUND, [(header::LOCATION, link)]).into_response());
    }
    let etag = format!("\"{}\"", found.id);
    let common = guarded(&found, &etag);
    let length = |length: u64| [(header::CONTENT_LENGTH, length.to_string())];
    match range::wanted(&headers, &etag, found.size) {
        Wanted::Nothing => Ok((StatusCode::NOT_MODIFIED, common).into_response()),
        Wanted::Beyond => {
            let size = [(header::CONTENT_RANGE, format!("bytes */{}", found.size))];
            Ok((size, ApiError::no_such_range()).into_response())
        }
        Wanted::Whole => {
            let bytes = edge.attachments.bytes(&found, None).await?;
            Ok((common, length(found.size), Body::from_stream(bytes)).into_response())
        }
        Wanted::Part(part) => {
            let bytes = edge.attachments.bytes(&found, Some(part.clone())).await?;
            let place = format!("bytes {}-{}/{}", part.start, part.end - 1, found.size);
            let place = [(header::CONTENT_RANGE, place)];
            let length = length(part.end - part.start);
            Ok((StatusCode::PARTIAL_CONTENT, common, place, length, Body::from_stream(bytes)).into_response())
        }
    }
}

/// What keeps a browser from running what somebody uploaded: it is saved and not shown, and is what we say it is.
fn guarded(attachment: &directory::Attachment, etag: &str) -> [(HeaderName, HeaderValue); 7] {
    let text = |text: &str| {
        HeaderValue::from_str(text).unwrap_or_else(|error| unreachable!("names and types are plain ASCII: {error}"))
    };
    [
        (header::CONTENT_TYPE, text(&attachment.content_type)),
        (header::CONTENT_DISPOSITION, text(&name::disposition(&attachment.name))),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (header::ETAG, text(etag)),
        // A file never changes, but who may read it does.
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
    ]
}
