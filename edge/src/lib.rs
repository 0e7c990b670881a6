//! The edge: clients' REST and WebSocket connections end here. It holds no state that matters: it checks the
//! token, checks membership, appends to the log, and answers when the log has stored.

mod error;
mod membership;

pub use error::ApiError;
