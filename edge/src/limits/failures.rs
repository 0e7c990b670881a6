//! How often something may fail. Who succeeds is not counted, so it is asked first and counted when it is known.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::time::Instant;

/// Who has failed and is remembered, at most.
const CAPACITY: u64 = 100_000;
const MINUTE: Duration = Duration::from_secs(60);
/// How long a failure may be remembered: far longer than it takes to be forgiven.
const REMEMBERED: Duration = Duration::from_secs(3_600);

/// The failures of each key, which are forgiven one after the other. What was under way at once may fail more often than
/// allowed; the key then waits for all of it, so that the rate in the long run is kept.
pub(super) struct Failures<K> {
    /// When all failures of a key will be forgiven.
    forgiven_at: Cache<K, Instant>,
    /// How long each takes to be forgiven.
    each: Duration,
    /// How long those take that a key may have at once and fail once more.
    allowed: Duration,
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Failures<K> {
    /// So many in a minute, and at once.
    pub(super) fn per_minute(failures: NonZeroU32) -> Self {
        let each = MINUTE / failures.get();
        // The newest go last: what was just counted must never be turned away.
        let forgiven_at = Cache::builder().max_capacity(CAPACITY).time_to_live(REMEMBERED);
        let forgiven_at = forgiven_at.eviction_policy(EvictionPolicy::lru()).build();
        Self { forgiven_at, each, allowed: each * (failures.get() - 1) }
    }

    /// Passes who may fail once more.
    ///
    /// # Errors
    /// How long the others have to wait.
    pub(super) fn check(&self, key: &K) -> Result<(), Duration> {
        let Some(forgiven_at) = self.forgiven_at.get(key) else { return Ok(()) };
        let wait = forgiven_at.saturating_duration_since(Instant::now()).saturating_sub(self.allowed);
        if wait.is_zero() { Ok(()) } else { Err(wait) }
    }

    /// Counts a failure.
    pub(super) fn count(&self, key: K) {
        let now = Instant::now();
        self.forgiven_at.entry(key).and_upsert_with(|known| {
            let before = known.map_or(now, |known| known.into_value().max(now));
            before + self.each
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures() -> Failures<&'static str> {
        Failures::per_minute(NonZeroU32::new(3).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn who_fails_too_often_waits_until_one_failure_is_forgiven() {
        let failures = failures();
        for _ in 0..3 {
            failures.check(&"ada").unwrap();
            failures.count("ada");
        }
        assert_eq!(failures.check(&"ada"), Err(Duration::from_secs(20)));
        failures.check(&"bob").unwrap();
        tokio::time::advance(Duration::from_secs(20)).await;
        failures.check(&"ada").unwrap();
        failures.count("ada");
        assert_eq!(failures.check(&"ada"), Err(Duration::from_secs(20)));
        tokio::time::advance(MINUTE).await;
        for _ in 0..3 {
            failures.check(&"ada").unwrap();
            failures.count("ada");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_at_once_is_waited_for_in_full() {
        let failures = failures();
        for _ in 0..30 {
            failures.count("ada");
        }
        assert_eq!(failures.check(&"ada"), Err(Duration::from_secs(28 * 20)));
    }
}
