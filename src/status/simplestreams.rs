//! What `incus-gate status` says about the images as simplestreams.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::table::plain;
use crate::simplestreams::documents::{self, Documents};

/// Number of images and aliases that the text names. `--json` has all.
const NAMED: usize = 10;
/// Length of a fingerprint as `incus image list` displays it.
const FINGERPRINT: usize = 12;

/// The images as simplestreams.
#[derive(Debug, Default, Deserialize, Serialize)]
#[expect(missing_docs, reason = "docs/OPERATING.md documents each field")]
pub struct Simplestreams {
    pub count: Option<u64>,
    pub pending: Vec<Pending>,
    pub omitted: Vec<Omitted>,
    pub self_signed: bool,
}

/// An image whose files are not known yet.
#[derive(Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "docs/OPERATING.md documents each field")]
pub struct Pending {
    pub fingerprint: String,
    pub problem: Option<String>,
}

/// An image or an alias that simplestreams cannot express.
#[derive(Debug, Deserialize, Serialize)]
#[expect(missing_docs, reason = "docs/OPERATING.md documents each field")]
pub struct Omitted {
    pub fingerprint: String,
    pub alias: Option<String>,
    pub reason: String,
}

impl Simplestreams {
    /// Describes the latest documents, if there are any.
    pub(super) fn of(documents: Option<&Documents>, self_signed: bool) -> Self {
        let Some(documents) = documents else {
            return Self {
                self_signed,
                ..Self::default()
            };
        };
        let pending = |image: &documents::Pending| Pending {
            fingerprint: image.fingerprint.clone(),
            problem: image.problem.clone(),
        };
        let omitted = documents.omitted.iter().map(|omitted| Omitted {
            fingerprint: omitted.fingerprint.clone(),
            alias: omitted.alias.clone(),
            reason: omitted.reason.to_string(),
        });
        Self {
            count: Some(documents.listed as u64),
            pending: documents.pending.iter().map(pending).collect(),
            omitted: omitted.collect(),
            self_signed,
        }
    }

    /// Formats it, with one line for each of the first images that cannot be fetched or expressed.
    pub(super) fn text(&self) -> String {
        let mut text = self.images();
        if self.self_signed {
            text += "    the certificate is self-signed: simplestreams clients need it as servercerts/REMOTE.crt\n";
        }
        text
    }

    fn images(&self) -> String {
        let Some(count) = self.count else {
            return "  no images as simplestreams yet\n".to_owned();
        };
        let failing = self
            .pending
            .iter()
            .filter_map(|image| Some((image, image.problem.as_deref()?)));
        let failing: Vec<_> = failing.collect();
        let of_aliases = self.omitted.iter().filter(|omitted| omitted.alias.is_some()).count();
        let counts = [
            (self.pending.len() - failing.len(), "to be fetched"),
            (failing.len(), "cannot be fetched"),
            (self.omitted.len() - of_aliases, "left out"),
        ];
        let mark = if failing.is_empty() { ' ' } else { '!' };
        let mut text = format!("{mark} images as simplestreams: {count}");
        for (number, what) in counts.into_iter().filter(|(number, _)| *number > 0) {
            // Writing to memory does not fail.
            let _ = write!(text, ", {number} {what}");
        }
        text.push('\n');
        let short = |fingerprint: &str| plain(fingerprint).chars().take(FINGERPRINT).collect::<String>();
        let failing = failing.iter().map(|(image, problem)| {
            let fingerprint = short(&image.fingerprint);
            format!("!   {fingerprint} cannot be fetched: {}\n", plain(problem))
        });
        let omitted = self.omitted.iter().map(|omitted| {
            let (fingerprint, reason) = (short(&omitted.fingerprint), plain(&omitted.reason));
            match &omitted.alias {
                Some(alias) => format!("    alias {} of {fingerprint} is left out: {reason}\n", plain(alias)),
                None => format!("    {fingerprint} is left out: {reason}\n"),
            }
        });
        let lines: Vec<_> = failing.chain(omitted).collect();
        text.extend(lines.iter().take(NAMED).map(String::as_str));
        if let Some(more @ 1..) = lines.len().checked_sub(NAMED) {
            let _ = writeln!(text, "    and {more} more, which --json lists");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_marked_and_long_lists_are_shortened() {
        let pending = |problem: Option<&str>| Pending {
            fingerprint: "ab".repeat(32),
            problem: problem.map(str::to_owned),
        };
        let omitted = |alias: Option<&str>| Omitted {
            fingerprint: "cd".repeat(32),
            alias: alias.map(str::to_owned),
            reason: "a reason".to_owned(),
        };
        assert_eq!(Simplestreams::default().text(), "  no images as simplestreams yet\n");
        let mut report = Simplestreams {
            count: Some(3),
            ..Simplestreams::default()
        };
        assert_eq!(report.text(), "  images as simplestreams: 3\n");
        report.pending = vec![pending(None), pending(Some("the disk\u{1b} is full"))];
        report.omitted = vec![omitted(None), omitted(Some("a,b"))];
        assert_eq!(
            report.text(),
            "! images as simplestreams: 3, 1 to be fetched, 1 cannot be fetched, 1 left out\n\
             !   abababababab cannot be fetched: the disk is full\n\
             \u{20}   cdcdcdcdcdcd is left out: a reason\n\
             \u{20}   alias a,b of cdcdcdcdcdcd is left out: a reason\n"
        );
        report.self_signed = true;
        assert!(report.text().ends_with("clients need it as servercerts/REMOTE.crt\n"));
        report.self_signed = false;
        report.omitted = (0..NAMED).map(|_| omitted(None)).collect();
        assert!(report.text().ends_with("    and 1 more, which --json lists\n"));
        assert_eq!(report.text().lines().count(), NAMED + 2);
    }
}
