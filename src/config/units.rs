//! Parsing of durations and sizes: a whole number and a unit.

use std::time::Duration;

const DURATIONS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
const LONG_DURATIONS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
const SIZES: [(&str, u64); 3] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20)];
const DISK_SIZES: [(&str, u64); 3] = [("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

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

/// Parses a duration such as `"0s"`, `"1h"` or `"365d"`, of up to a year.
pub(super) fn long_duration(text: &str) -> Result<Duration, String> {
    let seconds = quantity(text, &LONG_DURATIONS).ok_or_else(|| {
        format!("`{text}` is not a duration; write a whole number with the unit s, m, h or d, such as \"1h\"")
    })?;
    if seconds > 31_536_000 {
        return Err(format!("`{text}` is out of range; write a duration of up to \"365d\""));
    }
    Ok(Duration::from_secs(seconds))
}

/// Parses a size such as `"512B"`, `"64KiB"` or `"1MiB"`, in bytes.
pub(super) fn size(text: &str) -> Result<usize, String> {
    quantity(text, &SIZES)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| {
            format!("`{text}` is not a size; write a whole number with the unit B, KiB or MiB, such as \"64KiB\"")
        })
}

/// Parses a size on disk such as `"500MiB"`, `"20GiB"` or `"2TiB"`, in bytes.
pub(super) fn disk_size(text: &str) -> Result<u64, String> {
    quantity(text, &DISK_SIZES).ok_or_else(|| {
        format!("`{text}` is not a size; write a whole number with the unit MiB, GiB or TiB, such as \"20GiB\"")
    })
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}
