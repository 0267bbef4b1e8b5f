//! `?filter=` of the image list, in Incus's filter syntax: `field eq value and not field ne "other value"`.
//!
//! The gateway evaluates filters itself, over the public image fields only. Incus would evaluate them over all images
//! and fields: its responses and errors would leak private images and hidden fields, and some filters crash its handler
//! (`update_source.x eq y`).
//!
//! `parse` splits the text into clauses, `clause` is what a clause compares with what, and `matcher` evaluates it, with the
//! values that `pattern` compiles.

mod clause;
mod error;
mod matcher;
mod parse;
mod pattern;

use self::clause::Clause;
pub use self::error::FilterError;
pub use self::matcher::Matcher;
pub use self::pattern::TooComplex;

/// A chain of clauses, evaluated left to right. An empty filter matches every image.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Filter(Vec<Clause>);

impl Filter {
    /// Parses a filter as Incus does.
    ///
    /// # Errors
    ///
    /// Fails on invalid syntax, unknown fields, values of the wrong type, and filters longer than 1024 bytes or with
    /// more than 8 clauses.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        parse::clauses(text).map(Self)
    }

    /// Whether the filter matches every image.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns a matcher for the filter.
    pub fn matcher(&self) -> Matcher<'_> {
        Matcher::new(&self.0)
    }
}

#[cfg(test)]
mod tests;
