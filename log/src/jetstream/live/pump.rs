//! The task of a feed: reads what the server sends, in order, and hands it on.
//!
//! What it missed it reads back from the log before it goes on. That it missed something in a conversation it knows
//! from `prev`. That it may have missed something in a shard it knows from a lost connection, from a leader that does
//! not answer on this connection ([`rounds`]), and from a new leader. Such a shard is *behind*: nothing more of it is
//! handed on until it is read back up to its end ([`refill`]); the others go on meanwhile.

mod refill;
mod rounds;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{Instant, sleep, sleep_until};
use types::{ConversationId, Entry, Position};

use self::rounds::Rounds;
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
    /// Shards of which something may be missing, and from where they are to be read back.
    behind: BTreeMap<u16, u64>,
    /// Those of them that can be read back now: what is stored from now on will come by itself.
    ready: BTreeSet<u16>,
    rounds: Rounds,
    /// Whether there was a connection before.
    was_connected: bool,
    out: BytesMut,
    batch: Vec<Delivery>,
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
            floors,
            behind: BTreeMap::new(),
            ready: BTreeSet::new(),
            rounds: Rounds::default(),
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
        self.begin(link);
        let (mut tick, mut ticks) = (Instant::now() + TICK, 0);
        let mut heard = Instant::now();
        loop {
            let has_room = self.outlet.has_room();
            if has_room && !self.ready.is_empty() {
                self.read_back().await;
                heard = Instant::now();
            }
            if !self.out.is_empty() {
                link.write(&self.out.split()).await?;
            }
            tokio::select! {
                () = self.listener.changed.notified() => self.apply_changes(link),
                op = link.read(), if has_room => {
                    self.take_all(op?, link).await?;
                    heard = Instant::now();
                }
                () = self.outlet.room(), if !has_room => {}
                // There is more to be read back.
                () = std::future::ready(()), if has_room && !self.ready.is_empty() => {}
                () = sleep_until(tick) => {
                    tick = Instant::now() + TICK;
                    ticks += 1;
                    if !has_room {
                        heard = Instant::now();
                    }
                    self.look_after(link, heard, ticks)?;
                }
            }
        }
    }

    /// Subscribes to everything anew. All shards are behind by what was stored meanwhile.
    fn begin(&mut self, link: &Link) {
        self.out.clear();
        wire::subscribe(&mut self.out, &format!("{}.>", self.inbox), ANSWERS);
        if link.info.cluster.is_some() {
            wire::subscribe(&mut self.out, &Names::elections(), ELECTIONS);
        }
        let (names, out) = (&self.reading.names, &mut self.out);
        self.topics.each(|topic, number| subscribe(out, names, topic, number));
        let unconfirmed = self.rounds.begin();
        self.ready.clear();
        (0..self.reading.names.shards).for_each(|shard| self.fall_behind(shard, 0));
        self.ask(link, unconfirmed, self.all_shards());
        if std::mem::replace(&mut self.was_connected, true) {
            self.batch.push(Delivery::Interrupted);
            self.outlet.push(&mut self.batch);
        }
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
            self.ask(link, subscribed, self.all_shards());
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
            Op::Message(message) if message.sid == ELECTIONS => self.elected(&message, link),
            Op::Message(message) => return self.message(message).await,
            Op::Ping => wire::pong(&mut self.out),
            Op::Pong => self.ponged(),
            // Servers come and go, or routes between them.
            Op::Info(_) if link.info.cluster.is_some() => {
                (0..self.reading.names.shards).for_each(|shard| self.fall_behind(shard, 0));
                self.ask(link, Vec::new(), self.all_shards());
            }
            // Without this permission, what a leader that ended has not told comes with the next event.
            Op::Error(error) if error.contains("LEADER_ELECTED") => tracing::warn!(error, "NATS reports"),
            Op::Error(error) => return Err(unavailable(error)),
            Op::Info(_) | Op::Nothing => {}
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
        self.reading.learn_end(shard, entry.position.seq);
        if self.behind.contains_key(&shard) {
            // It will be read back, after what is missing before it.
            return Ok(());
        }
        match self.topics.step(topic, &entry) {
            Step::Drop => return Ok(()),
            Step::Deliver => self.deliver(topic, entry.clone()),
            Step::Refill(after) => self.refill(topic, after, &entry).await?,
        }
        let floor = &mut self.floors[usize::from(shard)];
        *floor = entry.position.seq.max(*floor);
        Ok(())
    }

    fn deliver(&mut self, topic: Topic, entry: Entry) {
        self.topics.delivered(topic, entry.conversation, entry.position.seq);
        self.batch.push(Delivery::Event { topic, entry });
    }

    /// Sees whether the server lives, and whether the leader of each shard answers.
    fn look_after(&mut self, link: &Link, heard: Instant, ticks: u64) -> Result<()> {
        if heard.elapsed() > DEAD {
            return Err(unavailable("the server is silent"));
        }
        if heard.elapsed() > QUIET {
            self.rounds.ping(&mut self.out);
        }
        if link.info.cluster.is_some() {
            self.give_up_rounds();
        }
        if ticks.is_multiple_of(TICKS_PER_LOOK) {
            self.look_at_ends();
            self.ask(link, Vec::new(), self.all_shards());
        } else if let Some(unasked) = self.unasked() {
            self.ask(link, Vec::new(), unasked);
        }
        Ok(())
    }

    /// Finds out how far the log is.
    fn look_at_ends(&self) {
        let reading = Arc::clone(&self.reading);
        drop(tokio::spawn(async move {
            if let Err(error) = reading.ends().await {
                tracing::debug!(%error, "it is not known how far the log is");
            }
        }));
    }

    fn all_shards(&self) -> BTreeSet<u16> {
        (0..self.reading.names.shards).collect()
    }
}

fn subscribe(out: &mut BytesMut, names: &Names, topic: Topic, number: u64) {
    for (heard, subject) in names.subscriptions(topic) {
        wire::subscribe(out, &subject, heard.sid(number));
    }
}
