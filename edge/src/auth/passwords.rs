//! Passwords: argon2id, in a bounded pool.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::Semaphore;

use crate::config::PasswordConfig;
use crate::{ApiError, Error};

/// Hashes and verifies passwords. Each takes a core for tens of milliseconds and megabytes of memory, so only a few
/// run at once, a few more wait, and the rest is told to try again.
pub(crate) struct Passwords {
    argon2: Argon2<'static>,
    /// Verified when there is no such user, so that both cases take the same time.
    nobodys_hash: String,
    /// Who runs or waits.
    admitted: Arc<Semaphore>,
    /// Who runs.
    running: Arc<Semaphore>,
}

impl Passwords {
    pub(crate) fn new(config: &PasswordConfig) -> Result<Self, Error> {
        let PasswordConfig { memory_kib, iterations, parallelism, .. } = *config;
        let params = Params::new(memory_kib, iterations, parallelism, None)
            .map_err(|error| Error::Config(format!("auth.password: {error}")))?;
        let running = config.hashes_at_once.clamp(1, Semaphore::MAX_PERMITS / 2);
        let waiting = config.hashes_waiting.min(Semaphore::MAX_PERMITS / 2);
        let (salt, hash) = ("A".repeat(22), "A".repeat(43));
        Ok(Self {
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            nobodys_hash: format!("$argon2id$v=19$m={memory_kib},t={iterations},p={parallelism}${salt}${hash}"),
            admitted: Arc::new(Semaphore::new(running + waiting)),
            running: Arc::new(Semaphore::new(running)),
        })
    }

    /// The PHC string of a password, with a new salt.
    pub(crate) async fn hash(&self, password: String) -> Result<String, ApiError> {
        let argon2 = self.argon2.clone();
        let hash = self.run(move || argon2.hash_password(password.as_bytes()).map(|hash| hash.to_string())).await?;
        hash.map_err(|error| {
            tracing::error!(%error, "a password could not be hashed");
            ApiError::internal()
        })
    }

    /// Whether the password is the one of the PHC string. Without a string it is not, after the same time.
    pub(crate) async fn verify(&self, password: String, hash: Option<String>) -> Result<bool, ApiError> {
        let is_known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobodys_hash.clone());
        let argon2 = self.argon2.clone();
        let is_right = self
            .run(move || {
                let hash = PasswordHash::new(&hash).ok()?;
                argon2.verify_password(password.as_bytes(), &hash).ok()
            })
            .await?;
        Ok(is_known && is_right.is_some())
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
        let busy = |_| ApiError::busy("too many people are logging in at the moment; try again");
        let admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(busy)?;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| ApiError::internal())?;
        // The permits go along: work that nobody waits for any more still takes its core.
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop((admitted, running));
            result
        });
        done.await.map_err(|error| {
            tracing::error!(%error, "the work on a password failed");
            ApiError::internal()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords(hashes_waiting: usize) -> Passwords {
        let config =
            PasswordConfig { memory_kib: 64, iterations: 1, hashes_at_once: 1, hashes_waiting, parallelism: 1 };
        Passwords::new(&config).unwrap()
    }

    #[tokio::test]
    async fn a_password_is_known_again_and_no_other() {
        let passwords = passwords(8);
        let hash = passwords.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        assert!(passwords.verify("correct horse".into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("correct house".into(), Some(hash)).await.unwrap());
    }

    #[tokio::test]
    async fn nobody_has_no_password() {
        let passwords = passwords(8);
        assert!(PasswordHash::new(&passwords.nobodys_hash).is_ok());
        assert!(!passwords.verify(String::new(), None).await.unwrap());
    }

    #[tokio::test]
    async fn beyond_those_who_may_wait_one_is_told_to_try_again() {
        let passwords = passwords(1);
        let first = Arc::clone(&passwords.admitted).try_acquire_owned().unwrap();
        let second = Arc::clone(&passwords.admitted).try_acquire_owned().unwrap();
        let error = passwords.verify("x".into(), None).await.unwrap_err();
        assert_eq!((error.code(), error.retry_after_seconds()), ("busy", Some(1)));
        drop((first, second));
        assert!(!passwords.verify("x".into(), None).await.unwrap());
    }
}
