//! Whether the stores of a process answer. Each is asked something that it must really answer, at most once a second,
//! however many want to know: anybody may.

use std::sync::Arc;
use std::time::Duration;

use ::analytics::{Analytics, Filter};
use ::log::Log;
use blobs::Blobs;
use directory::Directory;
use futures_util::future::{BoxFuture, FutureExt, Shared};
use futures_util::stream::{FuturesUnordered, StreamExt};
use history::History;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::{Instant, timeout};
use types::{AttachmentId, ConversationId, GroupId, Timestamp, UserId};
use utoipa::ToSchema;

/// How long a store may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// For how long its answer stands.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Ids that are tried for each shard until one is found that lies in it: far more than it takes.
const TRIES_PER_SHARD: usize = 64;

/// The stores of a process; those that none of its roles needs are missing.
#[derive(Clone)]
pub struct Stores {
    /// No role can do without.
    pub log: Arc<dyn Log>,
    /// Users, groups, members, sessions.
    pub directory: Option<Arc<dyn Directory>>,
    /// Every event.
    pub history: Option<Arc<dyn History>>,
    /// Counts.
    pub analytics: Option<Arc<dyn Analytics>>,
    /// The bytes of attachments.
    pub blobs: Option<Arc<dyn Blobs>>,
}

/// Whether each store answers. Only the log is indispensable; without another store an edge serves what does not need
/// it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Stores)]
pub struct Answering {
    log: bool,
    // What no role of the process needs is not there; an edge needs all.
    #[schema(value_type = bool, required = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<bool>,
    #[schema(value_type = bool, required = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<bool>,
    #[schema(value_type = bool, required = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    analytics: Option<bool>,
    #[schema(value_type = bool, required = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    blobs: Option<bool>,
}

impl Answering {
    /// Whether the process can work: any shard of the log answers.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.log
    }

    /// The stores that are needed and do not answer, by name.
    pub fn missing(&self) -> impl Iterator<Item = &'static str> {
        let stores = [
            ("log", Some(self.log)),
            ("directory", self.directory),
            ("history", self.history),
            ("analytics", self.analytics),
            ("blobs", self.blobs),
        ];
        stores.into_iter().filter(|(_, answers)| *answers == Some(false)).map(|(name, _)| name)
    }
}

/// Knows whether the stores answer.
pub struct Readiness {
    stores: Arc<Stores>,
    /// A conversation of each shard of the log. There are no such conversations.
    one_of_each_shard: Arc<[ConversationId]>,
    asked: Mutex<Option<Asked>>,
}

/// A question that was asked, and may be answered already.
struct Asked {
    at: Instant,
    answer: Shared<BoxFuture<'static, Answering>>,
}

impl Readiness {
    /// Asks nobody yet.
    #[must_use]
    pub fn new(stores: Stores) -> Self {
        let one_of_each_shard = one_of_each_shard(stores.log.as_ref());
        Self { stores: Arc::new(stores), one_of_each_shard: one_of_each_shard.into(), asked: Mutex::new(None) }
    }

    /// Which stores answer. What was found out within the last second is told again.
    pub async fn ask(&self) -> Answering {
        let answer = {
            let mut asked = self.asked.lock();
            match asked.as_ref().filter(|asked| asked.at.elapsed() < MAX_AGE) {
                Some(asked) => asked.answer.clone(),
                None => asked.insert(self.question()).answer.clone(),
            }
        };
        answer.await
    }

    /// In a task of its own, for whoever asks may go away before the answer comes.
    fn question(&self) -> Asked {
        let (stores, conversations) = (Arc::clone(&self.stores), Arc::clone(&self.one_of_each_shard));
        let asking = tokio::spawn(async move { stores.ask(&conversations).await });
        let answer = asking.map(Result::unwrap_or_default).boxed().shared();
        Asked { at: Instant::now(), answer }
    }
}

impl From<&crate::Seams> for Stores {
    /// An edge needs them all.
    fn from(seams: &crate::Seams) -> Self {
        Self {
            log: Arc::clone(&seams.log),
            directory: Some(Arc::clone(&seams.directory)),
            history: Some(Arc::clone(&seams.history)),
            analytics: Some(Arc::clone(&seams.analytics)),
            blobs: Some(Arc::clone(&seams.blobs)),
        }
    }
}

impl Stores {
    async fn ask(&self, conversations: &[ConversationId]) -> Answering {
        // Nobody has these ids.
        let region = self.log.layout().region;
        let (user, attachment) = ([UserId::generate(region)], AttachmentId::generate(region));
        let group = [ConversationId::from(GroupId::generate(region))];
        let (start, end) = (Timestamp::from_millis(0), Timestamp::from_millis(1));
        let moment = Filter { start: Some(start), end: Some(end), ..Filter::default() };
        let (log, directory, history, analytics, blobs) = tokio::join!(
            self.log_answers(conversations),
            answers(self.directory.as_ref().map(|store| store.users(&user))),
            answers(self.history.as_ref().map(|store| store.tails(&group))),
            answers(self.analytics.as_ref().map(|store| store.total(&moment))),
            answers(self.blobs.as_ref().map(|store| store.size(attachment))),
        );
        Answering { log, directory, history, analytics, blobs }
    }

    /// Whether any shard answers: while one has no leader the others go on, and a process that is cut off hears from none.
    async fn log_answers(&self, conversations: &[ConversationId]) -> bool {
        let questions = conversations.iter().map(|conversation| self.log.heads(std::slice::from_ref(conversation)));
        let questions: FuturesUnordered<_> = questions.collect();
        let answered = questions.any(|heads| std::future::ready(heads.is_ok()));
        timeout(PATIENCE, answered).await.unwrap_or(false)
    }
}

async fn answers<T, E>(question: Option<impl Future<Output = Result<T, E>>>) -> Option<bool> {
    Some(matches!(timeout(PATIENCE, question?).await, Ok(Ok(_))))
}

fn one_of_each_shard(log: &dyn Log) -> Vec<ConversationId> {
    let layout = log.layout();
    let mut found = vec![None; usize::from(layout.shards)];
    for _ in 0..TRIES_PER_SHARD * found.len() {
        let conversation = ConversationId::from(GroupId::generate(layout.region));
        if let Some(shard) = found.get_mut(usize::from(conversation.shard(layout.shards))) {
            *shard = Some(conversation);
        }
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    found.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::doubles::{AwayHistory, PlainLog};

    fn stores() -> Stores {
        Stores { log: PlainLog::of(&[]), directory: None, history: None, analytics: None, blobs: None }
    }

    #[tokio::test(start_paused = true)]
    async fn stores_are_asked_at_most_once_a_second_however_many_want_to_know() {
        let history = Arc::new(AwayHistory::default());
        let readiness = Readiness::new(Stores { history: Some(history.clone()), ..stores() });
        for _ in 0..100 {
            let answering = readiness.ask().await;
            assert_eq!((answering.log, answering.history, answering.blobs), (true, Some(false), None));
            assert_eq!(answering.missing().collect::<Vec<_>>(), ["history"]);
        }
        assert_eq!(history.asked.load(Ordering::Relaxed), 1);
        tokio::time::advance(MAX_AGE).await;
        readiness.ask().await;
        assert_eq!(history.asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn every_shard_of_the_log_is_asked() {
        let log = PlainLog::of_shards(8);
        let mut shards: Vec<u16> = one_of_each_shard(log.as_ref()).iter().map(|one| one.shard(8)).collect();
        shards.sort_unstable();
        assert_eq!(shards, [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_answers_while_one_of_its_shards_does() {
        let one_is_left = Stores { log: PlainLog::with_dead_shards(8, 7), ..stores() };
        assert!(Readiness::new(one_is_left).ask().await.log);
        let none_is_left = Stores { log: PlainLog::with_dead_shards(8, 8), ..stores() };
        assert_eq!(Readiness::new(none_is_left).ask().await.missing().collect::<Vec<_>>(), ["log"]);
    }
}
