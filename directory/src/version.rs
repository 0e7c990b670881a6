//! How a reader knows that it sees a write.

use serde::{Deserialize, Serialize};

/// A version of the directory: a later one has everything in it that an earlier one has. Where there is but one
/// copy of the directory, all versions are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);
