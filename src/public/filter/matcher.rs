//! Evaluates clauses for an image.

use super::clause::{Clause, Flag, Test, Text};
use super::pattern::{Pattern, TooComplex};
use crate::public::image::Image;

/// Evaluates a filter. Each pattern is compiled when the first image needs it.
#[derive(Debug)]
pub struct Matcher<'a> {
    clauses: &'a [Clause],
    /// One entry per clause.
    patterns: Vec<Option<Pattern>>,
}

impl<'a> Matcher<'a> {
    pub(super) fn new(clauses: &'a [Clause]) -> Self {
        Self {
            clauses,
            patterns: clauses.iter().map(|_| None).collect(),
        }
    }

    /// Whether the filter matches an image.
    ///
    /// # Errors
    ///
    /// Fails if a pattern exceeds its memory limit.
    pub fn matches(&mut self, image: &Image) -> Result<bool, TooComplex> {
        let mut matched = true;
        for (clause, pattern) in self.clauses.iter().zip(&mut self.patterns) {
            // Short circuit: `true or x` is true and `false and x` is false.
            if clause.or != matched {
                matched = holds(&clause.test, image, pattern)? != clause.negated;
            }
        }
        Ok(matched)
    }
}

fn holds(test: &Test, image: &Image, pattern: &mut Option<Pattern>) -> Result<bool, TooComplex> {
    Ok(match test {
        Test::Flag(Flag::AutoUpdate, value) => image.auto_update == *value,
        Test::Flag(Flag::Cached, value) => image.cached == *value,
        Test::Flag(Flag::Public, value) => image.public == *value,
        Test::Size(size) => image.size == *size,
        Test::Text(field, value) => {
            let pattern = match pattern {
                Some(pattern) => pattern,
                None => pattern.insert(Pattern::new(value)?),
            };
            pattern.matches(text_of(field, image))?
        }
    })
}

fn text_of<'a>(field: &Text, image: &'a Image) -> &'a str {
    match field {
        Text::Architecture => &image.architecture,
        Text::Filename => &image.filename,
        Text::Fingerprint => &image.fingerprint,
        Text::Project => &image.project,
        Text::Property(key) => image.properties.get(key).map_or("", String::as_str),
        Text::Type => &image.kind,
    }
}
