//! Conditional and range requests for a file (RFC 9110 §13 and §14).

use std::ops::Range;
use std::time::SystemTime;

use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
use http::{HeaderMap, HeaderName};

/// What identifies a version of a file.
#[derive(Clone, Copy, Debug)]
pub struct Validators<'a> {
    /// A strong entity tag, with its quotation marks.
    pub etag: &'a str,
    /// Time of the last change, in whole seconds.
    pub last_modified: Option<SystemTime>,
}

/// What a request gets of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Selection {
    /// 200 with the whole file.
    Whole,
    /// 206 with these bytes of it.
    Part(Range<u64>),
    /// 304: the client has it.
    NotModified,
    /// 412: the client wants another version.
    PreconditionFailed,
    /// 416: the file is not that long.
    NotSatisfiable,
}

/// Evaluates a GET or HEAD request for a file of `length` bytes; without a length, ranges are ignored.
pub fn select(request: &HeaderMap, file: Validators<'_>, length: Option<u64>) -> Selection {
    if is_precondition_false(request, file) {
        return Selection::PreconditionFailed;
    }
    if is_known(request, file) {
        return Selection::NotModified;
    }
    let Some(length) = length.filter(|_| is_range_of_this(request, file)) else {
        return Selection::Whole;
    };
    match single_range(request) {
        None => Selection::Whole,
        Some(range) => range.within(length).map_or(Selection::NotSatisfiable, Selection::Part),
    }
}

fn is_precondition_false(request: &HeaderMap, file: Validators<'_>) -> bool {
    if request.contains_key(IF_MATCH) {
        return !elements(request, IF_MATCH).any(|tag| tag == "*" || tag == file.etag);
    }
    match (date(request, IF_UNMODIFIED_SINCE), file.last_modified) {
        (Some(limit), Some(modified)) => modified > limit,
        _ => false,
    }
}

fn is_known(request: &HeaderMap, file: Validators<'_>) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        return matches_weakly(request, file.etag);
    }
    match (date(request, IF_MODIFIED_SINCE), file.last_modified) {
        (Some(known), Some(modified)) => modified <= known,
        _ => false,
    }
}

/// Returns whether `If-None-Match` lists the entity tag, by weak comparison.
pub fn matches_weakly(request: &HeaderMap, etag: &str) -> bool {
    let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    elements(request, IF_NONE_MATCH).any(|known| known == "*" || opaque(known) == opaque(etag))
}

/// Evaluates `If-Range`: a part of another version must not be appended to what the client has.
fn is_range_of_this(request: &HeaderMap, file: Validators<'_>) -> bool {
    let Some(condition) = request.get(IF_RANGE) else {
        return true;
    };
    condition == file.etag || (file.last_modified.is_some() && date(request, IF_RANGE) == file.last_modified)
}

/// A range as the client writes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ByteRange {
    /// `FIRST-LAST`
    Between(u64, u64),
    /// `FIRST-`
    From(u64),
    /// `-COUNT`
    Last(u64),
}

impl ByteRange {
    /// Returns the bytes of a file of this length. `None` if it has none of them.
    fn within(self, length: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::Between(first, last) => first..last.saturating_add(1).min(length),
            Self::From(first) => first..length,
            Self::Last(count) => length.saturating_sub(count)..length,
        };
        (range.start < range.end).then_some(range)
    }
}

/// Parses `Range` if it asks for one range. Any other value may be ignored (RFC 9110 §14.2): thousands of ranges in one request,
/// which may overlap, would be expensive.
pub fn single_range(request: &HeaderMap) -> Option<ByteRange> {
    let mut ranges = request.get_all(RANGE).iter();
    let (Some(range), None) = (ranges.next(), ranges.next()) else {
        return None;
    };
    let (first, last) = range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    // Numbers without a sign, and within the 63 bits of Go's.
    let number = |digits: &str| digits.parse::<i64>().ok().filter(|_| !digits.starts_with('+'));
    let number = |digits: &str| number(digits).and_then(|number| u64::try_from(number).ok());
    match (first, last) {
        ("", count) => number(count).filter(|count| *count > 0).map(ByteRange::Last),
        (first, "") => number(first).map(ByteRange::From),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(ByteRange::Between(first, last))
        }
    }
}

fn date(request: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(request.get(name)?.to_str().ok()?).ok()
}

/// Returns the elements of a list header.
pub fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;

    use super::*;

    const ETAG: &str = "\"abc\"";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).expect("valid header value"));
        }
        headers
    }

    fn selected(fields: &[(&'static str, &str)]) -> Selection {
        let file = Validators {
            etag: ETAG,
            // Sun, 06 Nov 1994 08:49:37 GMT
            last_modified: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)),
        };
        select(&headers(fields), file, Some(1000))
    }

    const AT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    #[test]
    fn conditions_are_evaluated_in_the_order_of_the_standard() {
        use Selection::{NotModified, PreconditionFailed, Whole};
        for (fields, expected) in [
            (&[][..], Whole),
            (&[("if-match", "*")], Whole),
            (&[("if-match", "\"x\", \"abc\"")], Whole),
            (&[("if-match", "\"x\"")], PreconditionFailed),
            // Weak tags never match here.
            (&[("if-match", "W/\"abc\"")], PreconditionFailed),
            (&[("if-unmodified-since", AT)], Whole),
            (&[("if-unmodified-since", BEFORE)], PreconditionFailed),
            (&[("if-match", ETAG), ("if-unmodified-since", BEFORE)], Whole),
            (&[("if-none-match", ETAG)], NotModified),
            (&[("if-none-match", "W/\"abc\"")], NotModified),
            (&[("if-none-match", "\"x\""), ("if-none-match", "\"abc\"")], NotModified),
            (&[("if-none-match", "\"x\"")], Whole),
            (&[("if-modified-since", AT)], NotModified),
            (&[("if-modified-since", AFTER)], NotModified),
            (&[("if-modified-since", BEFORE)], Whole),
            (&[("if-modified-since", "yesterday")], Whole),
            (&[("if-none-match", "\"x\""), ("if-modified-since", AFTER)], Whole),
            (&[("if-match", "\"x\""), ("if-none-match", ETAG)], PreconditionFailed),
            (&[("range", "bytes=0-0"), ("if-none-match", ETAG)], NotModified),
        ] {
            assert_eq!(selected(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn ranges_are_clipped_to_the_file() {
        for (range, expected) in [
            ("bytes=0-0", Selection::Part(0..1)),
            ("bytes=7-", Selection::Part(7..1000)),
            ("bytes=-7", Selection::Part(993..1000)),
            ("bytes=-5000", Selection::Part(0..1000)),
            ("bytes=999-9223372036854775807", Selection::Part(999..1000)),
            ("bytes=1000-", Selection::NotSatisfiable),
            ("bytes=1000-2000", Selection::NotSatisfiable),
        ] {
            assert_eq!(selected(&[("range", range)]), expected, "{range}");
        }
        assert_eq!(
            select(
                &headers(&[("range", "bytes=0-0")]),
                Validators {
                    etag: ETAG,
                    last_modified: None
                },
                None
            ),
            Selection::Whole
        );
    }

    #[test]
    fn a_range_of_another_version_gets_the_whole_file() {
        let with = |condition| selected(&[("range", "bytes=0-0"), ("if-range", condition)]);
        for this in [ETAG, AT] {
            assert_eq!(with(this), Selection::Part(0..1), "{this}");
        }
        for other in ["\"x\"", "W/\"abc\"", BEFORE, AFTER, "", "abc"] {
            assert_eq!(with(other), Selection::Whole, "{other}");
        }
    }

    #[test]
    fn anything_but_one_valid_range_is_ignored() {
        let many = format!("bytes={}", vec!["0-0"; 14_000].join(","));
        let ignored = [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=-0",
            "bytes=--1",
            "bytes=+1-2",
            "bytes=1-+2",
            "bytes=2-1",
            "bytes=1-2,",
            "bytes=,1-2",
            "bytes=1-2,4-5",
            "bytes=1-2, 1-2",
            "bytes=1--2",
            "bytes=1-2-3",
            "bytes=a-b",
            "bytes= 1-2",
            "bytes=1-2 ",
            "bytes=0-9223372036854775808",
            "Bytes=0-0",
            "items=0-0",
            "0-0",
            &many,
        ];
        for range in ignored {
            assert_eq!(selected(&[("range", range)]), Selection::Whole, "{range}");
        }
        let twice = [("range", "bytes=0-0"), ("range", "bytes=0-0")];
        assert_eq!(selected(&twice), Selection::Whole);
    }
}
