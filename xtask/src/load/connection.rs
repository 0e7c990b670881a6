//! A socket, with what is half read and half written.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::frame;
use super::ledger::Reader;

/// How far the opening has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The HTTP answer is awaited.
    Upgrading,
    /// Frames come; the server has not said yet that we are in.
    Opening,
    /// All that is sent will be seen.
    Joined,
}

/// One member's connection.
pub(super) struct Connection {
    pub(super) state: State,
    pub(super) reader: Reader,
    stream: TcpStream,
    /// The start of a frame whose end has not come yet.
    rest: Vec<u8>,
    /// What the socket would not take yet.
    out: Vec<u8>,
}

impl Connection {
    /// Connects and asks for the upgrade.
    pub(super) fn open(address: SocketAddr, upgrade: &str, room: u32) -> Result<Self> {
        let mut stream =
            std::net::TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.write_all(upgrade.as_bytes())?;
        stream.set_nonblocking(true)?;
        let stream = TcpStream::from_std(stream);
        let reader = Reader { room, seen: 0 };
        Ok(Self { state: State::Upgrading, reader, stream, rest: Vec::new(), out: Vec::new() })
    }

    /// From now on `poll` tells of this connection by its index.
    pub(super) fn register(&mut self, registry: &Registry, index: usize) -> Result<()> {
        Ok(registry.register(&mut self.stream, Token(index), Interest::READABLE | Interest::WRITABLE)?)
    }

    /// Reads once into the buffer, behind what was left over: how many bytes there are now, and whether there may
    /// be more to read.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<(usize, bool)> {
        let left = self.rest.len();
        buffer[..left].copy_from_slice(&self.rest);
        self.rest.clear();
        let space = &mut buffer[left..];
        if space.is_empty() {
            bail!("a frame that is larger than the read buffer");
        }
        let room = space.len();
        match self.stream.read(space) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(count) => Ok((left + count, count == room)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok((left, false)),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps what could not be used yet for the next read.
    pub(super) fn keep(&mut self, rest: &[u8]) {
        self.rest.extend_from_slice(rest);
    }

    /// Adds a frame to what is written by the next [`Connection::flush`]. Gives whether it is the first.
    pub(super) fn push(&mut self, opcode: u8, payload: &[u8]) -> bool {
        let is_first = self.out.is_empty();
        frame::push(&mut self.out, opcode, payload);
        is_first
    }

    /// Sends a frame: what the socket does not take now goes when it can.
    pub(super) fn send(&mut self, opcode: u8, payload: &[u8]) -> Result<()> {
        self.push(opcode, payload);
        self.flush()
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self) -> Result<()> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
