//! Settling: recent facts are sorted by time, put into rows that can be found by it, and counted by hour and
//! by day.
//!
//! Counting each range at once would write a page of the database for nearly every fact of a busy system,
//! whose users and conversations lie everywhere. Some ten thousand facts at a time share these pages, and
//! until then a question reads them one by one.

use std::collections::{BTreeMap, HashMap};

use sqlx::SqliteConnection;

use super::counts::{self, Subject};
use super::packed::{PackedFact, unpack};
use crate::span::{DAY_MS, HOUR_MS};
use crate::{Error, Result};

/// Recent facts are settled when they take this many bytes: about 48,000 of them.
pub(super) const MAX_RECENT_BYTES: i64 = 2 * 1024 * 1024;
/// Or when they stand in this many rows.
pub(super) const MAX_RECENT_ROWS: i64 = 512;
/// A row of settled facts holds at most this many: little enough to read for a few minutes' sake.
const CHUNK_FACTS: usize = 2048;

/// What recent facts become.
#[derive(Debug, Default)]
struct Settled {
    chunks: Vec<Chunk>,
    days: Vec<(DaySlot, String)>,
    hours: Vec<(HourSlot, String)>,
}

/// Facts of one day, in order of time.
#[derive(Debug)]
struct Chunk {
    first_at: i64,
    last_at: i64,
    facts: Vec<u8>,
}

/// Counts by id that stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct DaySlot {
    subject: Subject,
    day: i64,
    region: u16,
    direct: bool,
}

/// Counts by hour that stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct HourSlot {
    region: u16,
    direct: bool,
}

/// Settles all recent facts. To be called in a transaction.
pub(super) async fn settle(connection: &mut SqliteConnection) -> Result<()> {
    let recent = take_recent(connection).await?;
    let work = tokio::task::spawn_blocking(move || Settled::of(&recent));
    let settled = work.await.map_err(|error| Error::Unavailable(error.to_string()))??;
    for chunk in settled.chunks {
        insert_chunk(connection, chunk).await?;
    }
    for (slot, counts) in settled.days {
        add_day(connection, slot, counts).await?;
    }
    for (slot, counts) in settled.hours {
        add_hours(connection, slot, counts).await?;
    }
    Ok(())
}

const READ_RECENT: &str = "SELECT facts FROM recent_facts";
const CLEAR_RECENT: &str = "DELETE FROM recent_facts";

async fn take_recent(connection: &mut SqliteConnection) -> Result<Vec<Vec<u8>>> {
    let recent = sqlx::query_scalar(READ_RECENT).fetch_all(&mut *connection).await?;
    sqlx::query(CLEAR_RECENT).execute(connection).await?;
    Ok(recent)
}

const INSERT_CHUNK: &str = "INSERT INTO settled_facts (first_at, last_at, facts) VALUES (?1, ?2, ?3)";

async fn insert_chunk(connection: &mut SqliteConnection, chunk: Chunk) -> Result<()> {
    let insert = sqlx::query(INSERT_CHUNK).bind(chunk.first_at).bind(chunk.last_at).bind(chunk.facts);
    insert.execute(connection).await?;
    Ok(())
}

const ADD_DAY: &str = "
    INSERT INTO day_counts (subject, day, region, direct, id, messages)
    SELECT ?1, ?2, ?3, ?4, unhex(key), value FROM json_each(?5) WHERE true
    ON CONFLICT DO UPDATE SET messages = messages + excluded.messages";

async fn add_day(connection: &mut SqliteConnection, slot: DaySlot, counts: String) -> Result<()> {
    let add = sqlx::query(ADD_DAY).bind(slot.subject.number()).bind(slot.day).bind(slot.region).bind(slot.direct);
    add.bind(counts).execute(connection).await?;
    Ok(())
}

const ADD_HOURS: &str = "
    INSERT INTO hour_counts (hour, region, direct, messages)
    SELECT CAST(key AS INTEGER), ?1, ?2, value FROM json_each(?3) WHERE true
    ON CONFLICT DO UPDATE SET messages = messages + excluded.messages";

async fn add_hours(connection: &mut SqliteConnection, slot: HourSlot, counts: String) -> Result<()> {
    let add = sqlx::query(ADD_HOURS).bind(slot.region).bind(slot.direct).bind(counts);
    add.execute(connection).await?;
    Ok(())
}

impl Settled {
    fn of(recent: &[Vec<u8>]) -> Result<Self> {
        let mut facts = recent.iter().flat_map(|bytes| unpack(bytes)).collect::<Result<Vec<_>>>()?;
        facts.sort_by_key(|fact| fact.at);
        let days = facts.chunk_by(|one, next| one.at / DAY_MS == next.at / DAY_MS);
        let chunks = days.flat_map(|day| day.chunks(CHUNK_FACTS)).filter_map(Chunk::of).collect();
        Ok(Self { chunks, days: count_days(&facts), hours: count_hours(&facts) })
    }
}

impl Chunk {
    fn of(facts: &[PackedFact<'_>]) -> Option<Self> {
        let (first, last) = (facts.first()?, facts.last()?);
        let bytes = facts.iter().flat_map(|fact| fact.bytes).copied().collect();
        Some(Self { first_at: first.at, last_at: last.at, facts: bytes })
    }
}

/// The counts of each slot, as the JSON that [`ADD_DAY`] reads, in the order in which the table holds them.
fn count_days(facts: &[PackedFact<'_>]) -> Vec<(DaySlot, String)> {
    let mut slots = BTreeMap::<DaySlot, HashMap<&[u8], u64>>::new();
    for fact in facts {
        for subject in [Subject::User, Subject::Conversation] {
            let slot = DaySlot { subject, day: fact.at / DAY_MS, region: fact.region, direct: fact.direct };
            *slots.entry(slot).or_default().entry(subject.id_of(fact)).or_default() += 1;
        }
    }
    slots.into_iter().map(|(slot, counts)| (slot, counts::to_json(counts))).collect()
}

fn count_hours(facts: &[PackedFact<'_>]) -> Vec<(HourSlot, String)> {
    let mut slots = BTreeMap::<HourSlot, BTreeMap<i64, u64>>::new();
    for fact in facts {
        let slot = HourSlot { region: fact.region, direct: fact.direct };
        *slots.entry(slot).or_default().entry(fact.at / HOUR_MS).or_default() += 1;
    }
    slots.into_iter().map(|(slot, counts)| (slot, serde_json::json!(counts).to_string())).collect()
}
