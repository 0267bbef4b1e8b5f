//! What is said to the person who imports.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::rc::Rc;

use super::tree::{Directive, Place};

/// What came out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// A configuration that is ready for `check`.
    Complete,
    /// One that lacks what only its reader can know.
    Incomplete,
    /// None: nothing there leads to an Incus.
    Nothing,
}

/// Sentences under three headings.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Where the names of files start.
    folder: String,
    missing: Vec<String>,
    lost: Vec<String>,
    needless: BTreeMap<&'static str, BTreeMap<String, Vec<Place>>>,
    better: Vec<String>,
    next: Vec<String>,
}

impl Report {
    /// Nothing to say yet.
    pub(super) fn new(folder: String) -> Self {
        Self {
            folder,
            ..Self::default()
        }
    }

    /// Without this the written file is not fit for use.
    pub(super) fn missing(&mut self, text: String) {
        push(&mut self.missing, text);
    }

    /// Nginx did it, the gateway does not.
    pub(super) fn lost(&mut self, text: String) {
        push(&mut self.lost, text);
    }

    /// Nginx had to be told, the gateway has not.
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
        self.missing.is_empty()
    }
}

/// What is true of several locations is said once.
fn push(list: &mut Vec<String>, text: String) {
    if !list.contains(&text) {
        list.push(text);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Files are named from {} on.\n", plain(&self.folder))?;
        writeln!(f, "What could not be taken over:")?;
        if self.missing.is_empty() && self.lost.is_empty() {
            writeln!(f, "  - Nothing is lost.")?;
        }
        items(f, "MISSING: ", &self.missing)?;
        items(f, "", &self.lost)?;
        for (reason, directives) in &self.needless {
            let list: Vec<_> = directives
                .iter()
                .map(|(name, places)| format!("{name} ({})", lines(places)))
                .collect();
            writeln!(f, "  - Not needed: {}. {reason}.", plain(&list.join(", ")))?;
        }
        writeln!(f, "\nWhat gets better:")?;
        if self.better.is_empty() {
            writeln!(f, "  - Nothing was wrong.")?;
        }
        items(f, "", &self.better)?;
        writeln!(f, "\nWhat to do next:")?;
        for (number, text) in (1..).zip(&self.next) {
            writeln!(f, "  {number}. {}", plain(text))?;
        }
        Ok(())
    }
}

fn items(f: &mut fmt::Formatter<'_>, mark: &str, texts: &[String]) -> fmt::Result {
    texts
        .iter()
        .try_for_each(|text| writeln!(f, "  - {mark}{}.", plain(text)))
}

/// `a.conf:3, 4, 5; b.conf:1`
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

/// Words of a file may hold anything: nothing of it may steer a terminal, or begin a line of its own.
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
