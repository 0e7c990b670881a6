//! Questions on the feed's own connection.
//!
//! An answer comes by the way that live copies take. So it tells two things: that whoever answers has learnt of the
//! subscriptions that were made before the question, and that every copy of what was stored before the question has
//! come. A server on its own answers with a `PONG`. In a cluster the servers that lead the streams must know of a
//! subscription too, so each is asked.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::BytesMut;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Pump;
use crate::Topic;
use crate::jetstream::link::Link;
use crate::jetstream::wire;

/// How long the leader of a shard may take to answer. Then the shard is behind, and nobody waits for it.
const ANSWERING: Duration = Duration::from_secs(2);
/// How far before the last known event a new leader's shard is read back: far more than the leader before can have
/// stored and not told of.
const UNTOLD: u64 = 16_384;
/// What a server says that is no leader.
const NOT_AVAILABLE: u16 = 503;

/// Topics, each with those who wait until it is surely listened to.
pub(super) type Subscribed = Vec<(Topic, Vec<oneshot::Sender<()>>)>;

/// The questions that are open, the oldest first.
#[derive(Default)]
pub(super) struct Rounds {
    open: VecDeque<Round>,
    last_number: u64,
    /// The numbers of the last `PING` that was sent and the last that was answered.
    pings: u64,
    pongs: u64,
}

/// One question to several shards.
pub(super) struct Round {
    number: u64,
    subscribed: Subscribed,
    /// Shards that have not answered.
    missing: BTreeSet<u16>,
    /// Where each shard ended when they were asked, as far as it was known.
    ends: Vec<u64>,
    asked: Instant,
    /// The number of the `PING` that asks a server on its own; in a cluster none does.
    ping: u64,
}

/// The answer to a question for an event that does not exist: an error in any case.
#[derive(Deserialize)]
struct Answer {
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    code: u16,
}

impl Rounds {
    /// Begins anew on another connection. Gives what is not confirmed.
    pub(super) fn begin(&mut self) -> Subscribed {
        let open = std::mem::take(&mut self.open);
        *self = Self { last_number: self.last_number, ..Self::default() };
        open.into_iter().flat_map(|round| round.subscribed).collect()
    }

    pub(super) fn ping(&mut self, out: &mut BytesMut) {
        self.pings += 1;
        wire::ping(out);
    }

    fn is_asked(&self, shard: u16) -> bool {
        self.open.iter().any(|round| round.missing.contains(&shard))
    }
}

impl Pump {
    /// Asks shards, and confirms what is subscribed to when all have answered.
    pub(super) fn ask(&mut self, link: &Link, subscribed: Subscribed, shards: BTreeSet<u16>) {
        self.rounds.last_number += 1;
        let number = self.rounds.last_number;
        let mut ping = u64::MAX;
        if link.info.cluster.is_none() {
            self.rounds.ping(&mut self.out);
            ping = self.rounds.pings;
        } else {
            for shard in &shards {
                let subject = format!("$JS.API.STREAM.MSG.GET.{}", self.reading.names.stream(*shard));
                let reply = format!("{}.{number}.{shard}", self.inbox);
                // What is asked does not matter, so it is asked for nothing.
                wire::publish(&mut self.out, &subject, &reply, br#"{"seq":0}"#);
            }
        }
        let ends = (0..self.reading.names.shards).map(|shard| self.reading.known_end(shard)).collect();
        let (missing, asked) = (shards, Instant::now());
        self.rounds.open.push_back(Round { number, subscribed, missing, ends, asked, ping });
    }

    /// A message has come to this feed's inbox.
    pub(super) fn answered(&mut self, message: &wire::Heard) {
        let Some((number, shard)) = std::str::from_utf8(&message.subject).ok().and_then(|subject| {
            let mut words = subject.rsplit('.');
            let shard = words.next()?.parse::<u16>().ok()?;
            Some((words.next()?.parse::<u64>().ok()?, shard))
        }) else {
            return;
        };
        let is_leader = serde_json::from_slice(&message.payload)
            .is_ok_and(|Answer { error }| error.is_none_or(|error| error.code != NOT_AVAILABLE));
        if !is_leader || message.headers.starts_with(wire::NO_RESPONDERS) {
            return;
        }
        let Some(index) = self.rounds.open.iter().position(|round| round.number == number) else { return };
        let round = &mut self.rounds.open[index];
        if round.missing.remove(&shard) {
            let end = round.ends.get(usize::from(shard)).copied().unwrap_or_default();
            let is_last = round.missing.is_empty();
            self.reached(shard, end);
            if is_last {
                self.rounds.open.remove(index).into_iter().for_each(confirm);
            }
        }
    }

    /// A server on its own has answered a `PING`.
    pub(super) fn ponged(&mut self) {
        self.rounds.pongs += 1;
        while self.rounds.open.front().is_some_and(|round| round.ping <= self.rounds.pongs) {
            let Some(round) = self.rounds.open.pop_front() else { return };
            for shard in &round.missing {
                let end = round.ends.get(usize::from(*shard)).copied().unwrap_or_default();
                self.reached(*shard, end);
            }
            confirm(round);
        }
    }

    /// A shard has answered: whatever was stored up to `end` has come, unless it is behind. Then it comes from now on.
    fn reached(&mut self, shard: u16, end: u64) {
        if self.behind.contains_key(&shard) {
            self.ready.insert(shard);
        } else if let Some(floor) = self.floors.get_mut(usize::from(shard)) {
            *floor = end.max(*floor);
        }
    }

    /// Lets nobody wait for shards that do not answer: what they store comes when they do.
    pub(super) fn give_up_rounds(&mut self) {
        while self.rounds.open.front().is_some_and(|oldest| oldest.asked.elapsed() > ANSWERING) {
            let Some(round) = self.rounds.open.pop_front() else { return };
            tracing::debug!(shards = ?round.missing, "shards do not answer");
            round.missing.iter().for_each(|shard| self.fall_behind(*shard, 0));
            confirm(round);
        }
    }

    /// Shards that are behind and of which no answer is awaited.
    pub(super) fn unasked(&self) -> Option<BTreeSet<u16>> {
        let is_unasked = |shard: &u16| !self.ready.contains(shard) && !self.rounds.is_asked(*shard);
        let unasked: BTreeSet<u16> = self.behind.keys().copied().filter(is_unasked).collect();
        (!unasked.is_empty()).then_some(unasked)
    }

    /// From now on a shard is to be read back, from so far before what was handed on.
    pub(super) fn fall_behind(&mut self, shard: u16, margin: u64) {
        let Some(floor) = self.floors.get(usize::from(shard)) else { return };
        let from = floor.saturating_sub(margin).max(self.reading.base.min(*floor));
        let known = self.behind.entry(shard).or_insert(from);
        *known = from.min(*known);
    }

    /// A shard has a new leader. The one before may have stored events and ended before it sent their copies: an event
    /// that a majority of the replicas has is stored.
    pub(super) fn elected(&mut self, message: &wire::Heard, link: &Link) {
        let Some(shard) = self.reading.names.read_election(&message.subject) else { return };
        self.fall_behind(shard, UNTOLD);
        self.ready.remove(&shard);
        self.ask(link, Vec::new(), BTreeSet::from([shard]));
    }
}

fn confirm(round: Round) {
    for waiting in round.subscribed.into_iter().flat_map(|(_, waiting)| waiting) {
        // Who no longer waits has been told that it takes too long.
        waiting.send(()).ok();
    }
}
