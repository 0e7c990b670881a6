//! The directory service: carries out the commands that edges send over the log's bus, and sees to it that
//! what they changed becomes known: as events in the log, and as notices.
//!
//! A command and its events are stored in one transaction; the events stand in the directory's outbox until
//! `relay` has brought them into the log. So whatever crashes when, a change that was made is told once.
//!
//! Any number of processes may serve. One of them relays, for all.

mod relay;
#[cfg(test)]
mod tests;
mod trace;

use std::sync::Arc;

use directory::{Answer, Command, Directory, Outcome, Refusal, SERVICE, Version};
use futures_util::{Stream, StreamExt, stream};
use log::{Log, Request, Requests, Topic};
use tokio_util::sync::CancellationToken;
use types::{Notice, SessionId, UserId};

use crate::{Error, Result, Seams};

/// Commands that are carried out at the same time. Further ones wait in the bus.
const IN_FLIGHT: usize = 64;

/// Serves until `shutdown`, then carries out and answers what it has taken on. That takes a few seconds at most
/// beyond the time of a transaction; events that are not in the log by then are brought there at the next start.
///
/// # Errors
/// When nothing can be served, or the log was closed before `shutdown`.
pub async fn run(seams: Seams, shutdown: CancellationToken) -> Result<()> {
    let requests = seams.log.serve(SERVICE).await?;
    let (relay, relaying) = relay::new(seams.clone());
    let service = Service { log: seams.log, directory: seams.directory, relay };
    tokio::select! {
        () = service.serve(requests, &shutdown) => {}
        never = relaying.run() => match never {},
    }
    if shutdown.is_cancelled() {
        return Ok(());
    }
    Err(Error::Log(log::Error::Unavailable("the log was closed, so nobody can ask the directory service".into())))
}

struct Service {
    log: Arc<dyn Log>,
    directory: Arc<dyn Directory>,
    relay: relay::Handle,
}

impl Service {
    async fn serve(&self, requests: Requests, shutdown: &CancellationToken) {
        let requests = each(requests).take_until(shutdown.cancelled());
        requests.for_each_concurrent(IN_FLIGHT, |request| self.answer(request)).await;
    }

    async fn answer(&self, request: Request) {
        let answer = match serde_json::from_slice(&request.payload) {
            Ok(command) => self.carry_out(&command).await,
            Err(error) => {
                // The error's own text may quote what is not to be logged.
                let (line, column, category) = (error.line(), error.column(), error.classify());
                tracing::warn!(line, column, ?category, "a command was not understood");
                Answer::Unavailable
            }
        };
        request.answer(answer.encode());
    }

    async fn carry_out(&self, command: &Command) -> Answer {
        let done = match self.directory.execute(command).await {
            Ok(done) => done,
            Err(error) => return unavailable(&error),
        };
        // After the command, so that it is in this version; before all notices, so that whoever reads because of
        // one sees what it tells of.
        let version = self.directory.version().await;
        if let Ok(version) = version {
            announce(&*self.log, version).await;
        }
        match &done {
            Ok(outcome) => self.follow_up(command, outcome).await,
            Err(refusal) => self.tell_of_reuse(command, *refusal).await,
        }
        match (done, version) {
            (Ok(outcome), Ok(version)) => Answer::Done { outcome, version },
            (Err(refusal), Ok(version)) => Answer::Refused { refusal, version },
            (_, Err(error)) => unavailable(&error),
        }
    }

    async fn follow_up(&self, command: &Command, outcome: &Outcome) {
        self.tell(command, outcome).await;
        // The events of the first time may still be on their way when it is asked again.
        if outcome.repeated || !outcome.events.is_empty() {
            self.relay.wait().await;
        }
    }

    /// Tells what leaves no event: sessions that ended, users that changed.
    async fn tell(&self, command: &Command, outcome: &Outcome) {
        let session_user = outcome.session.as_ref().map(|session| session.user);
        let Some(user) = outcome.user.as_ref().map(|user| user.id).or(session_user) else { return };
        for session in &outcome.revoked {
            self.tell_revoked(user, *session).await;
        }
        if matches!(command, Command::UpdateUser { .. } | Command::DeleteUser { .. } | Command::SetRoles { .. }) {
            self.notify(Topic::Directory, &Notice::UserUpdated { user }).await;
        }
    }

    /// A session that was ended because its token was presented twice.
    async fn tell_of_reuse(&self, command: &Command, refusal: Refusal) {
        let (Command::RotateSession { session, .. }, Refusal::SessionReused) = (command, refusal) else { return };
        match self.directory.session(*session).await {
            Ok(Some(ended)) => self.tell_revoked(ended.user, ended.id).await,
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the user of an ended session could not be read"),
        }
    }

    async fn tell_revoked(&self, user: UserId, session: SessionId) {
        let notice = Notice::SessionRevoked { user, session };
        self.notify(Topic::User(user), &notice).await;
        self.notify(Topic::Directory, &notice).await;
    }

    async fn notify(&self, topic: Topic, notice: &Notice) {
        if let Err(error) = self.log.notify(topic, notice.encode()).await {
            tracing::warn!(%error, "a notice was not sent");
        }
    }
}

fn unavailable(error: &directory::Error) -> Answer {
    tracing::warn!(%error, "a command could not be carried out");
    Answer::Unavailable
}

/// The requests to a service, as a stream.
fn each(requests: Requests) -> impl Stream<Item = Request> {
    stream::unfold(requests, async |mut requests: Requests| {
        let request = requests.next().await?;
        Some((request, requests))
    })
}

/// Has every edge read this version or a later one from now on.
async fn announce(log: &dyn Log, version: Version) {
    // Where there is but one copy, it cannot lag.
    if version == Version::default() {
        return;
    }
    let notice = Notice::DirectoryChanged { version: version.0 };
    if let Err(error) = log.notify(Topic::Directory, notice.encode()).await {
        tracing::warn!(%error, "a notice was not sent");
    }
}
