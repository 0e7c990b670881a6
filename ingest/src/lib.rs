//! Ingest: from the log into history, and the directory service.

pub mod directory_service;
mod error;

pub use error::{Error, Result};
