//! Writes to the directory: an edge sends them to the directory service and waits for its answer.

use std::sync::Arc;
use std::time::Duration;

use directory::{Answer, Command, Directory, Outcome, Refusal};
use log::Log;

use crate::ApiError;
use crate::auth::Tokens;
use crate::membership::Membership;

/// How long the directory service may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Sends commands, and makes this edge see their effects before their callers do.
pub(crate) struct Commands {
    log: Arc<dyn Log>,
    directory: Arc<dyn Directory>,
    membership: Arc<Membership>,
    tokens: Arc<Tokens>,
}

impl Commands {
    pub(crate) fn new(
        log: Arc<dyn Log>,
        directory: Arc<dyn Directory>,
        membership: Arc<Membership>,
        tokens: Arc<Tokens>,
    ) -> Self {
        Self { log, directory, membership, tokens }
    }

    /// Has a command carried out. A refusal becomes the error that fits most callers.
    pub(crate) async fn execute(&self, command: &Command) -> Result<Outcome, ApiError> {
        Ok(self.ask(command).await??)
    }

    /// Has a command carried out, for a caller to whom refusals mean different things.
    pub(crate) async fn ask(&self, command: &Command) -> Result<Result<Outcome, Refusal>, ApiError> {
        let answer = self.log.request(directory::SERVICE, command.encode(), TIMEOUT).await?;
        match Answer::decode(&answer) {
            Some(Answer::Done { outcome, version }) => {
                self.directory.catch_up(version);
                self.apply(command, &outcome);
                Ok(Ok(outcome))
            }
            Some(Answer::Refused { refusal, version }) => {
                self.directory.catch_up(version);
                self.apply_refusal(command, refusal);
                Ok(Err(refusal))
            }
            Some(Answer::Unavailable) => Err(ApiError::unavailable()),
            None => {
                tracing::error!("the directory service's answer cannot be read");
                Err(ApiError::unavailable())
            }
        }
    }

    /// Own writes are seen at once; other edges hear of them by notices. What is remembered of a member is
    /// forgotten and not replaced: a later change may have overtaken this answer.
    fn apply(&self, command: &Command, outcome: &Outcome) {
        for session in &outcome.revoked {
            self.tokens.revoke(*session);
        }
        match command {
            Command::RevokeSession { session, .. } => self.tokens.revoke(*session),
            Command::CreateGroup { group, owner, members, .. } => {
                self.membership.forget(*group, [*owner]);
                self.membership.forget(*group, members.iter().copied());
            }
            Command::AddMembers { group, users, .. } => self.membership.forget(*group, users.iter().copied()),
            Command::RemoveMember { group, user, .. } => self.membership.forget(*group, [*user]),
            Command::DeleteGroup { group, .. } => self.membership.end(*group),
            _ => {}
        }
    }

    /// A refresh token that came a second time ends its session.
    fn apply_refusal(&self, command: &Command, refusal: Refusal) {
        if let (Command::RotateSession { session, .. }, Refusal::SessionReused) = (command, refusal) {
            self.tokens.revoke(*session);
        }
    }
}
