//! Passwords and keys in configurations, which no log and no printed configuration shows.

use std::fmt;

use percent_encoding::percent_decode_str;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A secret text. It is read like any other text; written or printed it is `***`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

/// What is shown instead of a secret.
const HIDDEN: &str = "***";

impl Secret {
    /// Keeps a text secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for whoever must prove that it is known.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text)
    }
}

/// Takes a text, and does not quote what is none: it may be a password of digits whose quotes were forgotten.
struct Text;

/// What is said of it.
const NO_TEXT: &str = "a secret is no text: put it in quotes";

impl Visitor<'_> for Text {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Secret, E> {
        Ok(Secret(text))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Secret, E> {
        Err(E::custom(NO_TEXT))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Secret, E> {
        Err(E::custom(NO_TEXT))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Secret, E> {
        Err(E::custom(NO_TEXT))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Secret, E> {
        Err(E::custom(NO_TEXT))
    }
}

/// The address of a server, which may hold a name and a password, or a token, before the host. It is read like any other
/// text; written or printed these are `***`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ServerUrl(String);

impl ServerUrl {
    /// The whole address, for whoever connects.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What stands before the host: a name with its password, or a token without one. Signs that would end it stand there
    /// as `%40` and the like.
    #[must_use]
    pub fn identity(&self) -> Option<(String, Option<String>)> {
        let address = self.0.split_once("://").map_or(&*self.0, |(_, address)| address);
        let (identity, _) = address.rsplit_once('@')?;
        let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (name, password) = identity.split_once(':').map_or((identity, None), |(name, rest)| (name, Some(rest)));
        Some((plain(name), password.map(plain)))
    }
}

impl From<&str> for ServerUrl {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((before, host)) = self.0.rsplit_once('@') else { return f.write_str(&self.0) };
        let scheme = before.split_once("://").map(|(scheme, _)| format!("{scheme}://"));
        write!(f, "{}{HIDDEN}@{host}", scheme.unwrap_or_default())
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ServerUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_but_never_shown() {
        let secret: Secret = serde_json::from_str("\"tell nobody\"").unwrap();
        assert_eq!(secret.expose(), "tell nobody");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(format!("{secret:?}"), "***");
    }

    #[test]
    fn a_secret_without_quotes_is_not_quoted_either() {
        for digits in ["12345678", "-12345678", "1234.5678", "true"] {
            let said = serde_json::from_str::<Secret>(digits).unwrap_err().to_string();
            assert!(said.contains("put it in quotes") && !said.contains(digits), "{said}");
        }
    }

    #[test]
    fn an_address_tells_who_connects() {
        for (address, identity) in [
            ("nats://host:4222", None),
            ("host", None),
            ("nats://me:sesame@host:4222", Some(("me", Some("sesame")))),
            ("me:se%40s%3Ame@host", Some(("me", Some("se@s:me")))),
            ("tls://sesame@host", Some(("sesame", None))),
            ("nats://me:ses@me@host", Some(("me", Some("ses@me")))),
        ] {
            let identity = identity.map(|(name, password)| (name.to_owned(), password.map(str::to_owned)));
            assert_eq!(ServerUrl::from(address).identity(), identity, "{address}");
        }
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        for (address, shown) in [
            ("nats://host:4222", "nats://host:4222"),
            ("nats://me:sesame@host:4222", "nats://***@host:4222"),
            ("tls://sesame@host", "tls://***@host"),
            ("me:sesame@host", "***@host"),
            ("nats://me:ses@me@host", "nats://***@host"),
        ] {
            let address: ServerUrl = serde_json::from_value(address.into()).unwrap();
            assert_eq!(serde_json::to_value(&address).unwrap(), shown);
            assert_eq!(format!("{address:?}"), shown);
        }
        assert_eq!(ServerUrl::from("nats://me:sesame@host").expose(), "nats://me:sesame@host");
    }
}
