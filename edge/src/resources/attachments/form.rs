//! A form (RFC 7578) with one file in it, read as it comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use multer::{Field, Multipart};

use crate::ApiError;
use crate::attachments::Label;

/// What may stand in a form before its file and after it, in bytes: it is gathered in memory.
pub(super) const MAX_HEAD_BYTES: u64 = 1024 * 1024;
/// Fields that may stand in a form beside its file.
const MAX_FIELDS: usize = 16;

/// The boundary, if a body is a form by its type.
pub(super) fn boundary(content_type: &str) -> Option<String> {
    multer::parse_boundary(content_type).ok()
}

/// How many bytes may come before the next piece of a file does.
#[derive(Clone)]
struct Allowance(Arc<AtomicU64>);

impl Allowance {
    fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    fn take(&self, bytes: usize) -> Result<(), ApiError> {
        let take = |left: u64| left.checked_sub(bytes as u64);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.map(drop).map_err(|_| ApiError::malformed("the form contains too much besides the file"))
    }
}

/// A failure on its way through the reader of forms.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.code())]
struct Carried(ApiError);

/// A form while its file is read.
struct Reading {
    form: Multipart<'static>,
    file: Option<Field<'static>>,
    allowance: Allowance,
}

/// The file in a form, and what is said of it.
pub(super) async fn file(
    body: Body,
    boundary: &str,
) -> Result<(Label, impl Stream<Item = Result<Bytes, ApiError>> + Send + use<>), ApiError> {
    let allowance = Allowance(Arc::new(AtomicU64::new(MAX_HEAD_BYTES)));
    let counted = allowance.clone();
    let body = body.into_data_stream().map(move |piece| {
        let piece = piece.map_err(|_| Carried(broken()))?;
        counted.take(piece.len()).map_err(Carried)?;
        Ok::<_, Carried>(piece)
    });
    let mut form = Multipart::new(body, boundary);
    let file = next_file(&mut form).await?.ok_or_else(|| ApiError::invalid("/file", "the form contains no file"))?;
    allowance.set(u64::MAX);
    let label = Label {
        name: file.file_name().map(str::to_owned),
        content_type: file.content_type().map(|content_type| content_type.essence_str().to_owned()),
    };
    let reading = Reading { form, file: Some(file), allowance };
    Ok((label, stream::try_unfold(reading, next_piece)))
}

async fn next_piece(mut reading: Reading) -> Result<Option<(Bytes, Reading)>, ApiError> {
    let Some(file) = &mut reading.file else { return Ok(None) };
    if let Some(piece) = file.chunk().await.map_err(fault)? {
        return Ok(Some((piece, reading)));
    }
    // The form can be read on once the field is let go.
    reading.file = None;
    reading.allowance.set(MAX_HEAD_BYTES);
    match next_file(&mut reading.form).await? {
        Some(_) => Err(ApiError::invalid("/file", "a form may contain one file only")),
        None => Ok(None),
    }
}

/// The next field that is a file.
async fn next_file(form: &mut Multipart<'static>) -> Result<Option<Field<'static>>, ApiError> {
    for _ in 0..MAX_FIELDS {
        match form.next_field().await.map_err(fault)? {
            Some(field) if field.file_name().is_none() => {}
            file => return Ok(file),
        }
    }
    Err(ApiError::malformed("the form has too many fields"))
}

fn fault(error: multer::Error) -> ApiError {
    match error {
        multer::Error::StreamReadFailed(error) => {
            error.downcast::<Carried>().map_or_else(|_| broken(), |error| error.0)
        }
        _ => ApiError::malformed("the form cannot be parsed"),
    }
}

fn broken() -> ApiError {
    ApiError::malformed("the body broke off")
}
