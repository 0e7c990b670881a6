//! The live half of the edge: WebSockets, long-polls and replays, over one [`Hub`].

pub(crate) mod access;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use directory::Directory;
use history::History;
use log::Log;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::{ConversationId, Epoch, UserId, Vector};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::Tokens;
use crate::config::LimitsConfig;
use crate::hub::connection::Connection;
use crate::hub::{self, Hub, HubLimits};
use crate::limits::Limits;
use crate::membership::Membership;
use crate::posting::Posting;
use crate::presence::Sharing;
use crate::resources::events;
use crate::timeline::Timeline;
use crate::{ApiError, Edge, Error, ws};

/// Direct conversations that are looked through for a client that resumes everywhere, at most.
const MAX_PEERS: usize = 10_000;
/// Direct conversations that are listed at a time.
const PEERS: usize = 1_000;
/// How long is waited for ingest.
const CATCH_UP: Duration = Duration::from_secs(1);

/// The live half of the edge.
pub(crate) struct Live {
    pub(crate) hub: Arc<Hub>,
    pub(crate) posting: Arc<Posting>,
    pub(crate) timeline: Arc<Timeline>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) rates: Arc<Limits>,
    pub(crate) limits: LiveLimits,
    log: Arc<dyn Log>,
    history: Arc<dyn History>,
    directory: Arc<dyn Directory>,
    pub(crate) sharing: Sharing,
    /// Every task of a connection.
    pub(crate) tasks: TaskTracker,
    /// Ends the hub's own tasks.
    shutdown: CancellationToken,
}

/// What [`Live`] works with.
pub(crate) struct Parts {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) history: Arc<dyn History>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) rates: Arc<Limits>,
    pub(crate) timeline: Arc<Timeline>,
    pub(crate) posting: Arc<Posting>,
    pub(crate) limits: LiveLimits,
}

/// What one connection may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiveLimits {
    /// Connections of one user.
    pub(crate) connections_per_user: usize,
    /// What may wait to be written to one connection, in bytes. Beyond that it is closed with 4408.
    pub(crate) outbox_bytes: usize,
    /// Messages of one connection that may wait for the log at once. Beyond that it is not read.
    pub(crate) sends_in_flight: usize,
    /// The largest frame that a client may send, in bytes.
    pub(crate) frame_bytes: usize,
    /// A connection that has been silent for so long is sent a ping; after twice the time it is closed.
    pub(crate) heartbeat_seconds: u64,
}

impl LiveLimits {
    pub(crate) fn of(config: &LimitsConfig) -> Self {
        Self {
            connections_per_user: config.connections_per_user,
            outbox_bytes: config.outbox_bytes,
            sends_in_flight: config.sends_in_flight.max(1),
            frame_bytes: config.frame_bytes,
            heartbeat_seconds: config.heartbeat_seconds,
        }
    }
}

/// Conversations in which something happened after a place.
pub(crate) struct News {
    /// Each with the place in its shard.
    pub(crate) starts: BTreeMap<ConversationId, u64>,
    /// Up to where these are all.
    pub(crate) until: Vector,
    /// Whether that is certain.
    pub(crate) is_whole: bool,
}

impl Live {
    /// Begins to listen to the log.
    ///
    /// # Errors
    /// When the log cannot be listened to, or the directory does not tell which sessions have ended.
    pub(crate) async fn start(parts: Parts) -> Result<Arc<Self>, Error> {
        let Parts { log, directory, history, tokens, membership, rates, timeline, posting, limits } = parts;
        let shutdown = CancellationToken::new();
        let hub = hub::Parts {
            log: log.clone(),
            directory: directory.clone(),
            membership: membership.clone(),
            timeline: timeline.clone(),
            tokens: tokens.clone(),
            look_every: hub::LOOK_EVERY,
            limits: HubLimits {
                connections_per_user: limits.connections_per_user,
                outbox_bytes: limits.outbox_bytes,
                heartbeat_seconds: limits.heartbeat_seconds,
            },
        };
        let hub = Hub::start(hub, shutdown.clone()).await?;
        let tasks = TaskTracker::new();
        let sharing = Sharing::new(directory.clone(), timeline.clone(), membership);
        Ok(Arc::new(Self {
            hub,
            posting,
            timeline,
            tokens,
            rates,
            limits,
            log,
            history,
            directory,
            sharing,
            tasks,
            shutdown,
        }))
    }

    /// Has a connection watch exactly these users, as far as its own user shares a conversation with them.
    ///
    /// # Errors
    /// 422 for too many users, 503 when it cannot be found out now whom they share conversations with.
    pub(crate) async fn watch(&self, connection: &Arc<Connection>, users: Vec<UserId>) -> Result<(), ApiError> {
        let users = self.sharing.seen_by(connection.user, users).await?;
        self.hub.watch(connection, &users).await
    }

    /// Whether connections are taken: not after [`Live::close`], nor when the log can no longer be listened to.
    pub(crate) fn is_open(&self) -> bool {
        !self.hub.is_closed()
    }

    /// Takes no more connections, tells every client where and when to come back, and waits until they are gone;
    /// after `deadline` those that are left are cut.
    pub(crate) async fn close(&self, deadline: Duration) {
        self.hub.close();
        self.tasks.close();
        if tokio::time::timeout(deadline, self.tasks.wait()).await.is_err() {
            self.hub.cut_all();
            self.tasks.wait().await;
        }
        self.shutdown.cancel();
    }

    /// The incarnation of the log.
    pub(crate) fn epoch(&self) -> Epoch {
        self.log.layout().epoch
    }

    /// The number of the log's shards.
    pub(crate) fn shards(&self) -> usize {
        usize::from(self.log.layout().shards)
    }

    /// The shard of a conversation.
    pub(crate) fn shard_of(&self, conversation: ConversationId) -> usize {
        usize::from(conversation.shard(self.log.layout().shards))
    }

    /// Whether a place is one of this log.
    pub(crate) fn knows(&self, place: &Vector) -> bool {
        place.epoch == self.epoch() && place.seqs.len() == self.shards()
    }

    /// The user's conversations in which something happened after `place`, which must be a place of this log;
    /// `heard` are conversations that the caller knows of besides. What was stored before this was called is seen.
    ///
    /// Conversations are looked at one after the other while events are stored in all of them. So once it is known up to
    /// where there is news, those without any are looked at again, and whatever has become the user's meanwhile: all that
    /// lies before that place is stored by then.
    ///
    /// Who wrote to a user for the first time is known from history alone. So each time this waits for a moment until
    /// history has all that is in the log.
    pub(crate) async fn news_since(
        &self,
        user: UserId,
        place: &Vector,
        heard: &[ConversationId],
    ) -> Result<News, ApiError> {
        let mut conversations = BTreeSet::from_iter(heard.iter().copied());
        let is_whole = self.add_conversations(user, &mut conversations).await?;
        let mut news = News { starts: BTreeMap::new(), until: place.clone(), is_whole };
        self.look(place, conversations.iter().copied().collect(), &mut news).await?;
        if news.starts.is_empty() {
            return Ok(news);
        }
        let until = news.until.clone();
        news.is_whole &= self.add_conversations(user, &mut conversations).await?;
        conversations.retain(|conversation| !news.starts.contains_key(conversation));
        self.look(place, conversations.into_iter().collect(), &mut news).await?;
        Ok(News { until, ..news })
    }

    /// Adds the user's conversations. Gives false when these may not be all.
    async fn add_conversations(
        &self,
        user: UserId,
        conversations: &mut BTreeSet<ConversationId>,
    ) -> Result<bool, ApiError> {
        let is_settled = self.timeline.settle(CATCH_UP).await?;
        let groups = self.directory.groups_of(user).await?;
        conversations.extend(groups.into_iter().map(ConversationId::Group));
        Ok(self.add_peers(user, conversations).await? && is_settled)
    }

    /// Adds to `news` which of these conversations have something after `place`.
    async fn look(&self, place: &Vector, conversations: Vec<ConversationId>, news: &mut News) -> Result<(), ApiError> {
        let newest = self.timeline.newest(&conversations).await?;
        for (conversation, newest) in conversations.into_iter().zip(newest) {
            let shard = self.shard_of(conversation);
            let (Some(after), Some(until)) = (place.seqs.get(shard), news.until.seqs.get_mut(shard)) else { continue };
            if newest > *after {
                *until = newest.max(*until);
                news.starts.insert(conversation, *after);
            }
        }
        Ok(())
    }

    /// Adds the user's direct conversations. Gives false when there are more than are looked through.
    async fn add_peers(&self, user: UserId, conversations: &mut BTreeSet<ConversationId>) -> Result<bool, ApiError> {
        let mut after = None;
        for _ in 0..MAX_PEERS / PEERS {
            let peers = self.history.peers(user, after, PEERS).await?;
            after = peers.last().copied();
            let is_last = peers.len() < PEERS;
            conversations.extend(peers.into_iter().map(|peer| ConversationId::direct(user, peer)));
            if is_last {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The routes of the live half.
pub(crate) fn router() -> OpenApiRouter<Arc<Edge>> {
    OpenApiRouter::default().routes(routes!(ws::connect)).merge(events::router())
}

#[cfg(test)]
mod tests;
