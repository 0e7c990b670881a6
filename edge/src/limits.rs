//! How much one user and one address may ask for.

mod failures;

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio_util::sync::CancellationToken;
use types::{SessionId, UserId};

use crate::ApiError;
use crate::config::LimitsConfig;
use failures::Failures;

/// How often what is forgotten is looked for. A key is remembered for this long and the time that its burst
/// takes to refill, so that the memory taken is bounded by the requests that one process can answer meanwhile.
const TENDING: Duration = Duration::from_secs(5);

/// Accounts with the networks that they were signed in from, at most.
const FAMILIAR: u64 = 100_000;
/// How long such a network is remembered after the last log-in or refresh from there.
const FAMILIAR_FOR: Duration = Duration::from_secs(30 * 24 * 3_600);

/// How much one user and one address may ask for. Refusals are 429 with the time to wait.
pub(crate) struct Limits {
    users: DefaultKeyedRateLimiter<UserId>,
    addresses: DefaultKeyedRateLimiter<IpAddr>,
    sign_ins: DefaultKeyedRateLimiter<IpAddr>,
    refreshes: DefaultKeyedRateLimiter<SessionId>,
    bad_refreshes: Failures<IpAddr>,
    wrong_passwords: Failures<Guess>,
    /// Accounts with the networks that they were signed in from.
    familiar: Cache<u64, ()>,
    /// Texts that somebody made up are kept by their hashes, so each takes the same little memory.
    hasher: RandomState,
    clock: DefaultClock,
}

/// For whom a wrong password counts: an account, or an account and a network that it was signed in from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Guess(u64);

impl Limits {
    pub(crate) fn new(config: &LimitsConfig) -> Self {
        let per_minute = |rate: u32| Quota::per_minute(at_least_one(rate));
        let per_second = |rate: u32, burst: u32| Quota::per_second(at_least_one(rate)).allow_burst(at_least_one(burst));
        Self {
            users: RateLimiter::keyed(per_second(config.requests_per_second_per_user, config.request_burst_per_user)),
            addresses: RateLimiter::keyed(per_second(
                config.requests_per_second_per_address,
                config.request_burst_per_address,
            )),
            sign_ins: RateLimiter::keyed(per_minute(config.sign_ins_per_minute_per_address)),
            refreshes: RateLimiter::keyed(per_minute(config.refreshes_per_minute_per_session)),
            bad_refreshes: Failures::per_minute(at_least_one(config.sign_ins_per_minute_per_address)),
            wrong_passwords: Failures::per_minute(at_least_one(config.wrong_passwords_per_minute_per_account)),
            familiar: Cache::builder()
                .max_capacity(FAMILIAR)
                .time_to_live(FAMILIAR_FOR)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            hasher: RandomState::new(),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a request or a frame of a user.
    pub(crate) fn check_user(&self, user: UserId) -> Result<(), ApiError> {
        let verdict = self.users.check_key(&user);
        verdict.map_err(|until| self.refuse("you are sending too many requests", &until))
    }

    /// Counts a request from an address.
    pub(crate) fn check_address(&self, address: IpAddr) -> Result<(), ApiError> {
        let verdict = self.addresses.check_key(&network(address));
        verdict.map_err(|until| self.refuse("your address is sending too many requests", &until))
    }

    /// Counts whatever has a password hashed: a registration, a log-in or a change of the password, from an address.
    pub(crate) fn check_sign_in(&self, address: IpAddr) -> Result<(), ApiError> {
        let verdict = self.sign_ins.check_key(&network(address));
        verdict.map_err(|until| self.refuse("too many log-ins from your address", &until))
    }

    /// Passes a password for an account, by a user name or an email address whether there is one or not, unless too many
    /// were wrong lately, from whatever address they came. Then nobody can tell whether the password is right, its owner
    /// neither. So that a stranger cannot keep the owner out, wrong passwords from a network that the account was signed
    /// in from count for that network alone.
    pub(crate) fn check_password(&self, login: &str, address: IpAddr) -> Result<Guess, ApiError> {
        let (account, here) = self.account(login, address);
        let guess = Guess(if self.familiar.contains_key(&here) { here } else { account });
        let verdict = self.wrong_passwords.check(&guess);
        verdict.map_err(|wait| ApiError::too_many("too many wrong passwords for this login", wait))?;
        Ok(guess)
    }

    /// Counts a password that was wrong.
    pub(crate) fn note_wrong_password(&self, guess: Guess) {
        self.wrong_passwords.count(guess);
    }

    /// Takes note of where an account is signed in from.
    pub(crate) fn note_signed_in(&self, user: &directory::User, address: IpAddr) {
        for login in [&user.username, &user.email] {
            let (_, here) = self.account(login, address);
            self.familiar.insert(here, ());
        }
    }

    /// What stands for an account, by one of the names that it is called at a log-in, and for it in one network.
    fn account(&self, login: &str, address: IpAddr) -> (u64, u64) {
        let login = login.to_lowercase();
        (self.hasher.hash_one(&login), self.hasher.hash_one((&login, network(address))))
    }

    /// Counts a refresh of a session, from an address with few that failed. Those that succeed are no log-ins: behind one
    /// address there may be hundreds of users, and each refreshes every few minutes.
    pub(crate) fn check_refresh(&self, session: SessionId, address: IpAddr) -> Result<(), ApiError> {
        let verdict = self.bad_refreshes.check(&network(address));
        verdict.map_err(|wait| ApiError::too_many("too many invalid refresh tokens from your address", wait))?;
        let verdict = self.refreshes.check_key(&session);
        verdict.map_err(|until| self.refuse("the session is refreshed too often", &until))
    }

    /// Counts a refresh that failed, because the token was not good.
    pub(crate) fn note_bad_refresh(&self, address: IpAddr) {
        self.bad_refreshes.count(network(address));
    }

    fn refuse(&self, detail: &str, until: &governor::NotUntil<<DefaultClock as Clock>::Instant>) -> ApiError {
        ApiError::too_many(detail, until.wait_time_from(self.clock.now()))
    }

    /// Forgets, now and then, who has not asked for a while.
    pub(crate) async fn tend(self: Arc<Self>, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(TENDING);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => self.forget(),
            }
        }
    }

    fn forget(&self) {
        self.users.retain_recent();
        self.addresses.retain_recent();
        self.sign_ins.retain_recent();
        self.refreshes.retain_recent();
    }
}

fn at_least_one(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN)
}

/// What one customer of a provider is given: an IPv4 address, or an IPv6 network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use types::Region;

    use super::*;

    fn limits() -> Limits {
        Limits::new(&LimitsConfig {
            requests_per_second_per_user: 1,
            request_burst_per_user: 3,
            sign_ins_per_minute_per_address: 1,
            ..LimitsConfig::default()
        })
    }

    #[test]
    fn a_burst_passes_and_then_the_user_is_told_to_wait() {
        let (limits, user) = (limits(), UserId::generate(Region::default()));
        for _ in 0..3 {
            limits.check_user(user).unwrap();
        }
        let error = limits.check_user(user).unwrap_err();
        assert_eq!((error.code(), error.retry_after_seconds()), ("too_many_requests", Some(1)));
        limits.check_user(UserId::generate(Region::default())).unwrap();
    }

    #[test]
    fn one_ipv6_network_is_one_client() {
        let limits = limits();
        limits.check_sign_in("2001:db8::1".parse().unwrap()).unwrap();
        assert!(limits.check_sign_in("2001:db8::2".parse().unwrap()).is_err());
        limits.check_sign_in("2001:db8:0:1::1".parse().unwrap()).unwrap();
    }

    #[test]
    fn an_ipv4_address_has_one_spelling() {
        let limits = limits();
        limits.check_sign_in("192.0.2.1".parse().unwrap()).unwrap();
        assert!(limits.check_sign_in("::ffff:192.0.2.1".parse().unwrap()).is_err());
    }

    #[test]
    fn who_has_not_asked_for_a_while_is_forgotten() {
        let limits = Limits::new(&LimitsConfig {
            requests_per_second_per_user: 1_000_000,
            request_burst_per_user: 1,
            ..LimitsConfig::default()
        });
        limits.check_user(UserId::generate(Region::default())).unwrap();
        while !limits.users.is_empty() {
            limits.forget();
            std::thread::yield_now();
        }
    }
}
