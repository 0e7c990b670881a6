//! Where a trace stands: what travels beside an event so that those who handle it later add their spans to the trace in
//! which it was sent.

use std::fmt;
use std::str::FromStr;

/// A span in a trace, as W3C Trace Context names it. Its text is a `traceparent`:
/// `00-<trace id>-<span id>-<flags>`, in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

/// The text, or the bytes, are no trace context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a trace context")]
pub struct InvalidTraceContext;

/// The flag that says that the trace is recorded.
const SAMPLED: u8 = 1;
/// The length of a `traceparent` of version 00, in bytes.
const TEXT_BYTES: usize = 55;

impl TraceContext {
    /// The length of [`TraceContext::to_bytes`].
    pub const BYTES: usize = 25;

    /// A context of these ids, none of which may be all zeros.
    ///
    /// # Errors
    /// When one is.
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], flags: u8) -> Result<Self, InvalidTraceContext> {
        if trace_id == [0; 16] || span_id == [0; 8] {
            return Err(InvalidTraceContext);
        }
        Ok(Self { trace_id, span_id, flags })
    }

    /// The trace.
    #[must_use]
    pub const fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The span.
    #[must_use]
    pub const fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// The flags.
    #[must_use]
    pub const fn flags(&self) -> u8 {
        self.flags
    }

    /// Whether the trace is recorded. One that is not need not travel.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Trace, span and flags, one behind the other.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..16].copy_from_slice(&self.trace_id);
        bytes[16..24].copy_from_slice(&self.span_id);
        bytes[24] = self.flags;
        bytes
    }

    /// Reads what [`TraceContext::to_bytes`] wrote.
    ///
    /// # Errors
    /// When an id is all zeros.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Result<Self, InvalidTraceContext> {
        let (trace_id, rest) = bytes.split_first_chunk().ok_or(InvalidTraceContext)?;
        let (span_id, rest) = rest.split_first_chunk().ok_or(InvalidTraceContext)?;
        let [flags] = rest else { return Err(InvalidTraceContext) };
        Self::new(*trace_id, *span_id, *flags)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace_id, span_id) = (u128::from_be_bytes(self.trace_id), u64::from_be_bytes(self.span_id));
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{:02x}", self.flags)
    }
}

impl FromStr for TraceContext {
    type Err = InvalidTraceContext;

    /// Reads a `traceparent`. One of a later version may have more at its end, which is passed over.
    fn from_str(text: &str) -> Result<Self, InvalidTraceContext> {
        let (known, more) = text.split_at_checked(TEXT_BYTES).ok_or(InvalidTraceContext)?;
        let mut parts = known.split('-');
        let mut part = || parts.next().ok_or(InvalidTraceContext);
        let (version, trace_id, span_id, flags) = (part()?, part()?, part()?, part()?);
        let [version] = hex(version)?;
        let is_of_this_length = more.is_empty() || version > 0 && more.starts_with('-');
        if version == 0xff || !is_of_this_length || parts.next().is_some() {
            return Err(InvalidTraceContext);
        }
        let [flags] = hex(flags)?;
        Self::new(hex(trace_id)?, hex(span_id)?, flags)
    }
}

/// Exactly `N` bytes in lower-case hexadecimal.
fn hex<const N: usize>(text: &str) -> Result<[u8; N], InvalidTraceContext> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return Err(InvalidTraceContext);
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Ok(bytes)
}

fn digit(character: u8) -> Result<u8, InvalidTraceContext> {
    match character {
        b'0'..=b'9' => Ok(character - b'0'),
        b'a'..=b'f' => Ok(character - b'a' + 10),
        _ => Err(InvalidTraceContext),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    proptest! {
        #[test]
        fn a_context_survives_its_text_and_its_bytes(trace in 1_u128.., span in 1_u64.., flags in any::<u8>()) {
            let context = TraceContext::new(trace.to_be_bytes(), span.to_be_bytes(), flags).unwrap();
            assert_eq!(context.to_string().parse(), Ok(context));
            assert_eq!(TraceContext::from_bytes(&context.to_bytes()), Ok(context));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,64}", version in any::<u8>(), tail in "[0-9a-fA-F-]{50,60}") {
            std::hint::black_box(text.parse::<TraceContext>()).ok();
            std::hint::black_box(format!("{version:02x}-{tail}").parse::<TraceContext>()).ok();
        }

        #[test]
        fn what_is_parsed_is_printed_the_same(text in "00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}") {
            if let Ok(context) = text.parse::<TraceContext>() {
                assert_eq!(context.to_string(), text);
            }
        }
    }

    #[test]
    fn the_standards_own_example_is_read() {
        let context: TraceContext = TEXT.parse().unwrap();
        assert_eq!(context.trace_id()[..2], [0x4b, 0xf9]);
        assert_eq!(context.span_id()[7], 0xb7);
        assert!(context.is_sampled());
        assert!(!TEXT.replace("-01", "-00").parse::<TraceContext>().unwrap().is_sampled());
    }

    #[test]
    fn a_later_version_may_say_more() {
        let later = TEXT.replacen("00", "01", 1);
        assert_eq!(later.parse::<TraceContext>(), TEXT.parse());
        assert_eq!(format!("{later}-more").parse::<TraceContext>(), TEXT.parse());
        assert_eq!(format!("{later}more").parse::<TraceContext>(), Err(InvalidTraceContext));
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        let nobody = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let nothing = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01";
        let upper = TEXT.to_uppercase();
        let (version_ff, longer) = (TEXT.replacen("00", "ff", 1), format!("{TEXT}-more"));
        for text in ["", "00", nobody, nothing, &upper, &version_ff, &longer, &TEXT.replacen('-', "0", 1)] {
            assert_eq!(text.parse::<TraceContext>(), Err(InvalidTraceContext), "{text}");
        }
    }
}
