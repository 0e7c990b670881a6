//! Whether history is away, remembered for a moment, so that not every reader waits for an answer that does not come.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long whoever can do without history is spared the wait for it after it has failed to answer.
const RETRY: Duration = Duration::from_secs(5);

/// What the last questions to history have shown.
#[derive(Default)]
pub(super) struct Outage {
    /// When history may be asked by those who can do without it, if it failed to answer.
    ask_again: Mutex<Option<Instant>>,
}

impl Outage {
    /// Whether history has just failed to answer. Now and then one is told that it has not, and finds out.
    pub(super) fn is_on(&self) -> bool {
        let mut ask_again = self.ask_again.lock();
        let Some(moment) = *ask_again else { return false };
        let is_time = moment <= Instant::now();
        if is_time {
            *ask_again = Some(Instant::now() + RETRY);
        }
        !is_time
    }

    /// Takes note of how a question was answered, and gives the answer; `None` when there was none.
    pub(super) fn note<T>(&self, answer: history::Result<T>) -> history::Result<Option<T>> {
        match answer {
            Ok(answer) => {
                *self.ask_again.lock() = None;
                Ok(Some(answer))
            }
            Err(history::Error::Unavailable(error)) => {
                if self.ask_again.lock().replace(Instant::now() + RETRY).is_none() {
                    tracing::warn!(%error, "history is away; the log is read alone");
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> history::Result<()> {
        Err(history::Error::Unavailable("it is away".into()))
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_one_in_a_while_finds_out() {
        let outage = Outage::default();
        assert!(!outage.is_on());
        assert_eq!(outage.note(away()).unwrap(), None);
        assert!(outage.is_on() && outage.is_on());
        tokio::time::advance(RETRY).await;
        assert!(!outage.is_on(), "one asks");
        assert!(outage.is_on(), "and nobody else meanwhile");
        assert_eq!(outage.note(Ok(())).unwrap(), Some(()));
        assert!(!outage.is_on(), "it is back");
    }

    #[tokio::test]
    async fn what_is_damaged_is_not_away() {
        let outage = Outage::default();
        assert!(outage.note::<()>(Err(history::Error::Damaged("a row is cut off".into()))).is_err());
        assert!(!outage.is_on());
    }
}
