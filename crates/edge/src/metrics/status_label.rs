//! Metrics label for the status of a response.

use http::StatusCode;

use crate::counters::label::Label;

/// Status of a response, or none.
#[derive(Clone, Copy, Debug)]
pub struct Status(usize);

/// Status codes that Incus and the gateway send, in ascending order, and two placeholders.
const STATUSES: [(u16, &str); 32] = [
    (101, "101"),
    (200, "200"),
    (201, "201"),
    (202, "202"),
    (204, "204"),
    (206, "206"),
    (301, "301"),
    (302, "302"),
    (303, "303"),
    (304, "304"),
    (307, "307"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (409, "409"),
    (410, "410"),
    (412, "412"),
    (413, "413"),
    (415, "415"),
    (416, "416"),
    (423, "423"),
    (429, "429"),
    (500, "500"),
    (501, "501"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
    (OTHER, "other"),
    (NONE, "none"),
];
/// Outside the range of HTTP status codes.
const OTHER: u16 = 1000;
const NONE: u16 = 1001;

impl Status {
    /// Returns the label of a response's status; `None` if there was no response.
    pub fn of(status: Option<StatusCode>) -> Self {
        let place = |code: u16| STATUSES.binary_search_by_key(&code, |(known, _)| *known);
        let code = status.map_or(NONE, |status| status.as_u16());
        Self(place(code).unwrap_or(STATUSES.len() - 2))
    }
}

impl Label for Status {
    const ALL: &'static [Self] = &{
        let mut all = [Self(0); STATUSES.len()];
        let mut place = 0;
        while place < all.len() {
            all[place] = Self(place);
            place += 1;
        }
        all
    };

    fn name(self) -> &'static str {
        STATUSES[self.0].1
    }

    fn place(self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_label() {
        assert!(STATUSES.is_sorted_by_key(|(code, _)| *code));
        for (code, name) in STATUSES {
            match StatusCode::from_u16(code) {
                Ok(status) => assert_eq!(
                    (Status::of(Some(status)).name(), name),
                    (status.as_str(), status.as_str())
                ),
                Err(_) => assert!(code == OTHER || code == NONE),
            }
        }
        assert_eq!(Status::of(StatusCode::from_u16(599).ok()).name(), "other");
        assert_eq!(Status::of(None).name(), "none");
    }
}
