//! Values with their origin.

use std::fmt;

/// A value, and the comment that follows it in `proxy.toml`, usually the position in Nginx's files.
#[derive(Clone, Debug)]
pub(crate) struct Sourced<T> {
    pub(crate) value: T,
    pub(crate) comment: String,
}

impl<T> Sourced<T> {
    pub(crate) fn new(value: T, comment: impl fmt::Display) -> Self {
        let comment = comment.to_string();
        Self { value, comment }
    }
}
