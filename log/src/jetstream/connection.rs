//! The connection on which everything goes but appends, live events and services.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};
use tokio::sync::watch;
use tokio::time::timeout;
use types::ServerUrl;

use crate::{Error, Result};

/// How long connecting may take.
const CONNECTING: Duration = Duration::from_secs(5);
/// How long a request waits for its answer.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// How long a call waits for a connection that is broken.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// The longest pause between two attempts to connect again.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often it is asked whether the server still lives.
const PING: Duration = Duration::from_secs(5);
/// Messages that wait for one subscription, at most.
pub(super) const SUBSCRIPTION_MESSAGES: usize = 65_536;
/// The first server version that can reset a consumer.
const OLDEST_SERVER: (i64, i64, i64) = (2, 14, 0);

/// How to reach the servers.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) servers: Vec<String>,
    pub(super) credentials: Option<PathBuf>,
}

/// A connection that mends itself.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: Client,
    /// Whether it is there. Told of each loss.
    is_there: watch::Receiver<bool>,
}

impl Connection {
    pub(super) async fn open(address: &Address, name: &str) -> Result<Self> {
        let (sender, is_there) = watch::channel(true);
        let sender = Arc::new(sender);
        let mut options = ConnectOptions::new()
            .name(name)
            .ping_interval(PING)
            .connection_timeout(CONNECTING)
            .request_timeout(Some(ANSWER))
            .subscription_capacity(SUBSCRIPTION_MESSAGES)
            .skip_subject_validation(true)
            .max_reconnects(None)
            .reconnect_delay_callback(pause_before)
            .event_callback(move |event| {
                note(&sender, &event);
                std::future::ready(())
            });
        // The client library passes over what stands in an address.
        match address.servers.iter().find_map(|server| ServerUrl::from(&**server).identity()) {
            Some((user, Some(password))) => options = options.user_and_password(user, password),
            Some((token, None)) => options = options.token(token),
            None => {}
        }
        if let Some(path) = &address.credentials {
            let read = options.credentials_file(path).await;
            options = read.map_err(|error| Error::Refused(format!("{} cannot be read: {error}", path.display())))?;
        }
        let connected = options.connect(address.servers.clone()).await;
        let client = connected.map_err(|error| Error::Unavailable(format!("no connection to NATS: {error}")))?;
        let (major, minor, patch) = OLDEST_SERVER;
        if !client.is_server_compatible(major, minor, patch) {
            let version = client.server_info().version;
            return Err(Error::Refused(format!("nats-server {major}.{minor} or later is needed, this is {version}")));
        }
        Ok(Self { client, is_there })
    }

    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.is_there.clone()
    }

    /// Waits a moment for a connection that is broken.
    pub(super) async fn is_up(&self) -> Result<()> {
        if *self.is_there.borrow() {
            return Ok(());
        }
        let mut is_there = self.is_there.clone();
        match timeout(PATIENCE, is_there.wait_for(|is_there| *is_there)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Error::Unavailable("there is no connection to NATS".into())),
        }
    }
}

/// The pause after so many attempts to connect.
pub(super) fn pause_before(attempts: usize) -> Duration {
    let exponent = u32::try_from(attempts).unwrap_or(u32::MAX).min(8);
    (Duration::from_millis(5) * 2_u32.pow(exponent)).min(LONGEST_PAUSE)
}

fn note(is_there: &watch::Sender<bool>, event: &Event) {
    match event {
        Event::Connected => drop(is_there.send_replace(true)),
        Event::Disconnected | Event::Closed => {
            tracing::warn!(%event, "the connection to NATS is lost");
            is_there.send_replace(false);
        }
        Event::SlowConsumer(_) | Event::ServerError(_) | Event::ClientError(_) | Event::LameDuckMode => {
            tracing::warn!(%event, "NATS reports");
        }
        Event::Draining => {}
    }
}

/// Whatever went wrong on the way to the server: it may succeed later.
pub(super) fn unavailable(error: impl std::fmt::Display) -> Error {
    Error::Unavailable(error.to_string())
}

/// The log was closed.
pub(super) fn closed() -> Error {
    Error::Unavailable("the log is closed".into())
}
