//! The report for the administrator who runs the import.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;
use std::rc::Rc;

use super::tree::{Directive, Place};

/// The result of an import.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The configuration is ready for `check`.
    Complete,
    /// The configuration lacks values that only the administrator knows.
    Incomplete,
    /// There is no configuration: nothing in the files leads to Incus.
    Nothing,
}

/// A statement, and the directives it applies to.
#[derive(Debug)]
struct Finding {
    text: String,
    of: Vec<(Place, String)>,
}

/// The statements of the report, by category.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// The base of relative file names.
    folder: String,
    open: Vec<Finding>,
    unguarded: Vec<Finding>,
    missing: Vec<Finding>,
    lost: Vec<Finding>,
    needless: BTreeMap<&'static str, BTreeMap<String, Vec<Place>>>,
    better: Vec<Finding>,
    next: Vec<Finding>,
}

impl Report {
    /// Creates an empty report.
    pub(super) fn new(folder: String) -> Self {
        Self {
            folder,
            ..Self::default()
        }
    }

    /// Reports that Nginx currently gives strangers access that nobody can have intended.
    pub(super) fn open_now(&mut self, directive: &Directive, text: &str) {
        push_of(&mut self.open, directive, text);
    }

    /// Reports that Nginx restricted access where the gateway would not. The port is held back until an administrator decides.
    pub(super) fn unguarded(&mut self, text: String) {
        push(&mut self.unguarded, text);
    }

    /// Like [`Self::unguarded`], for a directive. Directives with the same text are combined.
    pub(super) fn unguarded_by(&mut self, directive: &Directive, text: &str) {
        push_of(&mut self.unguarded, directive, text);
    }

    /// Reports a missing value, without which the configuration cannot be used.
    pub(super) fn missing(&mut self, text: String) {
        push(&mut self.missing, text);
    }

    /// Like [`Self::missing`], for a directive. Directives with the same text are combined.
    pub(super) fn missing_of(&mut self, directive: &Directive, text: &str) {
        push_of(&mut self.missing, directive, text);
    }

    /// Reports a feature of Nginx that the gateway does not have.
    pub(super) fn lost(&mut self, text: String) {
        push(&mut self.lost, text);
    }

    /// Like [`Self::lost`], for a directive. Directives with the same text are combined.
    pub(super) fn lost_of(&mut self, directive: &Directive, text: &str) {
        push_of(&mut self.lost, directive, text);
    }

    /// Reports a directive that Nginx needed and the gateway does not.
    pub(super) fn needless(&mut self, reason: &'static str, directive: &Directive) {
        let places = self.needless.entry(reason).or_default();
        places
            .entry(directive.name.clone())
            .or_default()
            .push(directive.place.clone());
    }

    pub(super) fn better(&mut self, text: String) {
        push(&mut self.better, text);
    }

    pub(super) fn next(&mut self, text: String) {
        push(&mut self.next, text);
    }

    pub(super) fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unguarded.is_empty()
    }
}

/// Adds a statement unless it is already there, since several locations can lead to the same one.
fn push(list: &mut Vec<Finding>, text: String) {
    if !list.iter().any(|known| known.of.is_empty() && known.text == text) {
        list.push(Finding { text, of: Vec::new() });
    }
}

fn push_of(list: &mut Vec<Finding>, directive: &Directive, text: &str) {
    let one = (directive.place.clone(), directive.to_string());
    match list.iter_mut().find(|known| !known.of.is_empty() && known.text == text) {
        Some(known) => known.of.push(one),
        None => list.push(Finding {
            text: text.to_owned(),
            of: vec![one],
        }),
    }
}

impl fmt::Display for Finding {
    /// Formats as `a.conf:3, 4: TEXT: DIRECTIVE, DIRECTIVE`. The sentences of TEXT after the first one follow the directives.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        if self.of.is_empty() {
            return f.write_str(&plain(&self.text));
        }
        let (places, mut directives): (Vec<_>, Vec<_>) = self.of.iter().cloned().unzip();
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
        f.write_str(&plain(&format!("{}: {what}: {shown}{rest}", lines(&places))))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Files are named from {} on.\n", plain(&self.folder))?;
        if !self.open.is_empty() {
            writeln!(f, "What is open to everybody NOW, in Nginx:")?;
            items(f, "", &self.open)?;
            writeln!(f)?;
        }
        writeln!(f, "What could not be taken over:")?;
        if self.unguarded.is_empty() && self.missing.is_empty() && self.lost.is_empty() {
            writeln!(f, "  - Nothing is lost.")?;
        }
        items(f, "MISSING: ", &self.unguarded)?;
        items(f, "MISSING: ", &self.missing)?;
        items(f, "", &self.lost)?;
        for (reason, directives) in &self.needless {
            let list: Vec<_> = directives
                .iter()
                .map(|(name, places)| format!("{name} ({})", lines(places)))
                .collect();
            writeln!(f, "  - Not needed: {}. {reason}.", plain(&list.join(", ")))?;
        }
        if !self.better.is_empty() {
            writeln!(f, "\nWhat gets better:")?;
            items(f, "", &self.better)?;
        }
        writeln!(f, "\nWhat to do next:")?;
        for (number, text) in (1..).zip(&self.next) {
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

/// Formats places as `a.conf:3, 4, 5; b.conf:1`.
pub(super) fn lines(places: &[Place]) -> String {
    let mut by_file: Vec<(Rc<Path>, Vec<u32>)> = Vec::new();
    for place in places {
        match by_file.iter_mut().find(|(file, _)| *file == place.file) {
            Some((_, lines)) => lines.push(place.line),
            None => by_file.push((Rc::clone(&place.file), vec![place.line])),
        }
    }
    let list = |(file, lines): &(Rc<Path>, Vec<u32>)| {
        let mut lines = lines.clone();
        lines.sort_unstable();
        lines.dedup();
        let lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
        format!("{}:{}", file.display(), lines.join(", "))
    };
    by_file.iter().map(list).collect::<Vec<_>>().join("; ")
}

/// Escapes control characters: text from a file must not control the terminal or start a line of its own.
pub(super) fn plain(text: &str) -> String {
    let escape = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    text.chars().map(escape).collect()
}
