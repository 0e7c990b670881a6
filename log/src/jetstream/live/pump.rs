//! The task of a feed: reads what the server sends, in order, and hands it on.
//!
//! What it missed it reads back from the log before it goes on. That it missed something it knows from `prev`, and
//! after a lost connection from comparing how far it was with where each shard ends.

mod refill;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};
use types::{ConversationId, Entry, Position};

use super::outlet::Outlet;
use super::seen::{Step, Topics};
use super::{Change, Listener, Live};
use crate::jetstream::connection::{Address, unavailable};
use crate::jetstream::headers;
use crate::jetstream::link::Link;
use crate::jetstream::moments::Moments;
use crate::jetstream::names::{Heard, Names};
use crate::jetstream::reading::Reading;
use crate::jetstream::wire::{self, Op};
use crate::{Delivery, Result, Topic};

/// Words of the server that are looked at before what they brought is handed on.
const AT_ONCE: usize = 1_024;
/// How often it is looked after the connection.
const TICK: Duration = Duration::from_secs(1);
/// Ticks between two looks at how far the log is.
const TICKS_PER_LOOK: u64 = 5;
/// How long a silent server is trusted before it is asked whether it lives.
const QUIET: Duration = Duration::from_secs(5);
/// How long after that it has to say anything.
const DEAD: Duration = Duration::from_secs(12);
/// How long a confirmation may take before it is asked for again.
const CONFIRMING: Duration = Duration::from_secs(2);
/// The first pause after a failure to connect; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that held for so long was a good one.
const STEADY: Duration = Duration::from_secs(10);
/// The subscription to which answers come.
const ANSWERS: u64 = 1;
/// The subscription that tells of new leaders.
const ELECTIONS: u64 = 2;

/// What the task holds.
pub(super) struct Pump {
    listener: Arc<Listener>,
    outlet: Arc<Outlet>,
    reading: Arc<Reading>,
    moments: Arc<Moments>,
    address: Address,
    inbox: String,
    topics: Topics,
    next_number: u64,
    /// Of each shard, the `seq` up to which everything that is listened to was handed on.
    floors: Vec<u64>,
    /// Where each shard ended at the last look.
    last_look: Vec<u64>,
    /// Whether reading stood still since the last look, because the reader is slow.
    stood_still: bool,
    /// Shards whose stream has a new leader.
    elected: BTreeSet<u16>,
    rounds: Vec<Round>,
    next_round: u64,
    /// Whether there was a connection before.
    was_connected: bool,
    out: BytesMut,
    batch: Vec<Delivery>,
}

/// Subscriptions that the server has been told of and has not confirmed.
struct Round {
    number: u64,
    topics: Vec<(Topic, Vec<oneshot::Sender<()>>)>,
    /// Answers that are still to come.
    missing: u16,
    asked: Instant,
}

impl Pump {
    /// Finds out where the log ends; everything later is to be delivered.
    pub(super) async fn open(live: &Live, listener: Arc<Listener>, outlet: Arc<Outlet>) -> Result<Self> {
        let floors = live.reading.ends().await?;
        Ok(Self {
            listener,
            outlet,
            reading: Arc::clone(&live.reading),
            moments: Arc::clone(&live.moments),
            address: live.address.clone(),
            inbox: live.reading.client.new_inbox(),
            topics: Topics::default(),
            next_number: 1,
            last_look: floors.clone(),
            floors,
            stood_still: false,
            elected: BTreeSet::new(),
            rounds: Vec::new(),
            next_round: 0,
            was_connected: false,
            out: BytesMut::new(),
            batch: Vec::new(),
        })
    }

    pub(super) async fn run(mut self) {
        let stop = self.listener.stop.clone();
        stop.run_until_cancelled(self.follow()).await;
        self.topics.each(|topic, _| self.moments.forget(topic));
        // Whoever waits for a subscription learns that there will be none.
        self.listener.take_changes();
        self.outlet.close();
    }

    /// Connects, again and again.
    async fn follow(&mut self) {
        let mut pause = FIRST_PAUSE;
        let mut attempt = 0;
        loop {
            let server = self.address.servers[attempt % self.address.servers.len()].clone();
            attempt += 1;
            let began = Instant::now();
            if let Err(error) = self.connect_and_follow(&server).await {
                tracing::warn!(%error, "a feed has lost its connection");
            }
            self.outlet.push(&mut self.batch);
            if began.elapsed() > STEADY {
                pause = FIRST_PAUSE;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn connect_and_follow(&mut self, server: &str) -> Result<()> {
        let mut opened = Link::open(server, &self.address, "rookery feed").await?;
        let link = &mut opened;
        self.begin(link).await?;
        let (mut tick, mut ticks) = (Instant::now() + TICK, 0);
        let mut heard = Instant::now();
        loop {
            if !self.out.is_empty() {
                link.write(&self.out.split()).await?;
            }
            let has_room = self.outlet.has_room();
            tokio::select! {
                () = self.listener.changed.notified() => self.apply_changes(link),
                op = link.read(), if has_room => {
                    heard = Instant::now();
                    self.take_all(op?, link).await?;
                }
                () = self.outlet.room(), if !has_room => self.stood_still = true,
                () = sleep_until(tick) => {
                    tick = Instant::now() + TICK;
                    ticks += 1;
                    if !has_room {
                        heard = Instant::now();
                    }
                    self.look_after(link, heard, ticks)?;
                    self.follow_elections().await?;
                }
            }
        }
    }

    /// Subscribes to everything anew, and reads back what was missed meanwhile.
    async fn begin(&mut self, link: &mut Link) -> Result<()> {
        self.out.clear();
        wire::subscribe(&mut self.out, &format!("{}.*", self.inbox), ANSWERS);
        if link.info.cluster.is_some() {
            wire::subscribe(&mut self.out, &Names::elections(), ELECTIONS);
        }
        let (names, out) = (&self.reading.names, &mut self.out);
        self.topics.each(|topic, number| subscribe(out, names, topic, number));
        let unconfirmed = std::mem::take(&mut self.rounds).into_iter().flat_map(|round| round.topics).collect();
        self.ask_round(link, unconfirmed);
        link.write(&self.out.split()).await?;
        let began = Instant::now();
        while !self.rounds.is_empty() {
            let op = tokio::time::timeout_at(began + DEAD, link.read()).await;
            match op.map_err(|_| unavailable("the server does not confirm subscriptions"))?? {
                Op::Message(message) if message.sid == ANSWERS => self.answered(&message),
                Op::Message(message) if message.sid == ELECTIONS => self.note_election(&message),
                // It comes again from the log, after what was missed before it.
                Op::Message(message) if Heard::of(message.sid).0 != Heard::Notice => {}
                Op::Message(message) => self.message(message).await?,
                Op::Pong => self.confirmed_by_pong(),
                Op::Ping => wire::pong(&mut self.out),
                Op::Error(error) => tracing::warn!(error, "NATS reports"),
                _ => {}
            }
        }
        if std::mem::replace(&mut self.was_connected, true) {
            self.batch.push(Delivery::Interrupted);
        }
        self.outlet.push(&mut self.batch);
        self.catch_up().await
    }

    /// Makes the changes that were asked for.
    fn apply_changes(&mut self, link: &Link) {
        let mut subscribed = Vec::new();
        let since: Arc<[u64]> = (0..self.reading.names.shards).map(|shard| self.reading.known_end(shard)).collect();
        for (topic, change) in self.listener.take_changes() {
            match change {
                Change::Unsubscribe => self.unsubscribe(topic),
                Change::Subscribe(waiting) => {
                    self.subscribe(topic, &since);
                    subscribed.push((topic, waiting));
                }
            }
        }
        if !subscribed.is_empty() {
            self.ask_round(link, subscribed);
        }
    }

    fn subscribe(&mut self, topic: Topic, since: &Arc<[u64]>) {
        if self.topics.add(topic, self.next_number, since) {
            subscribe(&mut self.out, &self.reading.names, topic, self.next_number);
            self.next_number += 1;
            self.moments.listen(topic);
        }
    }

    fn unsubscribe(&mut self, topic: Topic) {
        let Some(number) = self.topics.remove(topic) else { return };
        self.moments.forget(topic);
        for (heard, _) in self.reading.names.subscriptions(topic) {
            wire::unsubscribe(&mut self.out, heard.sid(number));
        }
    }

    /// Asks for the confirmation of what is subscribed to. A server on its own confirms by answering a `PING`. In a
    /// cluster the servers that lead the streams must know too: an answer from each, which comes by the way on
    /// which they were told, confirms that they do.
    fn ask_round(&mut self, link: &Link, topics: Vec<(Topic, Vec<oneshot::Sender<()>>)>) {
        self.next_round += 1;
        let names = Arc::clone(&self.reading.names);
        let shards = if link.info.cluster.is_some() { names.shards } else { 0 };
        for shard in 0..shards {
            let subject = format!("$JS.API.STREAM.MSG.GET.{}", names.stream(shard));
            // What is asked does not matter, so it is asked for nothing.
            wire::publish(&mut self.out, &subject, &format!("{}.{}", self.inbox, self.next_round), br#"{"seq":0}"#);
        }
        if shards == 0 {
            wire::ping(&mut self.out);
        }
        let round = Round { number: self.next_round, topics, missing: shards.max(1), asked: Instant::now() };
        self.rounds.push(round);
    }

    fn answered(&mut self, message: &wire::Heard) {
        let number = std::str::from_utf8(&message.subject).ok().and_then(|subject| subject.rsplit('.').next());
        let number = number.and_then(|number| number.parse::<u64>().ok());
        // A shard without a leader is asked again.
        if message.headers.starts_with(b"NATS/1.0 503") {
            return;
        }
        let Some(index) = self.rounds.iter().position(|round| Some(round.number) == number) else { return };
        self.rounds[index].missing -= 1;
        if self.rounds[index].missing == 0 {
            confirm(self.rounds.remove(index));
        }
    }

    fn note_election(&mut self, message: &wire::Heard) {
        self.elected.extend(self.reading.names.read_election(&message.subject));
    }

    /// A `PONG` answers the oldest `PING`. One that was sent for its own sake does no harm: it confirms too early only
    /// what was asked after it, which the server has read before it answers.
    fn confirmed_by_pong(&mut self) {
        if self.rounds.first().is_some_and(|round| round.missing == 1) {
            confirm(self.rounds.remove(0));
        }
    }

    /// Takes `first` and all that was read along with it.
    async fn take_all(&mut self, first: Op, link: &mut Link) -> Result<()> {
        let mut next = Some(first);
        let mut count = 0;
        while let Some(op) = next {
            self.take(op, link).await?;
            count += 1;
            next = if count < AT_ONCE { link.take()? } else { None };
        }
        self.outlet.push(&mut self.batch);
        Ok(())
    }

    async fn take(&mut self, op: Op, link: &Link) -> Result<()> {
        match op {
            Op::Message(message) if message.sid == ANSWERS => self.answered(&message),
            Op::Message(message) if message.sid == ELECTIONS => self.note_election(&message),
            Op::Message(message) => return self.message(message).await,
            Op::Ping => wire::pong(&mut self.out),
            Op::Pong if link.info.cluster.is_none() => self.confirmed_by_pong(),
            Op::Error(error) => return Err(unavailable(error)),
            Op::Pong | Op::Info(_) | Op::Nothing => {}
        }
        Ok(())
    }

    async fn message(&mut self, message: wire::Heard) -> Result<()> {
        let (heard, number) = Heard::of(message.sid);
        let Ok(subject) = std::str::from_utf8(&message.subject) else { return Ok(()) };
        if heard == Heard::Notice {
            if let Some(topic) = self.reading.names.read_notice(subject)
                && self.topics.number_of(topic) == Some(number)
            {
                self.batch.push(Delivery::Notice { topic, notice: message.payload });
            }
            return Ok(());
        }
        let Some((shard, entry)) = self.entry(subject, &message) else {
            tracing::warn!("a live copy cannot be read");
            return Ok(());
        };
        let topic = match (entry.conversation, heard) {
            (ConversationId::Group(group), _) => Topic::Group(group),
            (ConversationId::Direct(first, _), Heard::First) => Topic::User(first),
            // Notes to oneself come by both subscriptions.
            (ConversationId::Direct(first, second), _) if first == second => return Ok(()),
            (ConversationId::Direct(_, second), _) => Topic::User(second),
        };
        if self.topics.number_of(topic) == Some(number) {
            return self.event(topic, entry, shard).await;
        }
        // It will not be delivered; whoever appended it need not wait for that.
        self.moments.tell(shard, entry.position.seq, entry.at);
        Ok(())
    }

    /// A live copy as an entry.
    fn entry(&self, subject: &str, message: &wire::Heard) -> Option<(u16, Entry)> {
        let (shard, conversation) = self.reading.names.read_event(subject)?;
        let seq = wire::header(&message.headers, headers::SEQUENCE)?.parse().ok()?;
        let prev = wire::header(&message.headers, headers::LAST_SEQUENCE)?.parse().ok()?;
        let at = wire::header(&message.headers, headers::TIME)?.parse().ok()?;
        let position = Position { epoch: self.reading.epoch, seq };
        let trace = wire::header(&message.headers, headers::TRACE).and_then(|trace| trace.parse().ok());
        Some((shard, Entry { conversation, position, prev, at, payload: message.payload.clone(), trace }))
    }

    async fn event(&mut self, topic: Topic, entry: Entry, shard: u16) -> Result<()> {
        match self.topics.step(topic, &entry) {
            Step::Drop => return Ok(()),
            Step::Deliver => self.deliver(topic, entry.clone()),
            Step::Refill(after) => self.refill(topic, after, &entry).await?,
        }
        let floor = &mut self.floors[usize::from(shard)];
        *floor = entry.position.seq.max(*floor);
        self.reading.learn_end(shard, entry.position.seq);
        Ok(())
    }

    fn deliver(&mut self, topic: Topic, entry: Entry) {
        self.topics.delivered(topic, entry.conversation, entry.position.seq);
        self.batch.push(Delivery::Event { topic, entry });
    }

    /// Sees whether the server lives and answers, and how far the log is.
    fn look_after(&mut self, link: &Link, heard: Instant, ticks: u64) -> Result<()> {
        if heard.elapsed() > DEAD {
            return Err(unavailable("the server is silent"));
        }
        if heard.elapsed() > QUIET {
            wire::ping(&mut self.out);
        }
        if self.rounds.iter().any(|round| round.asked.elapsed() > CONFIRMING) {
            let again = std::mem::take(&mut self.rounds).into_iter().flat_map(|round| round.topics).collect();
            self.ask_round(link, again);
        }
        if ticks.is_multiple_of(TICKS_PER_LOOK) {
            self.look_at_ends();
        }
        Ok(())
    }

    /// Everything that was stored before the last look has come long since, unless reading stood still. So less is to
    /// be read back should the connection be lost.
    fn look_at_ends(&mut self) {
        let looked: Vec<u64> = (0..).zip(&self.floors).map(|(shard, _)| self.reading.known_end(shard)).collect();
        let before = std::mem::replace(&mut self.last_look, looked);
        if !std::mem::take(&mut self.stood_still) {
            for (floor, before) in self.floors.iter_mut().zip(before) {
                *floor = before.max(*floor);
            }
        }
        let reading = Arc::clone(&self.reading);
        drop(tokio::spawn(async move {
            if let Err(error) = reading.ends().await {
                tracing::debug!(%error, "it is not known how far the log is");
            }
        }));
    }
}

fn subscribe(out: &mut BytesMut, names: &Names, topic: Topic, number: u64) {
    for (heard, subject) in names.subscriptions(topic) {
        wire::subscribe(out, &subject, heard.sid(number));
    }
}

fn confirm(round: Round) {
    for waiting in round.topics.into_iter().flat_map(|(_, waiting)| waiting) {
        // Who no longer waits has been told that it takes too long.
        waiting.send(()).ok();
    }
}
