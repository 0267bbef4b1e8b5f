//! Parsing of durations and sizes: a whole number and a unit.

use std::time::Duration;

const DURATIONS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
const SIZES: [(&str, u64); 3] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20)];

/// Parses a duration such as `"250ms"`, `"1s"`, `"2m"` or `"1h"`, from a millisecond to a day.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let milliseconds = quantity(text, &DURATIONS).ok_or_else(|| {
        format!("`{text}` is not a duration; write a whole number with the unit ms, s, m or h, such as \"10s\"")
    })?;
    if !(1..=86_400_000).contains(&milliseconds) {
        return Err(format!(
            "`{text}` is out of range; write a duration from \"1ms\" to \"24h\""
        ));
    }
    Ok(Duration::from_millis(milliseconds))
}

/// Parses a size such as `"512B"`, `"64KiB"` or `"1MiB"`, in bytes.
pub(super) fn size(text: &str) -> Result<usize, String> {
    quantity(text, &SIZES)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| {
            format!("`{text}` is not a size; write a whole number with the unit B, KiB or MiB, such as \"64KiB\"")
        })
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}
