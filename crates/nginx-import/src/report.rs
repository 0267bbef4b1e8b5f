//! The report for the administrator who runs the import.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use crate::directive::{Directive, Position, format_positions};
use crate::escape::escape_control;

/// A statement, and the directives it applies to.
#[derive(Debug)]
struct Finding {
    text: String,
    directives: Vec<(Position, String)>,
}

/// The statements of the report, by category.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The base of relative file names.
    prefix: String,
    exposed: Vec<Finding>,
    unenforced: Vec<Finding>,
    missing: Vec<Finding>,
    unsupported: Vec<Finding>,
    not_needed: BTreeMap<&'static str, BTreeMap<String, Vec<Position>>>,
    improvements: Vec<Finding>,
    steps: Vec<Finding>,
}

impl Report {
    /// Creates an empty report.
    pub(crate) fn new(prefix: String) -> Self {
        Self {
            prefix,
            ..Self::default()
        }
    }

    /// Reports that Nginx currently gives strangers access that cannot be intended.
    pub(crate) fn exposed(&mut self, directive: &Directive, text: &str) {
        push_for(&mut self.exposed, directive, text);
    }

    /// Reports that Nginx restricted access where the gateway would not. The port is held back until an administrator decides.
    pub(crate) fn unenforced(&mut self, text: String) {
        push(&mut self.unenforced, text);
    }

    /// Like [`Self::unenforced`], for a directive. Directives with the same text are combined.
    pub(crate) fn unenforced_for(&mut self, directive: &Directive, text: &str) {
        push_for(&mut self.unenforced, directive, text);
    }

    /// Reports a missing value, without which the configuration cannot be used.
    pub(crate) fn missing(&mut self, text: String) {
        push(&mut self.missing, text);
    }

    /// Like [`Self::missing`], for a directive. Directives with the same text are combined.
    pub(crate) fn missing_for(&mut self, directive: &Directive, text: &str) {
        push_for(&mut self.missing, directive, text);
    }

    /// Reports a feature of Nginx that the gateway does not have.
    pub(crate) fn unsupported(&mut self, text: String) {
        push(&mut self.unsupported, text);
    }

    /// Like [`Self::unsupported`], for a directive. Directives with the same text are combined.
    pub(crate) fn unsupported_for(&mut self, directive: &Directive, text: &str) {
        push_for(&mut self.unsupported, directive, text);
    }

    /// Reports a directive that Nginx needed and the gateway does not.
    pub(crate) fn not_needed(&mut self, reason: &'static str, directive: &Directive) {
        let positions = self.not_needed.entry(reason).or_default();
        positions
            .entry(directive.name.clone())
            .or_default()
            .push(directive.position.clone());
    }

    /// Reports a problem of this configuration that the gateway does not have.
    pub(crate) fn improvement(&mut self, text: String) {
        push(&mut self.improvements, text);
    }

    /// Adds a step that the administrator takes next.
    pub(crate) fn step(&mut self, text: String) {
        push(&mut self.steps, text);
    }

    /// Returns whether nothing is missing and no decision is left.
    pub(crate) fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unenforced.is_empty()
    }
}

/// Adds a statement unless it is already there, since several locations can lead to the same one.
fn push(list: &mut Vec<Finding>, text: String) {
    if !list
        .iter()
        .any(|known| known.directives.is_empty() && known.text == text)
    {
        list.push(Finding {
            text,
            directives: Vec::new(),
        });
    }
}

fn push_for(list: &mut Vec<Finding>, directive: &Directive, text: &str) {
    let entry = (directive.position.clone(), directive.to_string());
    match list
        .iter_mut()
        .find(|known| !known.directives.is_empty() && known.text == text)
    {
        Some(known) => known.directives.push(entry),
        None => list.push(Finding {
            text: text.to_owned(),
            directives: vec![entry],
        }),
    }
}

impl fmt::Display for Finding {
    /// Formats as `a.conf:3, 4: TEXT: DIRECTIVE, DIRECTIVE`. The sentences of TEXT after the first one follow the directives.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        if self.directives.is_empty() {
            return f.write_str(&escape_control(&self.text));
        }
        let (positions, mut directives): (Vec<_>, Vec<_>) = self.directives.iter().cloned().unzip();
        let mut seen = HashSet::new();
        directives.retain(|directive| seen.insert(directive.clone()));
        let more = directives.len().saturating_sub(SHOWN);
        directives.truncate(SHOWN);
        let mut shown = directives.join(", ");
        if more > 0 {
            shown += &format!(" and {more} more");
        }
        let (what, rest) = self
            .text
            .split_once(". ")
            .map_or((&*self.text, None), |(what, rest)| (what, Some(rest)));
        let rest = rest.map(|rest| format!(". {rest}")).unwrap_or_default();
        f.write_str(&escape_control(&format!(
            "{}: {what}: {shown}{rest}",
            format_positions(&positions)
        )))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "File names are relative to {}.\n", escape_control(&self.prefix))?;
        if !self.exposed.is_empty() {
            writeln!(f, "What is open to everybody NOW, in Nginx:")?;
            items(f, "", &self.exposed)?;
            writeln!(f)?;
        }
        writeln!(f, "What could not be taken over:")?;
        if self.unenforced.is_empty() && self.missing.is_empty() && self.unsupported.is_empty() {
            writeln!(f, "  - Nothing is lost.")?;
        }
        items(f, "MISSING: ", &self.unenforced)?;
        items(f, "MISSING: ", &self.missing)?;
        items(f, "", &self.unsupported)?;
        for (reason, directives) in &self.not_needed {
            let list: Vec<_> = directives
                .iter()
                .map(|(name, positions)| format!("{name} ({})", format_positions(positions)))
                .collect();
            writeln!(f, "  - Not needed: {}. {reason}.", escape_control(&list.join(", ")))?;
        }
        if !self.improvements.is_empty() {
            writeln!(f, "\nWhat gets better:")?;
            items(f, "", &self.improvements)?;
        }
        writeln!(f, "\nWhat to do next:")?;
        for (number, text) in (1..).zip(&self.steps) {
            writeln!(f, "  {number}. {text}")?;
        }
        Ok(())
    }
}

fn items(f: &mut fmt::Formatter<'_>, mark: &str, findings: &[Finding]) -> fmt::Result {
    findings
        .iter()
        .try_for_each(|finding| writeln!(f, "  - {mark}{finding}."))
}
