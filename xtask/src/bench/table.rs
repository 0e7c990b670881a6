//! The table that is printed: medians, spread, and the ratio of the two systems beside its target.

use std::fmt;

use super::systems::Kind;

/// The values of several rounds.
#[derive(Clone, Debug, Default)]
pub(super) struct Series(Vec<f64>);

impl Series {
    pub(super) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    fn sorted(&self) -> Vec<f64> {
        let mut values = self.0.clone();
        values.sort_by(f64::total_cmp);
        values
    }

    /// The value in the middle, or the mean of the two there.
    pub(super) fn median(&self) -> Option<f64> {
        let values = self.sorted();
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(f64::midpoint(lower, upper))
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.sorted();
        let (Some(median), Some(least), Some(most)) = (self.median(), values.first(), values.last()) else {
            return f.write_str("–");
        };
        if values.len() == 1 {
            return f.write_str(&number(median));
        }
        write!(f, "{} ({}–{})", number(median), number(*least), number(*most))
    }
}

/// Three or more digits, thousands apart.
fn number(value: f64) -> String {
    if value.abs() < 10.0 {
        return format!("{value:.2}");
    }
    if value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let first = digits.len() % 3;
    let groups = digits.as_bytes()[first..].chunks(3).map(String::from_utf8_lossy);
    let head = (first > 0).then(|| digits[..first].into());
    head.into_iter().chain(groups).collect::<Vec<_>>().join(",")
}

/// What a row is to reach.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// So many times the peer's.
    AtLeastTimes(f64),
    /// This part of the peer's.
    AtMostTimes(f64),
    /// Not less than this.
    AtLeast(f64),
    /// Not more than this.
    AtMost(f64),
    /// For comparison only.
    None,
}

impl Target {
    /// Whether the values reach it; `None` when that cannot be told.
    fn is_reached(self, ours: Option<f64>, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::AtLeastTimes(target) => ratio.map(|ratio| ratio >= target),
            Self::AtMostTimes(target) => ratio.map(|ratio| ratio <= target),
            Self::AtLeast(target) => ours.map(|ours| ours >= target),
            Self::AtMost(target) => ours.map(|ours| ours <= target),
            Self::None => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeastTimes(target) => write!(f, "≥ {target}x"),
            Self::AtMostTimes(target) => write!(f, "≤ {target}x"),
            Self::AtLeast(target) => write!(f, "≥ {}", number(*target)),
            Self::AtMost(target) => write!(f, "≤ {}", number(*target)),
            Self::None => f.write_str("–"),
        }
    }
}

/// One measure of both systems.
#[derive(Clone, Debug)]
pub(super) struct Row {
    name: String,
    target: Target,
    rookery: Series,
    peer: Series,
}

impl Row {
    pub(super) fn new(name: impl Into<String>, target: Target) -> Self {
        Self { name: name.into(), target, rookery: Series::default(), peer: Series::default() }
    }

    pub(super) fn push(&mut self, kind: Kind, value: f64) {
        match kind {
            Kind::Rookery => self.rookery.push(value),
            Kind::Peer => self.peer.push(value),
        }
    }
}

/// All rows.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
    deliveries: u64,
}

impl Table {
    /// Adds rows, and tells of them as they come.
    pub(super) fn add(&mut self, rows: impl IntoIterator<Item = Row>) {
        for row in rows {
            eprintln!("{row}");
            self.rows.push(row);
        }
    }

    /// Adds deliveries that were checked, one by one.
    pub(super) fn count(&mut self, deliveries: u64) {
        self.deliveries += deliveries;
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, target, rookery, peer } = self;
        let ratio = rookery.median().zip(peer.median()).map(|(ours, theirs)| ours / theirs);
        let shown = ratio.map_or("–".into(), |ratio| format!("{ratio:.2}x"));
        let verdict = match target.is_reached(rookery.median(), ratio) {
            Some(true) => ", reached",
            Some(false) => ", **missed**",
            None => "",
        };
        write!(f, "| {name} | {rookery} | {peer} | {shown} | {target}{verdict} |")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| median (least–most) | Rookery | Socket.IO + Postgres | ratio | target |")?;
        writeln!(f, "|---|---:|---:|---:|---|")?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))?;
        let deliveries = number(self.deliveries as f64);
        write!(
            f,
            "\nEvery count is exact: {deliveries} deliveries, each to every member of its room once, in one order."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_medians_spread_ratio_and_whether_the_target_is_reached() {
        let mut row = Row::new("deliveries/s", Target::AtLeastTimes(4.0));
        [1_200_000.0, 900_000.0, 1_000_000.0].iter().for_each(|value| row.push(Kind::Rookery, *value));
        [99_000.0, 101_000.0].iter().for_each(|value| row.push(Kind::Peer, *value));
        assert_eq!(
            row.to_string(),
            "| deliveries/s | 1,000,000 (900,000–1,200,000) | 100,000 (99,000–101,000) | 10.00x | ≥ 4x, reached |"
        );
    }

    #[test]
    fn what_was_not_measured_has_no_verdict() {
        let mut row = Row::new("latency, ms", Target::AtMostTimes(0.5));
        row.push(Kind::Rookery, 1.5);
        assert_eq!(row.to_string(), "| latency, ms | 1.50 | – | – | ≤ 0.5x |");
    }
}
