//! One connection: what it hears, and what it asks for, in one task.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use log::Appended;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use socketioxide::extract::{Event, SocketRef, TryData};
use socketioxide::{SendError, SocketError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use types::{ConversationId, EventId, GroupId, Position, Timestamp, UserId, Vector};

use super::emit::{self, Emission, emissions};
use super::handshake::{Admitted, Ticket};
use super::reply::{PAUSE, Reply};
use super::request::{Action, NewGroup};
use crate::hub::outbox::{Ending, Join, Taken, Written};
use crate::hub::{Presence, come_back};
use crate::posting::Begun;
use crate::resources::conversations::{self, Conversation};
use crate::ws::job::Done;
use crate::ws::request::From;
use crate::ws::rewind;
use crate::{ApiError, Edge};

/// Requests of one connection that may wait for their turn.
const WAITING: usize = 256;
/// Events that are handed to the library before its writer has its turn.
const AT_ONCE: usize = 64;
/// How long a connection that ends waits for room to say so.
const GRACE: Duration = Duration::from_secs(5);

/// A request and where it is answered.
struct Request {
    reply: Reply,
    action: Result<Action, ApiError>,
}

struct Session {
    edge: Arc<Edge>,
    socket: SocketRef,
    presence: Presence,
    /// The client, or the library, has ended the connection.
    gone: CancellationToken,
    /// Whether older events are being sent.
    is_replaying: AtomicBool,
    /// Who asked for a place, and which: answered when what was queued before has been handed on.
    places: Mutex<VecDeque<(Reply, Vector)>>,
}

/// Begins the session of a client that was let in.
pub(super) fn begin(edge: &Arc<Edge>, socket: &SocketRef) {
    let admitted = socket.extensions.remove::<Ticket>().and_then(|ticket| ticket.lock().take());
    let Some(Admitted { presence, from }) = admitted else { return };
    let user = presence.connection.user;
    let (sender, requests) = mpsc::channel(WAITING);
    let gone = CancellationToken::new();
    let rates = Arc::clone(&edge.limits);
    socket.on_fallback(move |Event(name): Event, TryData(data): TryData<Value>, reply: Reply| {
        // Here and not in a task of its own, so that requests keep their order.
        let action = rates.check_user(user).and_then(|()| Action::parse(user, &name, data.unwrap_or_default()));
        if let Err(mpsc::error::TrySendError::Full(request)) = sender.try_send(Box::new(Request { reply, action })) {
            request.reply.refuse(&ApiError::busy("too many requests are waiting"));
        }
        std::future::ready(())
    });
    let on_disconnect = gone.clone();
    socket.on_disconnect(move || {
        on_disconnect.cancel();
        std::future::ready(())
    });
    let session = Session {
        edge: Arc::clone(edge),
        socket: socket.clone(),
        presence,
        gone,
        is_replaying: AtomicBool::new(from.is_some()),
        places: Mutex::default(),
    };
    drop(edge.live.tasks.spawn(Box::pin(session.run(from, requests))));
}

impl Session {
    async fn run(self, from: Option<From>, requests: mpsc::Receiver<Box<Request>>) {
        let ending = tokio::select! {
            // What is heard comes first: a replay goes on when it sees that something was written.
            biased;
            () = self.gone.cancelled() => None,
            ending = self.hear() => Some(ending),
            () = self.follow(from) => None,
            () = self.answer(requests) => None,
        };
        if let Some(ending) = ending {
            self.end(ending).await;
        }
    }

    /// Hands on what the outbox holds, until the connection ends.
    async fn hear(&self) -> Ending {
        let outbox = &self.presence.connection.outbox;
        let (mut written, mut chunks) = (Written::default(), VecDeque::new());
        let mut is_whole = true;
        let ending = loop {
            let taken = poll_fn(|ctx| match outbox.take(ctx, std::mem::take(&mut written), &mut chunks) {
                Taken::Nothing => Poll::Pending,
                taken => Poll::Ready(taken),
            });
            if let Taken::Ending(ending) = taken.await {
                break ending;
            }
            is_whole &= self.hand_on(&chunks, true).await;
            written = Written { bytes: chunks.iter().map(Bytes::len).sum(), chunks: chunks.len() };
            chunks.clear();
        };
        // What comes behind something that was left out must not be sent: the client would resume behind it.
        if is_whole && matches!(ending, Ending::Close { flush: true, .. }) {
            drop(tokio::time::timeout(GRACE, self.hand_on(&outbox.take_rest(), false)).await);
        }
        ending
    }

    /// Hands frames to the library, as fast as it takes them. Gives false when some were left out, for the client is gone,
    /// or, with `may_stop`, the connection ends.
    async fn hand_on(&self, chunks: &VecDeque<Bytes>, may_stop: bool) -> bool {
        for (number, emission) in chunks.iter().flat_map(emissions).enumerate() {
            let (name, json) = match emission {
                Emission::Event(name, json) => (name, json),
                Emission::Probe => {
                    // The library asks clients itself, and ends the connections of those that do not answer.
                    self.presence.connection.hear(self.presence.hub.now());
                    continue;
                }
                Emission::Place => {
                    self.tell_place().await;
                    continue;
                }
            };
            if !self.emit(name, json, may_stop).await {
                return false;
            }
            if number % AT_ONCE == AT_ONCE - 1 {
                // Its queue must not be full for long: what is not an event of ours has to find room, too.
                tokio::time::sleep(PAUSE).await;
            }
        }
        true
    }

    async fn tell_place(&self) {
        let next = self.places.lock().pop_front();
        if let Some((reply, place)) = next {
            reply.send(Ok(json!({"position": place.to_string()}))).await;
        }
    }

    async fn emit(&self, name: &str, json: &RawValue, may_stop: bool) -> bool {
        loop {
            match self.socket.emit(name, json) {
                Ok(()) => return true,
                Err(SendError::Socket(SocketError::InternalChannelFull)) if !(may_stop && self.is_ending()) => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(_) => return false,
            }
        }
    }

    fn is_ending(&self) -> bool {
        self.presence.connection.outbox.is_ending()
    }

    /// Tells the client why, and ends the connection.
    async fn end(&self, ending: Ending) {
        if let Ending::Close { code, reason, .. } = ending {
            let mut closing: Value = serde_json::from_str(&reason).unwrap_or_else(|_| json!({"reason": reason}));
            closing["code"] = code.into();
            let json = serde_json::value::to_raw_value(&closing).unwrap_or_default();
            drop(tokio::time::timeout(GRACE, self.emit("closing", &json, false)).await);
        }
        // Without room for its last packet the library does nothing. A client that never makes room does not answer the
        // library's pings either, which ends the connection.
        let disconnect = async {
            while let Err(SocketError::InternalChannelFull) = self.socket.clone().disconnect() {
                tokio::time::sleep(PAUSE).await;
            }
        };
        let patience = async {
            self.edge.shutdown.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            () = disconnect => {}
            () = self.gone.cancelled() => {}
            () = patience => {}
        }
    }

    /// Sends what came since the client's positions, and from then on joins the groups that the user is added to.
    async fn follow(&self, from: Option<From>) {
        let (live, connection) = (&self.edge.live, &self.presence.connection);
        match from {
            Some(from) => {
                connection.outbox.resume();
                self.finish(rewind::resume(live.clone(), connection.clone(), None, from).await);
            }
            None => connection.outbox.speak([]),
        }
        self.is_replaying.store(false, Ordering::Release);
        loop {
            // Whoever asks for a join wakes the task, through the outbox.
            let join = poll_fn(|_| self.next_join().map_or(Poll::Pending, Poll::Ready)).await;
            self.finish(rewind::join(live.clone(), connection.clone(), join).await);
            self.is_replaying.store(false, Ordering::Release);
        }
    }

    fn next_join(&self) -> Option<Join> {
        let outbox = &self.presence.connection.outbox;
        if !outbox.has_joins() {
            return None;
        }
        // First: once it is taken, the outbox no longer knows that the group is still to be joined.
        self.is_replaying.store(true, Ordering::Release);
        let join = outbox.next_join();
        self.is_replaying.store(join.is_some(), Ordering::Release);
        join
    }

    fn finish(&self, done: Done) {
        let outbox = &self.presence.connection.outbox;
        match done {
            Done::With(frames) => drop(outbox.push(frames)),
            Done::Adrift => outbox.end(come_back("you were added to a group", true)),
            Done::Quietly | Done::Sent(_) => {}
        }
    }
}

/// A message that is stored.
#[derive(Serialize)]
struct Stored {
    id: EventId,
    conversation: ConversationId,
    #[serde(flatten)]
    position: Position,
    at: Timestamp,
    duplicate: bool,
}

/// Messages that the log has not yet stored, in the order in which they came.
type Unstored = FuturesOrdered<BoxFuture<'static, (Reply, Result<Stored, ApiError>)>>;

/// Requests.
impl Session {
    /// Carries out requests one after the other; only for the log many wait at once.
    async fn answer(&self, mut requests: mpsc::Receiver<Box<Request>>) {
        let mut unstored = Unstored::new();
        loop {
            tokio::select! {
                Some((reply, stored)) = unstored.next(), if !unstored.is_empty() => reply.send(stored).await,
                request = requests.recv(), if unstored.len() < self.edge.live.limits.sends_in_flight => {
                    let Some(request) = request else { return };
                    self.carry_out(*request, &mut unstored).await;
                }
            }
        }
    }

    async fn carry_out(&self, Request { reply, action }: Request, unstored: &mut Unstored) {
        self.presence.connection.act(self.presence.hub.now());
        match action {
            Ok(Action::Send(conversation, draft)) => {
                match self.edge.posting.begin(self.user(), conversation, draft).await {
                    Ok(begun) => unstored.push_back(Box::pin(until_stored(reply, conversation, begun))),
                    Err(error) => reply.send(Err::<Value, _>(error)).await,
                }
            }
            Ok(Action::CreateGroup(new)) => reply.send(self.create_group(new).await).await,
            Ok(Action::JoinGroup(group)) => reply.send(self.join_group(group).await).await,
            Ok(Action::Position) => self.queue_place(reply).await,
            Err(error) => reply.send(Err::<Value, _>(error)).await,
        }
    }

    /// Has the client told a place behind all that is queued now.
    async fn queue_place(&self, reply: Reply) {
        let place = if self.is_replaying.load(Ordering::Acquire) { None } else { self.presence.place() };
        let Some(place) = place else {
            return reply.send(Err::<Value, _>(ApiError::busy("older events are still being sent"))).await;
        };
        self.places.lock().push_back((reply, place));
        self.presence.connection.outbox.push(emit::place());
    }

    async fn create_group(&self, new: NewGroup) -> Result<OfGroup, ApiError> {
        let NewGroup { name, id, members } = new;
        let (group, _) = conversations::create_group(&self.edge, self.user(), id, (name, members)).await?;
        Ok(OfGroup { group })
    }

    /// Members of a group hear it without asking. This tells a member what the group is, and a stranger what a group that
    /// there is not would tell.
    async fn join_group(&self, group: GroupId) -> Result<OfGroup, ApiError> {
        if !self.presence.hub.is_member(self.user(), group).await? {
            return Err(ApiError::not_found());
        }
        let described = conversations::describe_one(&self.edge, self.user(), group.into()).await?;
        // Where the end is not known, all that the log has of the group is yet to come.
        let join = Join { group, after_seq: Some(described.position.map_or(0, |end| end.seq)) };
        self.presence.connection.outbox.ask_to_join(join);
        Ok(OfGroup { group: described })
    }

    fn user(&self) -> UserId {
        self.presence.connection.user
    }
}

#[derive(Serialize)]
struct OfGroup {
    group: Conversation,
}

/// Waits until a message is stored; then it is to be acknowledged.
async fn until_stored(reply: Reply, conversation: ConversationId, begun: Begun) -> (Reply, Result<Stored, ApiError>) {
    let Begun { event, stored } = begun;
    let stored = stored.await.map(|Appended { position, at, duplicate }| Stored {
        id: event.id,
        conversation,
        position,
        at,
        duplicate,
    });
    (reply, stored)
}
