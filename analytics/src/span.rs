//! A range of time, cut into what the counts cover and what must be counted fact by fact.

use std::ops::Range;

use crate::Filter;

/// An hour, in milliseconds.
pub(crate) const HOUR_MS: i64 = 60 * 60 * 1000;
/// A day, in milliseconds.
pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;

/// A filter's range in milliseconds since 1970, and how it lies over whole hours or days.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// All of it. Without an end it goes on to `i64::MAX`.
    pub(crate) whole: Range<i64>,
    /// The whole units in it, numbered since 1970.
    pub(crate) units: Range<i64>,
    /// What is left before and after the units. Each is shorter than a unit; where there is no whole unit the
    /// first is all of the range, and shorter than two.
    pub(crate) edges: [Range<i64>; 2],
}

impl Span {
    /// Cuts the filter's range at the multiples of `unit_ms`.
    pub(crate) fn cut(filter: &Filter, unit_ms: i64) -> Self {
        let start = filter.start.map_or(0, |at| at.as_millis());
        let end = filter.end.map_or(i64::MAX, |at| at.as_millis()).max(start);
        let whole = start..end;
        let (first, last) = ((start + unit_ms - 1) / unit_ms, end / unit_ms);
        if first >= last {
            return Self { whole, units: 0..0, edges: [start..end, end..end] };
        }
        // A range without an end needs no last edge: there is nothing after the last unit that has a number.
        let after = if filter.end.is_some() { last * unit_ms } else { end };
        Self { whole, units: first..last, edges: [start..first * unit_ms, after..end] }
    }
}

#[cfg(test)]
mod tests {
    use types::Timestamp;

    use super::*;

    fn cut(start: Option<i64>, end: Option<i64>) -> Span {
        let filter = Filter {
            start: start.map(Timestamp::from_millis),
            end: end.map(Timestamp::from_millis),
            ..Filter::default()
        };
        Span::cut(&filter, DAY_MS)
    }

    #[test]
    fn a_range_is_cut_into_whole_days_and_two_edges() {
        let span = cut(Some(DAY_MS - 1), Some(3 * DAY_MS + 1));
        assert_eq!(span.units, 1..3);
        assert_eq!(span.edges, [DAY_MS - 1..DAY_MS, 3 * DAY_MS..3 * DAY_MS + 1]);
    }

    #[test]
    fn whole_days_have_no_edges() {
        let span = cut(Some(DAY_MS), Some(3 * DAY_MS));
        assert_eq!(span.units, 1..3);
        assert!(span.edges.iter().all(Range::is_empty));
    }

    #[test]
    fn no_range_at_all_has_no_edges() {
        let span = cut(None, None);
        assert_eq!(span.units.start, 0);
        assert!(span.edges.iter().all(Range::is_empty));
        assert!(span.units.end > Timestamp::MAX.as_millis() / DAY_MS);
    }

    #[test]
    fn a_range_within_two_days_is_one_edge() {
        let span = cut(Some(DAY_MS + 1), Some(3 * DAY_MS - 1));
        assert!(span.units.is_empty());
        assert_eq!(span.edges[0], span.whole);
        assert!(span.edges[1].is_empty());
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_empty() {
        let span = cut(Some(DAY_MS + 1), Some(5));
        assert!(span.whole.is_empty() && span.units.is_empty());
        assert!(span.edges.iter().all(Range::is_empty));
    }
}
