//! What can go wrong in ingest.

/// What went wrong, by which store must recover before the caller tries again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log could not take or give.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// The directory could not take or give.
    #[error(transparent)]
    Directory(#[from] directory::Error),
    /// History could not take or give.
    #[error(transparent)]
    History(#[from] history::Error),
}

/// Shorthand for this crate's results.
pub type Result<T> = std::result::Result<T, Error>;
