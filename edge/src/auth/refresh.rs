//! Refresh tokens: a session's id and a secret, which the directory knows by its hash alone.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use directory::SecretHash;
use types::SessionId;

/// `<session>.<secret>`. The secret is 32 random bytes in base64url, so its hash needs no salt.
pub(crate) struct RefreshToken {
    /// Whose token it is.
    pub(crate) session: SessionId,
    secret: String,
}

impl RefreshToken {
    /// A new secret for a session.
    pub(crate) fn generate(session: SessionId) -> Self {
        let secret: [u8; 32] = rand::random();
        Self { session, secret: URL_SAFE_NO_PAD.encode(secret) }
    }

    /// Reads a token; `None` for a text that is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (session, secret) = text.split_once('.')?;
        let is_whole = secret.len() == 43;
        is_whole.then_some(Self { session: session.parse().ok()?, secret: secret.to_owned() })
    }

    /// What the directory knows of the secret.
    pub(crate) fn hash(&self) -> SecretHash {
        SecretHash::of(&self.secret)
    }

    /// What the client is given.
    pub(crate) fn reveal(&self) -> String {
        format!("{}.{}", self.session, self.secret)
    }
}

#[cfg(test)]
mod tests {
    use types::Region;

    use super::*;

    #[test]
    fn a_token_survives_its_text() {
        let token = RefreshToken::generate(SessionId::generate(Region::default()));
        let read = RefreshToken::parse(&token.reveal()).unwrap();
        assert_eq!((read.session, read.hash()), (token.session, token.hash()));
    }

    #[test]
    fn two_tokens_of_one_session_differ() {
        let session = SessionId::generate(Region::default());
        assert_ne!(RefreshToken::generate(session).hash(), RefreshToken::generate(session).hash());
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let session = SessionId::generate(Region::default());
        for text in ["", ".", "x.y", &format!("{session}."), &format!("{session}.short"), &session.to_string()] {
            assert!(RefreshToken::parse(text).is_none(), "{text}");
        }
    }
}
