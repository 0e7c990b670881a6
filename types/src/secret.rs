//! Texts that must not be seen: passwords, and addresses that hold one.

use serde::{Deserialize, Serialize, Serializer};

/// A text that is not shown when it is printed, logged or serialised. It is read from a string.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

/// What stands for a secret.
const HIDDEN: &str = "***";

impl Secret {
    /// The text itself, for whoever must present it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_and_never_shown() {
        let secret: Secret = serde_json::from_str(r#""postgres://ada:lovelace@localhost""#).unwrap();
        assert_eq!(secret.expose(), "postgres://ada:lovelace@localhost");
        assert_eq!(serde_json::to_string(&secret).unwrap(), r#""***""#);
        assert_eq!(format!("{secret:?}"), "***");
    }
}
