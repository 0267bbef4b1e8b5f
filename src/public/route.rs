//! The routes of the public port: parses method, path and query into a [`PublicRoute`] or an error.
//!
//! Matching is exact: paths are not normalized, and only names are percent-decoded, once. Any other path is not public.

use std::borrow::Cow;

use http::{Method, StatusCode, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::filter::Filter;
use super::fingerprint::FingerprintPrefix;
use crate::metrics::endpoint::Endpoint;
use crate::reply::HttpError;

/// The six API requests available to anonymous clients.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub enum PublicRoute {
    /// `/1.0/images/aliases/{name}`
    Alias(String),
    /// `/1.0/images/aliases`
    Aliases {
        /// Whether to return full objects instead of paths.
        recursion: bool,
    },
    /// `/1.0/images/{fingerprint}/export`
    Export(FingerprintPrefix),
    /// `/1.0/images/{fingerprint}`
    Image(FingerprintPrefix),
    /// `/1.0/images`
    Images(ImagesQuery),
    /// `/1.0`
    Server,
}

/// Query of the image list.
#[derive(Clone, Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub struct ImagesQuery {
    /// Whether to return full objects instead of paths.
    pub recursion: bool,
    /// Filter that selects the images.
    pub filter: Filter,
}

impl PublicRoute {
    /// Metrics label of the route.
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Self::Alias(_) => Endpoint::Alias,
            Self::Aliases { .. } => Endpoint::Aliases,
            Self::Export(_) => Endpoint::Export,
            Self::Image(_) => Endpoint::Image,
            Self::Images(_) => Endpoint::Images,
            Self::Server => Endpoint::Server,
        }
    }

    /// Parses a request.
    ///
    /// # Errors
    ///
    /// Returns Incus's own error for an invalid query or name, [`HttpError::NotPublic`] for any other path, and
    /// [`HttpError::MethodNotAllowed`] for methods other than GET.
    pub fn parse(method: &Method, uri: &Uri) -> Result<Self, HttpError> {
        let path = Path::parse(uri.path()).ok_or(HttpError::NotPublic)?;
        if method != Method::GET {
            return Err(HttpError::MethodNotAllowed);
        }
        let query = Query::of(uri);
        match path {
            Path::Server => Ok(Self::Server),
            Path::Images => Ok(Self::Images(images_query(&query)?)),
            Path::Image(name) => {
                let prefix = FingerprintPrefix::parse(&name).filter(|_| query.is_default_project());
                prefix.map(Self::Image).ok_or_else(|| image_not_found(&name))
            }
            Path::Export(name) => {
                let prefix = FingerprintPrefix::parse(&name).filter(|_| query.is_default_project());
                prefix.map(Self::Export).ok_or_else(|| image_not_found(&name))
            }
            Path::Aliases if query.is_default_project() => Ok(Self::Aliases {
                recursion: query.is_recursion(),
            }),
            Path::Aliases => Err(HttpError::Incus(StatusCode::FORBIDDEN, "not authorized".to_owned())),
            Path::Alias(name) if query.is_default_project() => Ok(Self::Alias(name)),
            Path::Alias(_) => Err(alias_not_found()),
        }
    }
}

fn images_query(query: &Query<'_>) -> Result<ImagesQuery, HttpError> {
    let refuse = |error: &str| Err(HttpError::Incus(StatusCode::BAD_REQUEST, error.to_owned()));
    match (query.is_default_project(), query.is_all_projects()) {
        (true, false) => {}
        (false, true) => return refuse("Cannot specify a project when requesting all projects"),
        _ => return refuse("Unauthenticated image queries are only possible against the default project"),
    }
    let filter = Filter::parse(query.filter())
        .map_err(|error| HttpError::Incus(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(ImagesQuery {
        recursion: query.is_recursion(),
        filter,
    })
}

/// Incus's error for an unknown image.
pub fn image_not_found(name: &str) -> HttpError {
    HttpError::Incus(
        StatusCode::NOT_FOUND,
        format!(
            "Image \"{}\" not found",
            name.replace('\\', "\\\\").replace('"', "\\\"")
        ),
    )
}

/// Incus's error for an unknown alias.
pub fn alias_not_found() -> HttpError {
    HttpError::Incus(StatusCode::NOT_FOUND, "Image alias not found".to_owned())
}

/// Returns the path of an alias as Incus lists it.
pub fn alias_path(name: &str) -> String {
    /// Escapes the same characters as Go's `url.PathEscape`.
    const SEGMENT: AsciiSet = NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~')
        .remove(b'$')
        .remove(b'&')
        .remove(b'+')
        .remove(b':')
        .remove(b'=')
        .remove(b'@');
    format!("/1.0/images/aliases/{}", utf8_percent_encode(name, &SEGMENT))
}

/// A path of the public API, whatever the method.
enum Path {
    Alias(String),
    Aliases,
    Export(String),
    Image(String),
    Images,
    Server,
}

impl Path {
    fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/1.0")?;
        if rest.is_empty() {
            return Some(Self::Server);
        }
        // Alias names may contain slashes, and some clients do not encode them.
        if let Some(name) = rest.strip_prefix("/images/aliases/") {
            return decode_name(name).map(Self::Alias);
        }
        let segments: Vec<&str> = rest.strip_prefix('/')?.split('/').collect();
        match segments.as_slice() {
            ["images"] => Some(Self::Images),
            ["images", "aliases"] => Some(Self::Aliases),
            ["images", name] => decode_name(name).map(Self::Image),
            ["images", name, "export"] => decode_name(name).map(Self::Export),
            _ => None,
        }
    }
}

/// Decodes a name that is the rest of a path. Unencoded slashes are kept.
fn decode_name(rest: &str) -> Option<String> {
    if rest.is_empty() {
        return None;
    }
    let segments: Option<Vec<String>> = rest.split('/').map(decode).collect();
    Some(segments?.join("/"))
}

/// Percent-decodes once. Returns `None` unless the result is UTF-8.
fn decode(segment: &str) -> Option<String> {
    if has_broken_escape(segment) {
        return None;
    }
    let decoded = percent_decode_str(segment).decode_utf8().ok()?;
    // Dot segments and control characters are not part of names.
    let is_name = !matches!(decoded.as_ref(), "." | "..") && !decoded.contains(char::is_control);
    is_name.then(|| decoded.into_owned())
}

fn has_broken_escape(text: &str) -> bool {
    let is_escape = |rest: &str| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    text.split('%').skip(1).any(|rest| !is_escape(rest))
}

/// The known query parameters, parsed as Go's `url.ParseQuery` does: `+` is a space, pairs with a semicolon or an
/// invalid escape are ignored, and the first of several values counts. The query is read in one pass, and unknown
/// parameters are not decoded.
#[derive(Debug, Default)]
pub(super) struct Query<'a> {
    all_projects: Option<Cow<'a, str>>,
    filter: Option<Cow<'a, str>>,
    project: Option<Cow<'a, str>>,
    recursion: Option<Cow<'a, str>>,
    /// Search text of the page.
    search: Option<Cow<'a, str>>,
}

impl<'a> Query<'a> {
    pub(super) fn of(uri: &'a Uri) -> Self {
        let mut query = Self::default();
        for pair in uri.query().unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if let Some(first) = query.parameter(name)
                && first.is_none()
                && !pair.contains(';')
            {
                *first = decode_query(value);
            }
        }
        query
    }

    /// Returns the field of a parameter.
    fn parameter(&mut self, name: &str) -> Option<&mut Option<Cow<'a, str>>> {
        // The longest known name has 12 characters. Decoding never makes a name longer.
        let mut decoded = [0; 12];
        let mut length = 0;
        for byte in percent_decode_str(name) {
            *decoded.get_mut(length)? = byte;
            length += 1;
        }
        match &decoded[..length] {
            b"all-projects" => Some(&mut self.all_projects),
            b"filter" => Some(&mut self.filter),
            b"project" => Some(&mut self.project),
            b"q" => Some(&mut self.search),
            b"recursion" => Some(&mut self.recursion),
            _ => None,
        }
    }

    fn filter(&self) -> &str {
        self.filter.as_deref().unwrap_or_default()
    }

    pub(super) fn search(&self) -> &str {
        self.search.as_deref().unwrap_or_default()
    }

    fn is_default_project(&self) -> bool {
        matches!(self.project.as_deref(), None | Some("" | "default"))
    }

    /// Incus treats any number except 0 as true.
    fn is_recursion(&self) -> bool {
        let depth = self.recursion.as_deref().unwrap_or_default();
        depth.parse::<i64>().is_ok_and(|depth| depth != 0)
    }

    fn is_all_projects(&self) -> bool {
        let value = self.all_projects.as_deref().unwrap_or_default();
        ["true", "1", "yes", "on"]
            .iter()
            .any(|yes| value.eq_ignore_ascii_case(yes))
    }
}

fn decode_query(text: &str) -> Option<Cow<'_, str>> {
    if has_broken_escape(text) {
        return None;
    }
    if !text.contains('+') {
        return Some(percent_decode_str(text).decode_utf8_lossy());
    }
    let spaced = text.replace('+', " ");
    Some(Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned()))
}

#[cfg(test)]
mod tests;
