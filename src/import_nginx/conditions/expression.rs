//! The expression of an `if`: one variable, and what it is compared with.

use super::super::site::{Condition, Effect};

/// The single comparison of an `if`, normalized to state which requests it admits.
pub(super) struct Test {
    pub(super) variable: String,
    pub(super) how: How,
    pub(super) lets_through_what_fits: bool,
}

pub(super) enum How {
    /// Neither empty nor `0`.
    IsSet,
    /// `=`
    Is(String),
    /// `~`
    Fits(Choice),
}

/// A regular expression that is only an alternation of literal words, such as `^(a|b)$`. No others are supported.
pub(super) struct Choice {
    /// In lower case if the match is case-insensitive.
    pub(super) words: Vec<String>,
    is_of_any_case: bool,
    is_from_the_start: bool,
    is_to_the_end: bool,
}

impl Choice {
    fn read(pattern: &str, is_of_any_case: bool) -> Option<Self> {
        let (is_from_the_start, rest) = pattern.strip_prefix('^').map_or((false, pattern), |rest| (true, rest));
        let (is_to_the_end, rest) = rest.strip_suffix('$').map_or((false, rest), |rest| (true, rest));
        let group = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let group = group.map(|group| group.strip_prefix("?:").unwrap_or(group));
        let words = group.unwrap_or(rest).split('|');
        let words: Vec<_> = words.map(|word| in_case(word, is_of_any_case)).collect();
        // In `^a|b$`, each anchor applies to one word only.
        let is_of_all = group.is_some() || words.len() == 1 || !(is_from_the_start || is_to_the_end);
        let is_word = |word: &String| {
            word.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        };
        (is_of_all && words.iter().all(is_word)).then_some(Self {
            words,
            is_of_any_case,
            is_from_the_start,
            is_to_the_end,
        })
    }

    fn fits(&self, value: &str) -> bool {
        let value = in_case(value, self.is_of_any_case);
        self.words
            .iter()
            .any(|word| match (self.is_from_the_start, self.is_to_the_end) {
                (true, true) => value == *word,
                (true, false) => value.starts_with(word),
                (false, true) => value.ends_with(word),
                (false, false) => value.contains(word),
            })
    }
}

fn in_case(text: &str, is_of_any_case: bool) -> String {
    match is_of_any_case {
        true => text.to_ascii_lowercase(),
        false => text.to_owned(),
    }
}

impl Test {
    pub(super) fn read(condition: &Condition<'_>) -> Option<Self> {
        let lets_through = match condition.effect {
            Effect::LetsThrough => true,
            Effect::Refuses => false,
            Effect::Unclear => return None,
        };
        let mut words: Vec<&str> = condition.directive.arguments.iter().map(String::as_str).collect();
        if let Some(first) = words.first_mut() {
            *first = first.strip_prefix('(').unwrap_or(first);
        }
        if let Some(last) = words.last_mut() {
            *last = last.strip_suffix(')').unwrap_or(last);
        }
        words.retain(|word| !word.is_empty());
        let (tested, operator, value) = match *words.as_slice() {
            [tested] => (tested, "", ""),
            // A comparison with the empty string, for which the lexer leaves no word.
            [tested, operator @ ("=" | "!=")] => (tested, operator, ""),
            [tested, operator, value] => (tested, operator, value),
            _ => return None,
        };
        let (is_negated, operator) = operator
            .strip_prefix('!')
            .map_or((false, operator), |rest| (true, rest));
        let how = match operator {
            "" => How::IsSet,
            // The right side is known only when a request arrives.
            "=" if value.contains('$') => return None,
            "=" => How::Is(value.to_owned()),
            "~" => How::Fits(Choice::read(value, false)?),
            "~*" => How::Fits(Choice::read(value, true)?),
            _ => return None,
        };
        Some(Self {
            variable: variable(tested)?.to_owned(),
            how,
            lets_through_what_fits: lets_through != is_negated,
        })
    }

    /// Returns whether a request is admitted if the variable has this value; `None` if that is unknown.
    pub(super) fn passes(&self, value: &str) -> Option<bool> {
        // The value of a `map` entry can contain variables, which are known only when a request arrives.
        if value.contains('$') {
            return None;
        }
        let fits = match &self.how {
            How::IsSet => !matches!(value, "" | "0"),
            How::Is(wanted) => wanted == value,
            How::Fits(choice) => choice.fits(value),
        };
        Some(fits == self.lets_through_what_fits)
    }
}

/// Returns the variable's name if the text is exactly one variable.
pub(super) fn variable(text: &str) -> Option<&str> {
    let rest = text.strip_prefix('$')?;
    let name = rest
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .unwrap_or(rest);
    (!name.is_empty() && name.chars().all(is_of_a_name)).then_some(name)
}

/// Returns the names of all variables in a text.
pub(super) fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.split('$').skip(1).map(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let end = rest.find(|c| !is_of_a_name(c)).unwrap_or(rest.len());
        &rest[..end]
    })
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}
