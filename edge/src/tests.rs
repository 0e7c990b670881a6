//! The edge through its router, over the embedded stores.

mod analytics;
mod attachments;
mod auth;
mod away;
mod conversations;
mod documents;
mod harness;
mod lagging;
mod limits;
mod malformed;
mod members;
mod messages;
mod operations;
mod recent;
mod strangers;
mod users;
