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
    /// Its file name, without a path. In a form, the file's own name is taken when this is missing.
    name: Option<String>,
}

/// A file, as the only one of a form.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes the form")]
pub(crate) struct UploadForm {
    /// The file, with its name.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// Uploads a file.
///
/// The body is the file itself, with its `Content-Type`, or a form with the file. It is checked by its content, and
/// can then be sent in messages by whoever uploaded it. One that is not sent is removed after a day.
#[utoipa::path(post, path = "/v1/attachments", tag = "attachments", operation_id = "upload_attachment",
    params(Named),
    request_body(content((UploadForm = "multipart/form-data"), (Vec<u8> = "application/octet-stream"))),
    responses(
        (status = 201, body = Attachment),
        (status = 413, description = "The file is larger than it may be"),
        (status = 415, description = "The file is of no kind that is taken, or of another than it is called"),
        (status = 422, description = "The file is damaged or two things at once, or its name holds a path"),
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

/// A file that is to be uploaded by a link.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewUpload {
    /// Its file name, without a path.
    #[schema(example = "rooks.png")]
    name: String,
    /// Its media type; told by its content when missing.
    #[schema(example = "image/png")]
    content_type: Option<String>,
    /// Bytes, exactly.
    #[schema(example = 48_213)]
    size: u64,
}

/// Where a file is to be uploaded.
#[derive(Serialize, ToSchema)]
pub(crate) struct UploadLink {
    /// The upload, by which it is completed.
    id: AttachmentId,
    /// The method: `PUT`.
    #[schema(example = "PUT")]
    method: &'static str,
    /// Where the bytes go, with no token. It takes exactly as many as were told.
    #[schema(example = "https://files.example.org/rookery/incoming/…")]
    url: String,
    /// Until when the link works.
    expires_at: Timestamp,
}

/// Gives a link to upload a file by, past the edge.
///
/// Where files are kept in S3. Put the bytes to `url`, then complete the upload.
#[utoipa::path(post, path = "/v1/attachments/uploads", tag = "attachments", operation_id = "begin_upload",
    request_body = NewUpload,
    responses(
        (status = 201, body = UploadLink),
        (status = 409, description = "There are no links where these files are kept: upload through the edge"),
        (status = 413, description = "The file is larger than it may be"),
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

/// Makes an attachment of what was uploaded by a link.
///
/// Its content is checked as any upload's. Asked for again it is answered 200 with the same attachment.
#[utoipa::path(post, path = "/v1/attachments/uploads/{upload}/complete", tag = "attachments",
    operation_id = "complete_upload", params(UploadParam),
    responses(
        (status = 201, body = Attachment),
        (status = 200, description = "It had been completed before", body = Attachment),
        (status = 409, description = "Nothing was uploaded by the link yet"),
        (status = 415, description = "The file is of no kind that is taken, or of another than it is called"),
        (status = 422, description = "The file is damaged, or two things at once"),
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
    /// `false`: from this edge in any case, for a client that cannot follow a redirect to another origin.
    redirect: Option<bool>,
}

/// Downloads a file: for its uploader, and for members of a conversation that it was sent in.
///
/// Where files are kept in S3 the answer is a redirect to a link that works for a minute; else, or with
/// `redirect=false`, the bytes, of which `Range` may ask for a part.
#[utoipa::path(get, path = "/v1/attachments/{attachment}", tag = "attachments", operation_id = "download_attachment",
    params(AttachmentParam, Way),
    responses(
        (status = 200, description = "The bytes", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 206, description = "A part of the bytes", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 302, description = "The bytes are there"),
        (status = 304, description = "The client has them"),
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
