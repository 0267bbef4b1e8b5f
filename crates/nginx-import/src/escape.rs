//! Escaping of text from Nginx's files in the output.

/// Escapes control characters: text from a file must not control the terminal or start a line of its own.
pub(crate) fn escape_control(text: &str) -> String {
    let escape = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    text.chars().map(escape).collect()
}
