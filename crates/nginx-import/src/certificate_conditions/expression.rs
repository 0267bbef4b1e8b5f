//! The expression of an `if`: one variable, and what it is compared with.

use crate::condition::{Condition, Effect};

/// The single comparison of an `if`, normalized to state which requests it admits.
pub(crate) struct Comparison {
    pub(crate) variable: String,
    pub(crate) operator: Operator,
    /// Whether requests that match are admitted, rather than rejected.
    pub(crate) admits_on_match: bool,
}

pub(crate) enum Operator {
    /// Neither empty nor `0`.
    NonEmpty,
    /// `=`
    Equals(String),
    /// `~`
    Matches(Alternation),
}

/// A regular expression that is only an alternation of literal words, such as `^(a|b)$`. No others are supported.
pub(crate) struct Alternation {
    /// In lower case if the match is case-insensitive.
    pub(crate) words: Vec<String>,
    ignore_case: bool,
    anchored_start: bool,
    anchored_end: bool,
}

impl Alternation {
    fn read(pattern: &str, ignore_case: bool) -> Option<Self> {
        let (anchored_start, rest) = pattern.strip_prefix('^').map_or((false, pattern), |rest| (true, rest));
        let (anchored_end, rest) = rest.strip_suffix('$').map_or((false, rest), |rest| (true, rest));
        let group = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let group = group.map(|group| group.strip_prefix("?:").unwrap_or(group));
        let words = group.unwrap_or(rest).split('|');
        let words: Vec<_> = words.map(|word| fold_case(word, ignore_case)).collect();
        // In `^a|b$`, each anchor applies to one word only.
        let anchors_apply_to_all = group.is_some() || words.len() == 1 || !(anchored_start || anchored_end);
        let is_word = |word: &String| {
            word.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        };
        (anchors_apply_to_all && words.iter().all(is_word)).then_some(Self {
            words,
            ignore_case,
            anchored_start,
            anchored_end,
        })
    }

    fn matches(&self, value: &str) -> bool {
        let value = fold_case(value, self.ignore_case);
        self.words
            .iter()
            .any(|word| match (self.anchored_start, self.anchored_end) {
                (true, true) => value == *word,
                (true, false) => value.starts_with(word),
                (false, true) => value.ends_with(word),
                (false, false) => value.contains(word),
            })
    }
}

fn fold_case(text: &str, ignore_case: bool) -> String {
    match ignore_case {
        true => text.to_ascii_lowercase(),
        false => text.to_owned(),
    }
}

impl Comparison {
    /// Parses the condition; `None` if it is not supported.
    pub(crate) fn read(condition: &Condition<'_>) -> Option<Self> {
        let admits_if_true = match condition.effect {
            Effect::Admits => true,
            Effect::Rejects => false,
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
        let (tested, symbol, value) = match *words.as_slice() {
            [tested] => (tested, "", ""),
            // A comparison with the empty string, for which the lexer leaves no word.
            [tested, symbol @ ("=" | "!=")] => (tested, symbol, ""),
            [tested, symbol, value] => (tested, symbol, value),
            _ => return None,
        };
        let (is_negated, symbol) = symbol.strip_prefix('!').map_or((false, symbol), |rest| (true, rest));
        let operator = match symbol {
            "" => Operator::NonEmpty,
            // The right side is known only when a request arrives.
            "=" if value.contains('$') => return None,
            "=" => Operator::Equals(value.to_owned()),
            "~" => Operator::Matches(Alternation::read(value, false)?),
            "~*" => Operator::Matches(Alternation::read(value, true)?),
            _ => return None,
        };
        Some(Self {
            variable: variable(tested)?.to_owned(),
            operator,
            admits_on_match: admits_if_true != is_negated,
        })
    }

    /// Returns whether a request is admitted if the variable has this value; `None` if that is unknown.
    pub(crate) fn admits(&self, value: &str) -> Option<bool> {
        // The value of a `map` entry can contain variables, which are known only when a request arrives.
        if value.contains('$') {
            return None;
        }
        let matches = match &self.operator {
            Operator::NonEmpty => !matches!(value, "" | "0"),
            Operator::Equals(wanted) => wanted == value,
            Operator::Matches(alternation) => alternation.matches(value),
        };
        Some(matches == self.admits_on_match)
    }
}

/// Returns the variable's name if the text is exactly one variable.
pub(crate) fn variable(text: &str) -> Option<&str> {
    let rest = text.strip_prefix('$')?;
    let name = rest
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .unwrap_or(rest);
    (!name.is_empty() && name.chars().all(is_name_char)).then_some(name)
}

/// Returns the names of all variables in a text.
pub(crate) fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.split('$').skip(1).map(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        let end = rest.find(|c| !is_name_char(c)).unwrap_or(rest.len());
        &rest[..end]
    })
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}
