//! Responses with a file, or a part of it.

use std::ops::Range;
use std::time::SystemTime;

use edge::conditional::{Selection, Validators, select};
use edge::response::{Reply, ReplyBody};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName,
    LAST_MODIFIED,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

/// The header fields of a file.
pub(crate) struct FileHead<'a> {
    pub(crate) content_type: &'a str,
    pub(crate) content_disposition: Option<&'a str>,
    /// With its quotation marks.
    pub(crate) etag: &'a str,
    pub(crate) last_modified: Option<SystemTime>,
    /// May be unknown while the file arrives.
    pub(crate) length: Option<u64>,
    /// Whether parts of the file can be had.
    pub(crate) is_complete: bool,
    pub(crate) cache_control: &'a str,
}

/// Returns the response to a request with these header fields. `body` returns a range of the file, or all of it if it is not
/// complete yet.
pub(crate) fn reply(request: &HeaderMap, file: &FileHead<'_>, body: impl FnOnce(Range<u64>) -> ReplyBody) -> Reply {
    let validators = Validators {
        etag: file.etag,
        last_modified: file.last_modified,
    };
    let (status, range) = match select(request, validators, file.length.filter(|_| file.is_complete)) {
        Selection::Whole => (StatusCode::OK, Some(0..file.length.unwrap_or_default())),
        Selection::Part(range) => (StatusCode::PARTIAL_CONTENT, Some(range)),
        Selection::NotModified => (StatusCode::NOT_MODIFIED, None),
        Selection::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, None),
        Selection::NotSatisfiable => (StatusCode::RANGE_NOT_SATISFIABLE, None),
    };
    let mut reply = Response::new(ReplyBody::Whole(None));
    *reply.status_mut() = status;
    let fields = reply.headers_mut();
    let mut set = |name: HeaderName, value: &str| {
        // All of them come from parsed values.
        if let Ok(value) = HeaderValue::from_str(value) {
            fields.insert(name, value);
        }
    };
    set(ETAG, file.etag);
    set(CACHE_CONTROL, file.cache_control);
    if let Some(time) = file.last_modified {
        set(LAST_MODIFIED, &httpdate::fmt_http_date(time));
    }
    if let Some(length) = file.length.filter(|_| file.is_complete) {
        set(ACCEPT_RANGES, "bytes");
        match (status, &range) {
            (StatusCode::PARTIAL_CONTENT, Some(Range { start, end })) => {
                set(CONTENT_RANGE, &format!("bytes {start}-{}/{length}", end - 1));
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, _) => set(CONTENT_RANGE, &format!("bytes */{length}")),
            _ => {}
        }
    }
    if let Some(range) = range {
        set(CONTENT_TYPE, file.content_type);
        if let Some(disposition) = file.content_disposition {
            set(CONTENT_DISPOSITION, disposition);
        }
        if file.length.is_some() {
            set(CONTENT_LENGTH, &(range.end - range.start).to_string());
        }
        *reply.body_mut() = body(range);
    }
    reply
}
