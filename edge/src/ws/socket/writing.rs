//! Writing, and the end of a connection.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem::{self, MaybeUninit};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Over, Phase, READ_BYTES, Socket};
use crate::frame;
use crate::hub::outbox::{Ending, Taken};

/// Chunks that are written with one system call.
const SLICES: usize = 64;
/// Writes after which other tasks have their turn.
const WRITES: usize = 16;

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Writes as much as the socket takes. Gives whether it took anything.
    pub(super) fn write(&mut self, ctx: &mut Context<'_>) -> Result<bool, Over> {
        let mut has_written = false;
        for _ in 0..WRITES {
            if self.output.is_empty() && !self.fetch(ctx)? {
                return Ok(has_written);
            }
            match self.write_some(ctx) {
                Poll::Ready(Ok(bytes)) if bytes > 0 => self.note_written(bytes),
                Poll::Ready(_) => return Err(Over),
                Poll::Pending => {
                    self.look_for_ending(ctx)?;
                    return Ok(has_written);
                }
            }
            has_written = true;
        }
        // Others have their turn before the rest is written.
        ctx.waker().wake_by_ref();
        Ok(has_written)
    }

    /// Takes what waits in the outbox. Gives false when there is nothing to write.
    fn fetch(&mut self, ctx: &mut Context<'_>) -> Result<bool, Over> {
        if self.phase != Phase::Open {
            if self.phase == Phase::Closing && Pin::new(&mut self.stream).poll_shutdown(ctx).is_ready() {
                self.phase = Phase::Lingering;
            }
            return self.look_for_ending(ctx).map(|()| false);
        }
        let written = mem::take(&mut self.written);
        match self.presence.connection.outbox.take(ctx, written, &mut self.output) {
            Taken::Chunks => Ok(true),
            Taken::Nothing => Ok(false),
            Taken::Ending(ending) => self.end(ending).map(|()| true),
        }
    }

    fn write_some(&mut self, ctx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        if let (1, Some(only)) = (self.output.len(), self.output.front()) {
            // The most frequent case, and the cheaper system call.
            return Pin::new(&mut self.stream).poll_write(ctx, only);
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.output) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        Pin::new(&mut self.stream).poll_write_vectored(ctx, &slices[..count])
    }

    fn note_written(&mut self, bytes: usize) {
        self.written.bytes += bytes;
        let mut left = bytes;
        while let Some(first) = self.output.front_mut() {
            if left < first.len() {
                first.advance(left);
                self.is_split |= left > 0;
                return;
            }
            left -= first.len();
            self.output.pop_front();
            self.is_split = false;
            self.written.chunks += 1;
        }
    }

    /// While the socket takes nothing, or the end has begun: whether it is time to end, or to be cut.
    fn look_for_ending(&mut self, ctx: &Context<'_>) -> Result<(), Over> {
        match self.presence.connection.outbox.ending(ctx) {
            Some(Ending::Cut) => Err(Over),
            Some(ending) if self.phase == Phase::Open => self.end(ending),
            _ => Ok(()),
        }
    }

    /// Begins to end: after what is written in part, and what is still to be sent, comes the close frame.
    fn end(&mut self, ending: Ending) -> Result<(), Over> {
        let Ending::Close { code, reason, flush } = ending else { return Err(Over) };
        if flush {
            self.output.append(&mut self.presence.connection.outbox.take_rest());
        } else {
            self.output.truncate(usize::from(self.is_split));
        }
        self.output.push_back(frame::close(code, &reason));
        (self.phase, self.input) = (Phase::Closing, Vec::new());
        (self.job, self.next, self.rewind, self.unstored) = (None, None, None, VecDeque::new());
        self.presence.hub.give_grace(&self.presence.connection);
        Ok(())
    }

    /// Reads and forgets what a client sends after the end: unread, it would make the system reset the connection
    /// before the close frame is read.
    pub(super) fn pass_over(&mut self, ctx: &mut Context<'_>) -> Result<(), Over> {
        let mut buffer = [const { MaybeUninit::uninit() }; READ_BYTES];
        loop {
            let mut buffer = ReadBuf::uninit(&mut buffer);
            match Pin::new(&mut self.stream).poll_read(ctx, &mut buffer) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Err(Over),
            }
        }
    }
}
