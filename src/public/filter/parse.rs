//! Splits a filter into words and clauses, as Incus does.

use super::clause::Clause;
use super::error::FilterError;

/// Maximum length of a filter, in bytes.
pub(super) const MAX_LENGTH: usize = 1 << 10;
const MAX_CLAUSES: usize = 8;

/// Parses all clauses.
pub(super) fn clauses(text: &str) -> Result<Vec<Clause>, FilterError> {
    if text.len() > MAX_LENGTH {
        return Err(FilterError::Syntax("longer than 1024 bytes"));
    }
    let mut words = text.split_whitespace();
    let mut clauses = Vec::new();
    let mut next = words.next();
    let mut or = false;
    while let Some(word) = next {
        let not = word.eq_ignore_ascii_case("not");
        let field = match not {
            true => words.next().ok_or(FilterError::Syntax("incomplete not clause"))?,
            false => word,
        };
        let operator = words.next().ok_or(FilterError::Syntax("clause has no operator"))?;
        let value = value(&mut words)?;
        let logical = words.next();
        let next_or = match logical {
            None | Some("and") => false,
            Some("or") => true,
            Some(_) => return Err(FilterError::Syntax("invalid clause composition")),
        };
        next = words.next();
        if logical.is_some() && next.is_none() {
            return Err(FilterError::Syntax("unterminated compound clause"));
        }
        if clauses.len() == MAX_CLAUSES {
            return Err(FilterError::Syntax("more than 8 clauses"));
        }
        clauses.push(Clause::new(or, not, field, operator, &value)?);
        or = next_or;
    }
    Ok(clauses)
}

/// Parses a word, or words in double quotes. As in Incus, the closing quote is never in the same word as the opening
/// one.
fn value<'a>(words: &mut impl Iterator<Item = &'a str>) -> Result<String, FilterError> {
    let first = words.next().ok_or(FilterError::Syntax("clause has no value"))?;
    let Some(first) = first.strip_prefix('"') else {
        return Ok(first.to_owned());
    };
    let mut value = first.to_owned();
    loop {
        let word = words.next().ok_or(FilterError::Syntax("unterminated quote"))?;
        value.push(' ');
        match word.strip_suffix('"') {
            Some(last) => return Ok(value + last),
            None => value.push_str(word),
        }
    }
}
