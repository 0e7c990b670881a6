//! The task of one WebSocket. It reads, answers and writes, alone: nobody else touches the socket.
//!
//! The future is written by hand because there is one per connection and most of them wait: it holds what an idle
//! connection needs and nothing else. What is needed seldom is boxed while it is needed.

mod writing;

use std::collections::VecDeque;
use std::future::Future;
use std::mem::{self, MaybeUninit};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use log::Appended;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use types::{ConversationId, EventId};

use super::decode::{Decoder, Fault, Incoming};
use super::job::{self, Done};
use super::reply;
use super::request::{Action, Request};
use crate::ApiError;
use crate::frame;
use crate::hub::Presence;
use crate::hub::outbox::{Ending, Written};
use crate::live::Live;

/// What is read at a time, in bytes, on the stack of the thread.
const READ_BYTES: usize = 8 * 1024;
/// Frames that were not understood, after which the connection is closed.
const MAX_MALFORMED: u8 = 20;

/// One WebSocket, from its first frame to its last.
pub(super) struct Socket<S> {
    stream: S,
    phase: Phase,
    live: Arc<Live>,
    presence: Presence,
    decoder: Decoder,
    /// What has come and is not yet read: a frame that is not whole, or frames that have to wait.
    input: Vec<u8>,
    malformed: u8,
    /// Whether the client has sent a frame.
    has_spoken: bool,
    /// What is being done about the last frame that was read.
    job: Option<BoxFuture<'static, Done>>,
    /// A frame that must wait until what came before it is done.
    next: Option<Box<Request>>,
    /// Messages that the log has not yet stored, in the order in which they came.
    unstored: VecDeque<Unstored>,
    /// The replay that is under way.
    rewind: Option<BoxFuture<'static, Done>>,
    /// What is being written.
    output: VecDeque<Bytes>,
    /// Whether the first chunk of `output` is written in part.
    is_split: bool,
    written: Written,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The last frames are being written; what still comes is passed over.
    Closing,
    /// All is written; the client is to close the connection.
    Lingering,
}

/// A message that the log has not yet stored.
pub(crate) struct Unstored {
    pub(super) reference: Option<String>,
    pub(super) conversation: ConversationId,
    pub(super) id: EventId,
    /// When its frame was taken up.
    pub(super) began: Instant,
    pub(super) stored: BoxFuture<'static, Result<Appended, ApiError>>,
}

/// The connection is over.
struct Over;

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// `input` is what came behind the handshake.
    pub(super) fn new(stream: S, live: Arc<Live>, presence: Presence, input: Vec<u8>) -> Self {
        let decoder = Decoder::new(live.limits.frame_bytes);
        Self {
            stream,
            phase: Phase::Open,
            live,
            presence,
            decoder,
            input,
            malformed: 0,
            has_spoken: false,
            job: None,
            next: None,
            unstored: VecDeque::new(),
            rewind: None,
            output: VecDeque::new(),
            is_split: false,
            written: Written::default(),
        }
    }

    /// Goes on as far as it can. Ends when the connection is over.
    fn advance(&mut self, ctx: &mut Context<'_>) -> Result<(), Over> {
        loop {
            let mut awaits_bytes = false;
            if self.phase == Phase::Open {
                self.work(ctx);
                awaits_bytes = self.read(ctx)?;
                self.acknowledge(ctx);
                self.replay(ctx);
            }
            let has_written = self.write(ctx)?;
            if self.phase != Phase::Open {
                return self.pass_over(ctx);
            }
            // What was done may let something go on that had to wait before: a replay, now that there is room; a
            // frame, now that what it depends on is stored; reading, now that less is unstored.
            let may_replay = has_written && self.rewind.is_some();
            let may_begin = self.next.as_ref().is_some_and(|next| self.may_begin(&next.action));
            let may_read = self.can_take() && !awaits_bytes;
            if !(may_replay || may_begin || may_read) {
                return Ok(());
            }
        }
    }
}

/// Reading and answering.
impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Whether the next frame may be read.
    fn can_take(&self) -> bool {
        let has_room = self.unstored.len() < self.live.limits.sends_in_flight;
        self.phase == Phase::Open && self.job.is_none() && self.next.is_none() && has_room
    }

    /// Goes on with the frame that is being answered, or begins the one that waits.
    fn work(&mut self, ctx: &mut Context<'_>) {
        if let Some(request) = self.next.take_if(|_| self.job.is_none()) {
            self.begin(*request);
        }
        let Some(job) = &mut self.job else { return };
        if let Poll::Ready(done) = job.as_mut().poll(ctx) {
            self.job = None;
            self.finish(done);
        }
    }

    /// Reads as long as it may. Gives whether it stopped because nothing more has come.
    fn read(&mut self, ctx: &mut Context<'_>) -> Result<bool, Over> {
        if self.can_take() && !self.input.is_empty() {
            self.take_input(ctx);
        }
        while self.can_take() {
            let mut buffer = [const { MaybeUninit::uninit() }; READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut buffer);
            match Pin::new(&mut self.stream).poll_read(ctx, &mut buffer) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Err(Over),
            }
            self.presence.connection.hear(self.presence.hub.now());
            if self.input.is_empty() {
                let bytes = buffer.filled_mut();
                let used = self.take(ctx, bytes);
                self.input.extend_from_slice(&bytes[used..]);
            } else {
                self.input.extend_from_slice(buffer.filled());
                self.take_input(ctx);
            }
        }
        Ok(false)
    }

    /// Takes the frames in `input` and gives its memory back when nothing is left.
    fn take_input(&mut self, ctx: &mut Context<'_>) {
        let mut bytes = mem::take(&mut self.input);
        let used = self.take(ctx, &mut bytes);
        if used < bytes.len() {
            bytes.drain(..used);
            self.input = bytes;
        }
    }

    /// Takes frames off the front of `bytes` as long as it may; gives how many bytes they had.
    fn take(&mut self, ctx: &mut Context<'_>, bytes: &mut [u8]) -> usize {
        let mut used = 0;
        while self.can_take() {
            let (size, incoming) = match self.decoder.decode(&mut bytes[used..]) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(fault) => {
                    self.break_off(fault);
                    return bytes.len();
                }
            };
            used += size;
            self.answer(incoming);
            self.work(ctx);
        }
        used
    }

    fn answer(&mut self, incoming: Incoming<'_>) {
        match incoming {
            Incoming::Text(text) => self.request(&text),
            Incoming::Ping(payload) => self.send(frame::pong(payload)),
            Incoming::Pong | Incoming::Fragment => {}
            Incoming::Binary => self.close(1003, "text frames only"),
            Incoming::Close(code) => self.close(code.unwrap_or(1000), ""),
        }
    }

    fn request(&mut self, text: &str) {
        let parsed = Request::parse(text);
        let is_resume = matches!(&parsed, Ok(Request { action: Action::Resume(_), .. }));
        // A resume lets live events come itself, once it knows which ones must wait.
        if !mem::replace(&mut self.has_spoken, true) && !is_resume {
            self.presence.connection.outbox.speak([]);
        }
        let request = match parsed {
            Ok(request) => request,
            Err(malformed) => {
                self.send(reply::malformed(&malformed));
                self.malformed = self.malformed.saturating_add(1);
                if self.malformed > MAX_MALFORMED {
                    self.close(1008, "too many frames that cannot be parsed");
                }
                return;
            }
        };
        if let Err(error) = self.live.rates.check_user(self.presence.connection.user) {
            let mut frames = Vec::new();
            reply::error(&mut frames, request.reference.as_deref(), &error);
            return self.send(frames.into());
        }
        self.begin(request);
    }

    /// Begins to do what a frame asks for, or has it wait for its turn.
    fn begin(&mut self, request: Request) {
        if !self.may_begin(&request.action) {
            self.next = Some(Box::new(request));
            return;
        }
        let connection = &self.presence.connection;
        match request.action {
            Action::Ping => {
                let place = if self.rewind.is_none() { self.presence.place() } else { None };
                self.send(reply::pong(request.reference.as_deref(), place.as_ref()));
            }
            Action::Resume(from) => {
                connection.outbox.resume();
                let resume = super::rewind::resume(self.live.clone(), connection.clone(), request.reference, from);
                self.rewind = Some(Box::pin(resume));
            }
            _ => {
                connection.act(self.presence.hub.now());
                self.job = Some(job::of(self.live.clone(), connection, request));
            }
        }
    }

    fn may_begin(&self, action: &Action) -> bool {
        match action {
            Action::Send(..) | Action::Typing(_) | Action::Delivered(..) | Action::Watch(_) | Action::Ping => true,
            // What may be about messages that were sent before it comes after they are stored.
            Action::Edit(..) | Action::Delete(..) | Action::Read(..) => self.unstored.is_empty(),
            Action::Resume(_) => self.rewind.is_none(),
        }
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Quietly => {}
            Done::With(frames) => self.send(frames),
            Done::Sent(unstored) => self.unstored.push_back(unstored),
            Done::Adrift => {
                self.presence.connection.outbox.end(crate::hub::come_back("you were added to a group", true));
            }
        }
    }

    /// Tells which messages are stored, in the order in which they came.
    fn acknowledge(&mut self, ctx: &mut Context<'_>) {
        let mut frames = Vec::new();
        while let Some(first) = self.unstored.front_mut() {
            let Poll::Ready(stored) = first.stored.as_mut().poll(ctx) else { break };
            let reference = first.reference.as_deref();
            match stored {
                Ok(appended) => {
                    metrics::histogram!("rookery_edge_send_seconds").record(first.began.elapsed());
                    reply::ack(&mut frames, reference, first.conversation, first.id, &appended);
                }
                Err(error) => reply::error(&mut frames, reference, &error),
            }
            self.unstored.pop_front();
        }
        if !frames.is_empty() {
            self.send(frames.into());
        }
        if self.unstored.is_empty() && self.unstored.capacity() > 0 {
            self.unstored = VecDeque::new();
        }
    }

    /// Goes on with the replay that is under way, or begins to join the next group that the user was added to.
    fn replay(&mut self, ctx: &mut Context<'_>) {
        loop {
            let outbox = &self.presence.connection.outbox;
            if self.rewind.is_none()
                && outbox.has_joins()
                && let Some(join) = outbox.next_join()
            {
                let (live, connection) = (self.live.clone(), self.presence.connection.clone());
                self.rewind = Some(Box::pin(super::rewind::join(live, connection, join)));
            }
            let Some(rewind) = &mut self.rewind else { return };
            let Poll::Ready(done) = rewind.as_mut().poll(ctx) else { return };
            self.rewind = None;
            self.finish(done);
        }
    }

    fn send(&self, frames: Bytes) {
        self.presence.connection.outbox.push(frames);
    }

    fn close(&self, code: u16, reason: &str) {
        self.presence.connection.outbox.end(Ending::Close { code, reason: reason.to_owned(), flush: true });
    }

    fn break_off(&self, fault: Fault) {
        match fault {
            Fault::Protocol => self.close(1002, "this violates the WebSocket protocol"),
            Fault::NotUtf8 => self.close(1007, "the text is not UTF-8"),
            Fault::TooBig => self.close(1009, "the message is too large"),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Socket<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<()> {
        match self.get_mut().advance(ctx) {
            Ok(()) => Poll::Pending,
            Err(Over) => Poll::Ready(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;
    use crate::hub::connection::Connection;

    #[test]
    fn what_an_idle_connection_keeps_is_small() {
        let (task, shared) = (size_of::<Socket<TcpStream>>(), size_of::<Connection>());
        assert!(task <= 448 && shared <= 320, "{task} and {shared} bytes");
    }
}
