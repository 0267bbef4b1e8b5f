//! What a check found.

/// The result of one check.
pub(super) struct Finding {
    pub(super) verdict: Verdict,
    pub(super) what: String,
    pub(super) text: String,
}

#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Verdict {
    Fail,
    Ok,
    Warn,
}

impl Finding {
    pub(super) fn ok(what: &str, text: &str) -> Self {
        Self::new(Verdict::Ok, what, text)
    }

    /// It works, but only for a limited time or not as well as it could.
    pub(super) fn warn(what: &str, text: &str) -> Self {
        Self::new(Verdict::Warn, what, text)
    }

    pub(super) fn fail(what: &str, text: &str) -> Self {
        Self::new(Verdict::Fail, what, text)
    }

    fn new(verdict: Verdict, what: &str, text: &str) -> Self {
        Self {
            verdict,
            what: what.to_owned(),
            text: text.to_owned(),
        }
    }
}
