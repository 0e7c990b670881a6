//! All connections, and the loop that drives them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use mio::{Events, Poll, Token, Waker};

use super::connection::{Connection, State};
use super::ledger::Ledger;
use super::pace::{Next, Pace};
use super::protocol::{Protocol, Said};
use super::{Latency, Phase, Plan, Report, frame};

/// How much is read at once.
const READ_BYTES: usize = 256 * 1024;
/// How many connections are opened at the same time.
const OPENING: usize = 64;
/// How long nothing may happen before what is missing counts as lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer latencies count as this one.
const MAX_LATENCY_MICROS: u64 = 600_000_000;
/// The event by which the thread that reads the phases wakes the loop.
const WAKE: Token = Token(usize::MAX);

/// The load client.
pub(super) struct Client {
    protocol: Protocol,
    rooms: Vec<String>,
    room_size: usize,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    payload: Vec<u8>,
    /// Room after room, each member of a room after the other.
    connections: Vec<Connection>,
    joined: usize,
    ledger: Ledger,
    /// Connections whose message was acknowledged in this turn, once for each.
    acked: Vec<usize>,
    /// Connections that have something to write.
    unwritten: Vec<usize>,
    latencies: Option<Histogram<u64>>,
}

impl Client {
    pub(super) fn new(plan: &Plan) -> Result<Self> {
        let room_size = plan.rooms.first().context("no rooms")?.members.len();
        if plan.rooms.iter().any(|room| room.members.len() != room_size) {
            bail!("rooms of different sizes");
        }
        Ok(Self {
            protocol: plan.protocol,
            rooms: plan.rooms.iter().map(|room| room.id.clone()).collect(),
            room_size,
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            buffer: vec![0; READ_BYTES],
            payload: Vec::new(),
            connections: Vec::new(),
            joined: 0,
            ledger: Ledger::new(plan.rooms.len(), room_size),
            acked: Vec::new(),
            unwritten: Vec::new(),
            latencies: None,
        })
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.len()
    }

    pub(super) fn waker(&self) -> Result<Waker> {
        Ok(Waker::new(self.poll.registry(), WAKE)?)
    }

    /// Opens every connection and waits until all have joined.
    pub(super) fn connect(&mut self, plan: &Plan) -> Result<()> {
        for (index, room) in plan.rooms.iter().enumerate() {
            let index = u32::try_from(index)?;
            for member in &room.members {
                let upgrade = plan.protocol.upgrade(plan.address, room, member);
                let mut connection = Connection::open(plan.address, &upgrade, index)?;
                connection.register(self.poll.registry(), self.connections.len())?;
                self.connections.push(connection);
                self.join(OPENING)?;
            }
        }
        self.join(1)
    }

    /// Turns until fewer than so many are still opening.
    fn join(&mut self, opening: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.connections.len() - self.joined >= opening {
            self.turn(Some(Duration::from_millis(100)))?;
            if let Some(error) = self.ledger.take_errors().first() {
                bail!("{error}");
            }
            if Instant::now() > deadline {
                bail!("{} of {} connections do not open", self.connections.len() - self.joined, self.connections.len());
            }
        }
        Ok(())
    }

    /// Serves the connections until something happens, at most for a second.
    pub(super) fn wait(&mut self) -> Result<()> {
        self.turn(Some(Duration::from_secs(1)))
    }

    /// Runs a phase to its end: until all that was sent has arrived, or nothing has for too long.
    pub(super) fn run(&mut self, phase: Phase) -> Result<Report> {
        self.ledger.begin();
        self.connections.iter_mut().for_each(|connection| connection.reader.seen = 0);
        let started = Instant::now();
        let mut pace = Pace::new(phase, started, self.rooms.len(), self.room_size);
        self.latencies = if pace.is_open_loop() { Some(Histogram::new_with_max(MAX_LATENCY_MICROS, 3)?) } else { None };
        let (mut last_change, mut arrived) = (started, 0);
        loop {
            let next = self.send_due(&mut pace)?;
            if next == Next::Finished && self.ledger.open() == 0 {
                break;
            }
            self.turn(Some(if next == Next::Spin { Duration::ZERO } else { Duration::from_millis(100) }))?;
            self.acked.drain(..).for_each(|connection| pace.acked(connection));
            let now = Instant::now();
            if self.ledger.deliveries() != arrived || self.ledger.open() == 0 {
                (last_change, arrived) = (now, self.ledger.deliveries());
            }
            if now - last_change > PATIENCE {
                self.ledger.error(format!("{} messages did not reach everybody", self.ledger.open()));
            }
            if self.ledger.has_errors() {
                break;
            }
        }
        Ok(self.report(last_change - started))
    }

    fn report(&mut self, took: Duration) -> Report {
        let latency = self.latencies.take().map(|latencies| Latency {
            p50: latencies.value_at_quantile(0.5),
            p99: latencies.value_at_quantile(0.99),
            p999: latencies.value_at_quantile(0.999),
            max: latencies.max(),
        });
        Report {
            messages: self.ledger.sent().into(),
            deliveries: self.ledger.deliveries(),
            acks: self.ledger.acks(),
            seconds: took.as_secs_f64(),
            latency,
            errors: self.ledger.take_errors(),
        }
    }

    /// Sends what is due, a connection's messages in one write, and tells why no more is due.
    fn send_due(&mut self, pace: &mut Pace) -> Result<Next> {
        let next = self.push_due(pace);
        for index in self.unwritten.drain(..) {
            self.connections[index].flush()?;
        }
        Ok(next)
    }

    fn push_due(&mut self, pace: &mut Pace) -> Next {
        loop {
            match pace.next(Instant::now(), self.ledger.open()) {
                Next::Send(index, due) => self.push(index, due),
                next => return next,
            }
        }
    }

    /// Adds a message to what a connection is to write.
    fn push(&mut self, index: usize, due: Instant) {
        let connection = &mut self.connections[index];
        let room = connection.reader.room;
        let number = self.ledger.send(room, due);
        self.payload.clear();
        self.protocol.send(&mut self.payload, &self.rooms[room as usize], number);
        if connection.push(frame::TEXT, &self.payload) {
            self.unwritten.push(index);
        }
    }

    /// Waits for what the sockets have, and reads it.
    fn turn(&mut self, timeout: Option<Duration>) -> Result<()> {
        if let Err(error) = self.poll.poll(&mut self.events, timeout) {
            return if error.kind() == std::io::ErrorKind::Interrupted { Ok(()) } else { Err(error.into()) };
        }
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let outcome = events.iter().filter(|event| event.token() != WAKE).try_for_each(|event| {
            let index = event.token().0;
            if event.is_writable() {
                self.connections[index].flush()?;
            }
            if event.is_readable() { self.read(index) } else { Ok(()) }
        });
        std::mem::swap(&mut self.events, &mut events);
        outcome
    }

    /// Reads all that a connection has.
    fn read(&mut self, index: usize) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let outcome = loop {
            match self.connections[index].read(&mut buffer) {
                Ok((count, may_have_more)) => match self.take(index, &buffer[..count]) {
                    Ok(()) if may_have_more => {}
                    outcome => break outcome,
                },
                Err(error) => break Err(error),
            }
        };
        self.buffer = buffer;
        outcome.with_context(|| format!("connection {index}"))
    }

    /// Takes the frames in the bytes; what is left over is kept.
    fn take(&mut self, index: usize, mut bytes: &[u8]) -> Result<()> {
        if self.connections[index].state == State::Upgrading {
            let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
                self.connections[index].keep(bytes);
                return Ok(());
            };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                bail!("no upgrade: {}", String::from_utf8_lossy(bytes));
            }
            self.connections[index].state = State::Opening;
            bytes = &bytes[end + 4..];
        }
        let now = Instant::now();
        loop {
            let found = frame::first(bytes).map_err(|_| anyhow::anyhow!("a frame that cannot be read"))?;
            let Some(frame) = found else { break };
            bytes = &bytes[frame.length..];
            match frame.opcode {
                frame::TEXT => self.hear(index, frame.payload, now)?,
                frame::PING => self.connections[index].send(frame::PONG, frame.payload)?,
                frame::CLOSE => bail!("closed by the server: {}", frame::reason(frame.payload)),
                _ => {}
            }
        }
        self.connections[index].keep(bytes);
        Ok(())
    }

    /// Does what a text frame asks for.
    #[inline]
    fn hear(&mut self, index: usize, payload: &[u8], now: Instant) -> Result<()> {
        let connection = &mut self.connections[index];
        match self.protocol.read(payload) {
            Said::Message(number) => {
                let due = self.ledger.deliver(&mut connection.reader, number);
                if let (Some(latencies), Some(due)) = (&mut self.latencies, due) {
                    let micros = now.saturating_duration_since(due).as_micros();
                    latencies.saturating_record(u64::try_from(micros).unwrap_or(u64::MAX));
                }
            }
            Said::Ack(number) => {
                self.ledger.ack(number);
                self.acked.push(index);
            }
            Said::Joined => {
                connection.state = State::Joined;
                self.joined += 1;
            }
            Said::Answer(answer) => connection.send(frame::TEXT, answer)?,
            Said::Other => {}
            Said::Error(said) => self.ledger.error(String::from_utf8_lossy(said).into_owned()),
        }
        Ok(())
    }
}
