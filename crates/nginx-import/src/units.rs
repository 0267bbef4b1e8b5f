//! Conversion of Nginx's durations and sizes to the syntax of `proxy.toml`.

use crate::directive::Directive;

/// Converts `"30"`, `"30s"`, `"1m 30s"`, `"500ms"` or `"1d"`. The range is a millisecond to a day, as in the configuration.
pub(crate) fn duration(text: &str) -> Option<String> {
    const UNITS: [(&str, u64); 6] = [
        ("", 1_000),
        ("ms", 1),
        ("s", 1_000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
    ];
    let mut rest = text;
    let mut milliseconds: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        milliseconds = milliseconds.checked_add(number.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = after.trim_start_matches(' ');
    }
    match milliseconds {
        0 | 86_400_001.. => None,
        whole if whole % 1_000 == 0 => Some(format!("{}s", whole / 1_000)),
        other => Some(format!("{other}ms")),
    }
}

/// Converts the total size of `large_client_header_buffers NUMBER SIZE`. The result is at least the default, because Incus
/// clients send image properties in headers.
pub(crate) fn header_size(buffers: &Directive) -> Option<String> {
    const DEFAULT: u64 = 64;
    let [number, size] = buffers.arguments.as_slice() else {
        return None;
    };
    let (digits, factor) = match size.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1 << 10),
        None => match size.strip_suffix(['m', 'M']) {
            Some(digits) => (digits, 1 << 20),
            None => (size.as_str(), 1),
        },
    };
    let bytes = digits
        .parse::<u64>()
        .ok()?
        .checked_mul(factor)?
        .checked_mul(number.parse().ok()?)?;
    Some(format!("{}KiB", (bytes >> 10).clamp(DEFAULT, 1 << 10)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations_are_read_as_nginx_reads_them() {
        for (text, expected) in [
            ("30", Some("30s")),
            ("30s", Some("30s")),
            ("1m30s", Some("90s")),
            ("1m 30s", Some("90s")),
            ("1500ms", Some("1500ms")),
            ("1d", Some("86400s")),
            ("0", None),
            ("2d", None),
            ("soon", None),
            ("", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(super::duration(text).as_deref(), expected, "{text}");
        }
    }
}
