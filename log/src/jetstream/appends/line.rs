//! The connection on which appends go.
//!
//! They have one of their own, and what was handed to it and not taken by the server ends with it. Whoever is told that
//! an append failed sends it again, perhaps by another process, and a stream knows an id for the duplicate window
//! only: so what was given up must arrive well within that time, or never. A client library that mends its
//! connection keeps what it was handed meanwhile, for as long as that takes, and the system goes on sending for minutes
//! what a closed connection has left behind.

use std::convert::Infallible;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::Result;
use crate::jetstream::connection::unavailable;
use crate::jetstream::link::Writer;
use crate::jetstream::wire;

/// Bytes that wait to be written; the last append may go beyond.
const MOST_BYTES: usize = 4 << 20;
/// How long they may wait. By then whoever appended was told that it takes too long.
const STALE: Duration = Duration::from_secs(5);
/// How often the server is asked whether it lives.
const PING: Duration = Duration::from_secs(5);
/// How long it may be silent.
pub(super) const DEAD: Duration = Duration::from_secs(12);

/// What is to be written on a connection, until that is lost.
pub(super) struct Line {
    /// The largest message that the server takes, headers included.
    pub(super) max_message_bytes: usize,
    out: Mutex<Out>,
    filled: Notify,
    /// It has room, or has ended.
    changed: Notify,
}

#[derive(Default)]
struct Out {
    words: BytesMut,
    /// When the first of them came.
    since: Option<Instant>,
    has_ended: bool,
}

impl Line {
    pub(super) fn new(max_message_bytes: usize) -> Self {
        Self { max_message_bytes, out: Mutex::default(), filled: Notify::new(), changed: Notify::new() }
    }

    /// Hands over an append, once there is room. Cancel-safe.
    pub(super) async fn put(&self, append: &[u8]) -> Result<()> {
        loop {
            let changed = self.changed.notified();
            if self.try_put(append, MOST_BYTES)? {
                return Ok(());
            }
            changed.await;
        }
    }

    /// Hands over what is short and cannot wait.
    pub(super) fn say(&self, words: &[u8]) {
        // Nobody hears it on a line that has ended.
        self.try_put(words, usize::MAX).ok();
    }

    /// Whether there was room.
    fn try_put(&self, words: &[u8], most_bytes: usize) -> Result<bool> {
        let mut out = self.out.lock();
        if out.has_ended {
            return Err(unavailable("the connection to NATS is lost"));
        }
        if out.words.len() >= most_bytes {
            return Ok(false);
        }
        out.words.extend_from_slice(words);
        out.since.get_or_insert_with(Instant::now);
        drop(out);
        self.filled.notify_one();
        Ok(true)
    }

    /// What is to be written now. An error when it has waited for too long, as when the process was suspended.
    fn take(&self) -> Result<BytesMut> {
        let mut out = self.out.lock();
        if out.since.take().is_some_and(|since| since.elapsed() > STALE) {
            return Err(unavailable("the connection to NATS takes nothing"));
        }
        let words = out.words.split();
        drop(out);
        self.changed.notify_waiters();
        Ok(words)
    }

    /// Writes what is handed over, until that fails.
    pub(super) async fn write(&self, mut writer: Writer) -> Result<Infallible> {
        let mut ping = interval(PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.filled.notified() => {}
                _ = ping.tick() => {
                    let mut words = BytesMut::new();
                    wire::ping(&mut words);
                    self.say(&words);
                }
            }
            let words = self.take()?;
            if !words.is_empty() {
                writer.write(&words).await?;
            }
        }
    }

    /// Takes nothing more.
    pub(super) fn end(&self) {
        self.out.lock().has_ended = true;
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn an_append_waits_for_room_until_the_line_ends() {
        let line = Line::new(0);
        line.put(&vec![b'x'; MOST_BYTES]).await.unwrap();
        assert!(line.put(b"y").now_or_never().is_none());
        let (put, taken) = tokio::join!(line.put(b"y"), async { line.take().unwrap() });
        put.unwrap();
        assert_eq!(taken.len(), MOST_BYTES);
        assert_eq!(line.take().unwrap(), "y");

        line.put(&vec![b'x'; MOST_BYTES]).await.unwrap();
        let (put, ()) = tokio::join!(line.put(b"y"), async { line.end() });
        put.unwrap_err();
        line.put(b"y").await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_waited_for_too_long_is_not_written() {
        let line = Line::new(0);
        line.put(b"x").await.unwrap();
        tokio::time::advance(STALE).await;
        assert_eq!(line.take().unwrap(), "x");
        line.put(b"y").await.unwrap();
        tokio::time::advance(STALE).await;
        line.put(b"z").await.unwrap();
        tokio::time::advance(Duration::from_millis(1)).await;
        line.take().unwrap_err();
    }
}
