//! Questions: counts of whole hours or days, and the facts around them and those that are not settled yet.
//!
//! A question reads several tables. It must see them at one moment, for settling moves facts from one to the
//! other: every function here is to be called in a transaction.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use futures_util::{Stream, StreamExt, TryStreamExt};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use super::counts::{self, Subject};
use super::packed::{PackedFact, unpack};
use crate::span::{DAY_MS, HOUR_MS, Span};
use crate::{Bucket, Error, Filter, Result};

const RANK: &str = "
    SELECT id, sum(messages) AS total FROM (
        SELECT id, messages FROM day_counts
        WHERE subject = ?1 AND day >= ?2 AND day < ?3 AND (?4 IS NULL OR region = ?4) AND direct <= ?5
        UNION ALL
        SELECT unhex(key), value FROM json_each(?6)
    ) GROUP BY id ORDER BY total DESC, id LIMIT ?7 OFFSET ?8";

/// A stretch of the ranking of a subject, by the bytes of its ids.
pub(super) async fn rank(
    connection: &mut SqliteConnection,
    subject: Subject,
    filter: &Filter,
    offset: u64,
    limit: usize,
) -> Result<Vec<(Vec<u8>, u64)>> {
    let span = Span::cut(filter, DAY_MS);
    let mut loose = HashMap::<Vec<u8>, u64>::new();
    each_loose_fact(connection, filter, &span, |fact| {
        let id = subject.id_of(fact);
        match loose.get_mut(id) {
            Some(messages) => *messages += 1,
            None => drop(loose.insert(id.to_vec(), 1)),
        }
    })
    .await?;
    let rank = sqlx::query(RANK)
        .bind(subject.number())
        .bind(span.units.start)
        .bind(span.units.end)
        .bind(filter.region.map(|region| region.number()))
        .bind(filter.include_direct)
        .bind(counts::to_json(loose))
        .bind(saturating(limit))
        .bind(saturating(offset));
    let rows = rank.fetch_all(connection).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, count(row, 1)?))).collect()
}

const ACTIVITY: &str = "
    SELECT hour / ?1 AS step, sum(messages) FROM hour_counts
    WHERE hour >= ?2 AND hour < ?3 AND (?4 IS NULL OR region = ?4) AND direct <= ?5
    GROUP BY step ORDER BY step LIMIT ?6";

/// Messages per step, by the step's beginning in milliseconds since 1970.
pub(super) async fn activity(
    connection: &mut SqliteConnection,
    filter: &Filter,
    bucket: Bucket,
    limit: usize,
) -> Result<Vec<(i64, u64)>> {
    let step_ms = match bucket {
        Bucket::Hour => HOUR_MS,
        Bucket::Day => DAY_MS,
    };
    let span = Span::cut(filter, HOUR_MS);
    let mut steps = BTreeMap::<i64, u64>::new();
    each_loose_fact(connection, filter, &span, |fact| *steps.entry(fact.at / step_ms).or_default() += 1).await?;
    let counted = sqlx::query(ACTIVITY)
        .bind(step_ms / HOUR_MS)
        .bind(span.units.start)
        .bind(span.units.end)
        .bind(filter.region.map(|region| region.number()))
        .bind(filter.include_direct)
        .bind(saturating(limit));
    for row in counted.fetch_all(connection).await? {
        *steps.entry(row.try_get(0)?).or_default() += count(&row, 1)?;
    }
    Ok(steps.into_iter().take(limit).map(|(step, messages)| (step * step_ms, messages)).collect())
}

const TOTAL: &str = "
    SELECT coalesce(sum(messages), 0) FROM hour_counts
    WHERE hour >= ?1 AND hour < ?2 AND (?3 IS NULL OR region = ?3) AND direct <= ?4";

/// How many messages there are in all.
pub(super) async fn total(connection: &mut SqliteConnection, filter: &Filter) -> Result<u64> {
    let span = Span::cut(filter, HOUR_MS);
    let mut loose = 0;
    each_loose_fact(connection, filter, &span, |_| loose += 1).await?;
    let counted = sqlx::query(TOTAL)
        .bind(span.units.start)
        .bind(span.units.end)
        .bind(filter.region.map(|region| region.number()))
        .bind(filter.include_direct);
    Ok(loose + count(&counted.fetch_one(connection).await?, 0)?)
}

const RECENT: &str = "SELECT facts FROM recent_facts";

const SETTLED: &str = "
    SELECT facts FROM settled_facts WHERE first_at >= ?1 AND first_at < ?2 AND last_at >= ?3";

/// Calls `each` with every fact that the filter takes and the counts of the span's units do not hold.
async fn each_loose_fact(
    connection: &mut SqliteConnection,
    filter: &Filter,
    span: &Span,
    mut each: impl FnMut(&PackedFact<'_>),
) -> Result<()> {
    let recent = sqlx::query(RECENT).fetch(&mut *connection).map_err(Error::from);
    each_fact(recent, filter, &span.whole, &mut each).await?;
    for edge in span.edges.iter().filter(|edge| !edge.is_empty()) {
        // No row goes beyond a day, so one that reaches into the edge begins on its first day at the earliest.
        let first_day = edge.start - edge.start % DAY_MS;
        let settled = sqlx::query(SETTLED).bind(first_day).bind(edge.end).bind(edge.start);
        each_fact(settled.fetch(&mut *connection).map_err(Error::from), filter, edge, &mut each).await?;
    }
    Ok(())
}

async fn each_fact(
    rows: impl Stream<Item = Result<SqliteRow>>,
    filter: &Filter,
    within: &Range<i64>,
    mut each: impl FnMut(&PackedFact<'_>),
) -> Result<()> {
    let region = filter.region.map(|region| region.number());
    let mut rows = std::pin::pin!(rows);
    while let Some(row) = rows.next().await {
        for fact in unpack(row?.try_get(0)?) {
            let fact = fact?;
            let is_taken = within.contains(&fact.at)
                && region.is_none_or(|region| region == fact.region)
                && (filter.include_direct || !fact.direct);
            if is_taken {
                each(&fact);
            }
        }
    }
    Ok(())
}

fn count(row: &SqliteRow, column: usize) -> Result<u64> {
    let count = row.try_get::<i64, _>(column)?;
    u64::try_from(count).map_err(|_| Error::Damaged(format!("a count of {count}")))
}

/// A bound on rows, for SQL: what is beyond its numbers is beyond all rows too.
fn saturating(rows: impl TryInto<i64>) -> i64 {
    rows.try_into().unwrap_or(i64::MAX)
}
