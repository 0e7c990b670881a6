//! Access tokens: JWTs signed with EdDSA. Verifying a signature costs tens of microseconds, so the verdict on a
//! token is remembered; a revoked session is remembered too, until its last token has run out.

use std::time::Duration;

use directory::Role;
use jsonwebtoken::{Algorithm, Header, Validation};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use types::{SessionId, Timestamp, UserId};

use crate::ApiError;
use crate::auth::{Caller, SigningKey};
use crate::config::AuthConfig;

/// Verdicts that are remembered, at most.
const VERDICTS: u64 = 200_000;
/// Revoked sessions that are remembered, at most.
const REVOKED: u64 = 1_000_000;
/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 4_096;

/// Issues, verifies and revokes access tokens.
pub(crate) struct Tokens {
    key: SigningKey,
    header: Header,
    validation: Validation,
    issuer: String,
    life: Duration,
    /// Whose token it is, by the SHA-256 of its text.
    verified: Cache<[u8; 32], Caller>,
    /// Sessions that have ended, for as long as their tokens would be good.
    revoked: Cache<SessionId, ()>,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: UserId,
    sid: SessionId,
    roles: Vec<Role>,
    /// Seconds since 1970.
    iat: i64,
    /// Seconds since 1970.
    exp: i64,
}

impl Tokens {
    pub(crate) fn new(config: &AuthConfig, key: SigningKey) -> Self {
        let life = Duration::from_secs(60 * u64::from(config.access_token_minutes.max(1)));
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = 0;
        validation.set_issuer(&[&config.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        let header = Header { kid: Some(key.id.clone()), ..Header::new(Algorithm::EdDSA) };
        Self {
            key,
            header,
            validation,
            issuer: config.issuer.clone(),
            life,
            verified: Cache::builder().max_capacity(VERDICTS).time_to_live(life).build(),
            // Least recently used goes first: a new revocation must never be turned away.
            revoked: Cache::builder()
                .max_capacity(REVOKED)
                .time_to_live(life + Duration::from_secs(1))
                .eviction_policy(EvictionPolicy::lru())
                .build(),
        }
    }

    /// How long a token is good.
    pub(crate) fn life(&self) -> Duration {
        self.life
    }

    /// The public key.
    pub(crate) fn jwks(&self) -> serde_json::Value {
        self.key.jwks()
    }

    /// A token for a session of a user.
    pub(crate) fn issue(&self, user: &directory::User, session: SessionId) -> Result<String, ApiError> {
        let iat = Timestamp::now().as_millis() / 1_000;
        let exp = iat + i64::try_from(self.life.as_secs()).unwrap_or(i64::MAX / 2);
        let claims =
            Claims { iss: self.issuer.clone(), sub: user.id, sid: session, roles: user.roles.clone(), iat, exp };
        let token = jsonwebtoken::encode(&self.header, &claims, &self.key.encoding).map_err(|error| {
            tracing::error!(%error, "an access token could not be signed");
            ApiError::internal()
        })?;
        self.verified.insert(digest(&token), claims.into());
        Ok(token)
    }

    /// Whose token it is, if it is good.
    pub(crate) fn verify(&self, token: &str) -> Result<Caller, ApiError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(refused());
        }
        let digest = digest(token);
        let caller = match self.verified.get(&digest) {
            Some(caller) => caller,
            None => {
                let caller = self.check(token)?;
                self.verified.insert(digest, caller.clone());
                caller
            }
        };
        if caller.expires_at <= Timestamp::now() {
            return Err(ApiError::unauthenticated_as("token_expired", "the access token has expired; refresh it"));
        }
        self.check_session(caller.session)?;
        Ok(caller)
    }

    /// Passes a session that has not ended.
    pub(crate) fn check_session(&self, session: SessionId) -> Result<(), ApiError> {
        if self.revoked.contains_key(&session) {
            return Err(ApiError::unauthenticated("the session has ended"));
        }
        Ok(())
    }

    fn check(&self, token: &str) -> Result<Caller, ApiError> {
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.key.decoding, &self.validation);
        match decoded {
            Ok(data) => Ok(data.claims.into()),
            Err(error) if *error.kind() == jsonwebtoken::errors::ErrorKind::ExpiredSignature => {
                Err(ApiError::unauthenticated_as("token_expired", "the access token has expired; refresh it"))
            }
            Err(_) => Err(refused()),
        }
    }

    /// Takes no more tokens of this session.
    pub(crate) fn revoke(&self, session: SessionId) {
        self.revoked.insert(session, ());
    }
}

fn refused() -> ApiError {
    ApiError::unauthenticated("the access token is not valid")
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

impl From<Claims> for Caller {
    fn from(claims: Claims) -> Self {
        Self {
            user: claims.sub,
            session: claims.sid,
            roles: claims.roles,
            expires_at: Timestamp::from_millis(claims.exp.saturating_mul(1_000)),
        }
    }
}

#[cfg(test)]
mod tests {
    use types::Region;

    use super::*;

    struct Keyed {
        _folder: tempfile::TempDir,
        path: std::path::PathBuf,
    }

    impl Keyed {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("key.pem");
            Self { _folder: folder, path }
        }

        fn tokens(&self) -> Tokens {
            Tokens::new(&AuthConfig::default(), SigningKey::open(&self.path).unwrap())
        }
    }

    fn user() -> directory::User {
        let at = Timestamp::now();
        directory::User {
            id: UserId::generate(Region::default()),
            username: "ada".into(),
            name: "Ada".into(),
            email: "ada@example.org".into(),
            picture: None,
            roles: vec![Role::Analyst],
            created_at: at,
            updated_at: at,
            deleted: false,
        }
    }

    fn session() -> SessionId {
        SessionId::generate(Region::default())
    }

    #[test]
    fn a_token_tells_its_caller_also_to_another_edge() {
        let keyed = Keyed::new();
        let (issuer, other) = (keyed.tokens(), keyed.tokens());
        let (user, session) = (user(), session());
        let token = issuer.issue(&user, session).unwrap();
        let caller = other.verify(&token).unwrap();
        assert_eq!((caller.user, caller.session, caller.roles.as_slice()), (user.id, session, &[Role::Analyst][..]));
        assert_eq!(issuer.verify(&token).unwrap(), caller);
        assert_eq!(other.verify(&token).unwrap(), caller);
    }

    #[test]
    fn a_revoked_session_is_refused_at_once() {
        let tokens = Keyed::new().tokens();
        let (kept, ended) = (session(), session());
        let (good, bad) = (tokens.issue(&user(), kept).unwrap(), tokens.issue(&user(), ended).unwrap());
        tokens.revoke(ended);
        tokens.verify(&good).unwrap();
        assert_eq!(tokens.verify(&bad).unwrap_err().code(), "unauthenticated");
    }

    fn claims(exp: i64) -> Claims {
        let iat = Timestamp::now().as_millis() / 1_000;
        Claims { iss: "rookery".into(), sub: user().id, sid: session(), roles: vec![], iat, exp: iat + exp }
    }

    #[test]
    fn a_token_that_has_run_out_is_refused_remembered_or_not() {
        let tokens = Keyed::new().tokens();
        let token = jsonwebtoken::encode(&tokens.header, &claims(-1), &tokens.key.encoding).unwrap();
        assert_eq!(tokens.verify(&token).unwrap_err().code(), "token_expired");
        tokens.verified.insert(digest(&token), claims(-1).into());
        assert_eq!(tokens.verify(&token).unwrap_err().code(), "token_expired");
    }

    #[test]
    fn a_token_that_this_key_did_not_sign_is_refused() {
        let (tokens, stranger) = (Keyed::new().tokens(), Keyed::new().tokens());
        let token = stranger.issue(&user(), session()).unwrap();
        let (head, signature) = token.rsplit_once('.').unwrap();
        let unsigned = Header { alg: Algorithm::HS256, ..tokens.header.clone() };
        let hmac = jsonwebtoken::EncodingKey::from_secret(tokens.key.id.as_bytes());
        let by_hmac = jsonwebtoken::encode(&unsigned, &claims(60), &hmac).unwrap();
        let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
        let payload = head.split_once('.').unwrap().1;
        for text in [
            token.clone(),
            format!("{head}."),
            head.to_owned(),
            format!("{none}.{payload}."),
            format!("{head}.{signature}x"),
            by_hmac,
            String::new(),
            "a.b.c".into(),
            "x".repeat(MAX_TOKEN_BYTES + 1),
        ] {
            assert_eq!(tokens.verify(&text).unwrap_err().code(), "unauthenticated", "{text}");
        }
    }

    #[test]
    fn a_token_of_another_issuer_is_refused() {
        let tokens = Keyed::new().tokens();
        let claims = Claims { iss: "another".into(), ..claims(60) };
        let token = jsonwebtoken::encode(&tokens.header, &claims, &tokens.key.encoding).unwrap();
        assert_eq!(tokens.verify(&token).unwrap_err().code(), "unauthenticated");
    }
}
