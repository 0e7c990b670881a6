//! Who connects, and from where it goes on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Deserialize;
use socketioxide::extract::SocketRef;
use types::{ConversationId, Position};

use crate::hub::{Listening, Presence};
use crate::ws::reply;
use crate::ws::request::From;
use crate::{ApiError, Edge};

/// What a client says in the handshake's `auth`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Auth {
    /// The access token.
    token: String,
    /// The last position of each conversation, of a client that comes back.
    positions: Option<BTreeMap<ConversationId, Position>>,
    /// Or the last opaque position.
    position: Option<String>,
}

/// What the handshake leaves for the session.
pub(super) struct Admitted {
    pub(super) presence: Presence,
    /// From where the client resumes.
    pub(super) from: Option<From>,
}

/// [`Admitted`], from the handshake until the session takes it.
pub(super) type Ticket = Arc<Mutex<Option<Admitted>>>;

/// A client that is not let in. Its text is the `connect_error`'s message: the error's code, a colon, and what is wrong.
pub(super) struct Refused(ApiError);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code(), self.0.detail())
    }
}

/// Lets a client in whose token is good, into the rooms of all its conversations.
pub(super) async fn admit(edge: Option<Arc<Edge>>, socket: &SocketRef, auth: Option<Auth>) -> Result<(), Refused> {
    // An edge that is gone takes nobody in.
    let edge = edge.ok_or_else(|| Refused(ApiError::unavailable()))?;
    let admitted = prepare(&edge, auth).await.map_err(Refused)?;
    socket.extensions.insert::<Ticket>(Arc::new(Mutex::new(Some(admitted))));
    Ok(())
}

async fn prepare(edge: &Edge, auth: Option<Auth>) -> Result<Admitted, ApiError> {
    let auth = auth
        .ok_or_else(|| ApiError::unauthenticated("`auth` must be {token}, plus `positions` or `position` to resume"))?;
    let caller = edge.tokens.verify(&auth.token)?;
    edge.limits.check_user(caller.user)?;
    let from = match (auth.positions, auth.position) {
        (None, None) => None,
        (positions, position) => Some(From::read(positions, position).map_err(ApiError::malformed)?),
    };
    let live = &edge.live;
    // Read before the rooms are entered: nothing that is stored after it is missed.
    let place = live.timeline.end().await?;
    let presence = live.hub.join(&caller, Listening::ForFrames).await?;
    presence.connection.outbox.push_front(reply::hello(&caller, live.limits.heartbeat_seconds, &place));
    Ok(Admitted { presence, from })
}
