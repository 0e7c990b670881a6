//! Moments, to the millisecond, in UTC.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A time in milliseconds since 1970, in JSON as RFC 3339 with three decimals: `2026-01-31T09:30:00.125Z`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(try_from = "std::borrow::Cow<'_, str>", into = "String")]
#[schema(value_type = String, format = DateTime, example = "2026-01-31T09:30:00.125Z")]
pub struct Timestamp(i64);

/// The text is not an RFC 3339 time between the years 1970 and 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time such as 2026-01-31T09:30:00.125Z")]
pub struct InvalidTimestamp;

impl Timestamp {
    /// The last moment of the year 9999, beyond which RFC 3339 has no form.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// This moment by the system's clock, which may jump: never a measure of duration.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(Self::MAX.0))
    }

    /// The moment so many milliseconds after 1970, held between 1970 and [`Timestamp::MAX`].
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        if millis < 0 {
            return Self(0);
        }
        if millis > Self::MAX.0 { Self::MAX } else { Self(millis) }
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This moment and `duration` more.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// This moment less `duration`.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_sub(millis))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = OffsetDateTime::from_unix_timestamp(self.0.div_euclid(1000)).map_err(|_| fmt::Error)?;
        let (year, month, day) = time.to_calendar_date();
        let (hour, minute, second) = time.to_hms();
        let millis = self.0.rem_euclid(1000);
        write!(f, "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z", u8::from(month))
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| InvalidTimestamp)?;
        let millis = i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).map_err(|_| InvalidTimestamp)?;
        if (0..=Self::MAX.0).contains(&millis) { Ok(Self(millis)) } else { Err(InvalidTimestamp) }
    }
}

impl TryFrom<std::borrow::Cow<'_, str>> for Timestamp {
    type Error = InvalidTimestamp;

    fn try_from(text: std::borrow::Cow<'_, str>) -> Result<Self, InvalidTimestamp> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(at: Timestamp) -> Self {
        at.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::*;

    proptest! {
        #[test]
        fn a_timestamp_survives_its_text(millis in 0..=Timestamp::MAX.0) {
            let at = Timestamp(millis);
            assert_eq!(at.to_string().parse(), Ok(at));
            assert_eq!(at.to_string().len(), 24);
        }
    }

    #[test]
    fn an_offset_is_turned_into_utc() {
        let at: Timestamp = "2026-01-31T10:30:00.125+01:00".parse().unwrap();
        assert_eq!(at.to_string(), "2026-01-31T09:30:00.125Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "yesterday", "2026-13-01T00:00:00Z", "1969-12-31T23:59:59Z", "2026-01-01"] {
            assert_eq!(text.parse::<Timestamp>(), Err(InvalidTimestamp), "{text}");
        }
    }
}
