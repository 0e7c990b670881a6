//! Live.
#![allow(dead_code, unused, missing_docs)]
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;
use crate::{Edge, Error};
pub(crate) struct Live {}
impl Live {
    pub(crate) async fn start() -> Result<Arc<Self>, Error> { Ok(Arc::new(Self {})) }
    pub(crate) async fn close(&self) {}
}
pub(crate) fn router() -> OpenApiRouter<Arc<Edge>> { OpenApiRouter::default() }
