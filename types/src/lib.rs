//! Ids, events and positions: the values that every part of Rookery shares. No I/O, no state.
//!
//! | module | what it holds |
//! |---|---|
//! | [`id`] | UUIDv7 ids that carry the region of their birth |
//! | [`conversation`] | what messages belong to: a group, or two users |
//! | [`event`] | what happens in a conversation, and its JSON |
//! | [`position`] | where in a conversation, and where in the whole log |
//! | [`entry`] | an event as the log has stored it |
//! | [`notice`] | what one role tells the others, unstored |
//! | [`secret`] | passwords and keys that are never shown |
//! | [`timestamp`] | milliseconds since 1970, the one place where the clock is read |
//! | [`trace`] | where a trace stands, as it travels beside an event |

pub mod conversation;
pub mod entry;
pub mod event;
pub mod id;
pub mod notice;
pub mod position;
pub mod secret;
pub mod timestamp;
pub mod trace;

pub use conversation::ConversationId;
pub use entry::Entry;
pub use event::{Body, Content, Event};
pub use id::{AttachmentId, EventId, GroupId, Region, SessionId, UserId};
pub use notice::Notice;
pub use position::{Epoch, Position, Vector};
pub use secret::{Secret, ServerUrl};
pub use timestamp::Timestamp;
pub use trace::TraceContext;
