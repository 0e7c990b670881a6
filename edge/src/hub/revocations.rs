//! Sessions that have ended, as the directory tells when it is asked. A notice tells of each as it ends, but notices
//! are not stored: one is lost with the process that was to send it, or with a connection to the log.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use types::Timestamp;

use super::Hub;

/// How often is asked. For so long a session whose notice was lost outlives its end.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How far each look reaches back beyond the last one. A session bears the moment at which its end was asked for, by
/// another machine's clock, and the command may have waited since; a copy that is read from may lag as well.
const SLACK: Duration = Duration::from_secs(120);

/// Looks for sessions that have ended.
pub(super) struct Revocations {
    hub: Arc<Hub>,
    every: Duration,
    /// When the last look began that was answered.
    looked: Timestamp,
}

impl Revocations {
    /// After the first look, which finds all sessions whose tokens may still be good.
    pub(super) async fn begin(hub: Arc<Hub>, every: Duration) -> directory::Result<Self> {
        let mut revocations = Self { hub, every, looked: Timestamp::default() };
        revocations.look().await?;
        Ok(revocations)
    }

    /// Looks now and then, and at once when something was lost, until `shutdown`.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut is_failing = false;
        while shutdown.run_until_cancelled(self.until_next()).await.is_some() {
            let looked = self.look().await;
            // Once for a whole row of failures. What was missed is found by the next look that is answered.
            if let Err(error) = &looked
                && !is_failing
            {
                tracing::warn!(%error, "the directory cannot be asked which sessions have ended; trying again");
            }
            is_failing = looked.is_err();
        }
    }

    async fn until_next(&self) {
        tokio::select! {
            () = self.hub.look_again.notified() => {}
            () = tokio::time::sleep(self.every) => {}
        }
    }

    async fn look(&mut self) -> directory::Result<()> {
        let now = Timestamp::now();
        // What ended before that has no token any more that is good.
        let since = self.looked.max(now.minus(self.hub.tokens.life())).minus(SLACK);
        for (user, session) in self.hub.directory.revoked_since(since).await? {
            self.hub.revoked(user, session);
        }
        self.looked = now;
        Ok(())
    }
}
