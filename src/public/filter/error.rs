//! Why a filter is rejected.

use thiserror::Error;

/// Errors with Incus's messages.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum FilterError {
    #[error("Invalid filter: {0}")]
    Syntax(&'static str),
    #[error("Failed to parse value: strconv.ParseBool: parsing {0:?}: invalid syntax")]
    Flag(String),
    #[error("{}", no_test_for(.0))]
    Field(String),
    #[error("Failed to parse value: strconv.ParseInt: parsing {0:?}: invalid syntax")]
    Number(String),
    #[error("Unsupported operation")]
    Operator,
}

/// Returns Incus's message for a field without a single value. Hidden fields get the message for unknown fields.
fn no_test_for(field: &str) -> String {
    let kind = match field {
        "aliases" => return "Invalid slice type \"struct\" for field \"aliases\"".to_owned(),
        "created_at" | "expires_at" | "uploaded_at" => "struct",
        "properties" => "map",
        _ => "invalid",
    };
    format!("Invalid type {kind:?} for field {field:?}")
}
