//! What a clause compares with what.

use super::error::FilterError;

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Clause {
    pub(super) or: bool,
    /// Set by `not` or `ne`, but not by both.
    pub(super) negated: bool,
    pub(super) test: Test,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Test {
    Flag(Flag, bool),
    Size(i64),
    /// Field, and the pattern as written.
    Text(Text, String),
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Flag {
    AutoUpdate,
    Cached,
    Public,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Text {
    Architecture,
    Filename,
    Fingerprint,
    Project,
    Property(String),
    Type,
}

impl Clause {
    pub(super) fn new(or: bool, not: bool, field: &str, operator: &str, value: &str) -> Result<Self, FilterError> {
        let unequal = match operator {
            "eq" => false,
            "ne" => true,
            _ => return Err(FilterError::Operator),
        };
        Ok(Self {
            or,
            negated: not != unequal,
            test: Test::new(field, value)?,
        })
    }
}

impl Test {
    fn new(field: &str, value: &str) -> Result<Self, FilterError> {
        let flag = |flag| match value {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Self::Flag(flag, true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Self::Flag(flag, false)),
            _ => Err(FilterError::Flag(value.to_owned())),
        };
        let text = |text| Ok(Self::Text(text, value.to_owned()));
        match field {
            "architecture" => text(Text::Architecture),
            "auto_update" => flag(Flag::AutoUpdate),
            "cached" => flag(Flag::Cached),
            "filename" => text(Text::Filename),
            "fingerprint" => text(Text::Fingerprint),
            "project" => text(Text::Project),
            "public" => flag(Flag::Public),
            "size" => match value.parse() {
                Ok(size) => Ok(Self::Size(size)),
                Err(_) => Err(FilterError::Number(value.to_owned())),
            },
            "type" => text(Text::Type),
            _ => match field.strip_prefix("properties.") {
                Some(key) => text(Text::Property(key.to_owned())),
                None => Err(FilterError::Field(field.to_owned())),
            },
        }
    }
}
