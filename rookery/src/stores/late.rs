//! A store that is opened while the process runs already. Until it is there each call fails at once, as if it were down;
//! then it is passed on. One that no role of the process needs is never opened.

mod analytics;
mod blobs;
mod directory;
mod history;

use std::sync::{Arc, OnceLock};

/// A store, or the place where it will be.
pub(super) struct Late<S: ?Sized>(OnceLock<Arc<S>>);

/// What callers are told until then.
const NOT_OPEN: &str = "it is not open yet";

impl<S: ?Sized> Late<S> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(OnceLock::new()))
    }

    /// From now on calls go to `store`.
    pub(super) fn is(&self, store: Arc<S>) {
        // It is opened once.
        drop(self.0.set(store));
    }

    /// The store, or else the error that `unavailable` makes.
    fn there<E>(&self, unavailable: impl FnOnce(String) -> E) -> Result<&S, E> {
        self.0.get().map(AsRef::as_ref).ok_or_else(|| unavailable(NOT_OPEN.into()))
    }
}
