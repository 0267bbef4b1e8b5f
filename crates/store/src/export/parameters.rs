//! Parameters of a header field (RFC 9110 §5.6.6), in the form that Go writes: `; name=token` or `; name="quoted"`.

/// Returns the value of a parameter. `None` also if it stands there twice or if anything in `rest` is malformed, since then two
/// readers could understand it differently.
pub(super) fn parameter(rest: &str, name: &str) -> Option<String> {
    let parsed = all(rest)?;
    let mut found = parsed.into_iter().filter(|(key, _)| key == name);
    let (_, value) = found.next()?;
    found.next().is_none().then_some(value)
}

/// Parses all parameters; names are in lower case.
pub(super) fn all(rest: &str) -> Option<Vec<(String, String)>> {
    let mut parameters = Vec::new();
    let mut rest = rest.trim_matches([' ', '\t']);
    while !rest.is_empty() {
        let (name, value) = rest.split_once('=')?;
        let is_token = |text: &str| !text.is_empty() && text.bytes().all(is_token_byte);
        if !is_token(name) {
            return None;
        }
        let (value, end) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = value.find([';', ' ', '\t']).unwrap_or(value.len());
                (value[..end].to_owned(), &value[end..])
            }
        };
        parameters.push((name.to_ascii_lowercase(), value));
        rest = end.trim_start_matches([' ', '\t']);
        if !rest.is_empty() {
            rest = rest.strip_prefix(';')?.trim_start_matches([' ', '\t']);
        }
    }
    Some(parameters)
}

/// Reads a quoted string behind its opening quote. Returns it and what follows the closing quote.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
