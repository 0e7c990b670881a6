//! Who is calling: access tokens, refresh tokens, passwords.

mod keys;
mod passwords;
mod refresh;
mod tokens;

use directory::Role;
use types::{SessionId, Timestamp, UserId};

pub(crate) use keys::SigningKey;
pub(crate) use passwords::Passwords;
pub(crate) use refresh::RefreshToken;
pub(crate) use tokens::Tokens;

/// A caller whose access token is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The user.
    pub(crate) user: UserId,
    /// The log-in that the token belongs to.
    pub(crate) session: SessionId,
    /// What the user might do when the token was issued.
    pub(crate) roles: Vec<Role>,
    /// When the token ceases to be good.
    pub(crate) expires_at: Timestamp,
}

impl Caller {
    /// Whether the user had this role when the token was issued.
    pub(crate) fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}
