//! `?filter=` of the image list, in Incus's filter syntax: `field eq value and not field ne "other value"`.
//!
//! The gateway evaluates filters itself, over the public image fields only. Incus would evaluate them over all images
//! and fields: its responses and errors would leak private images and hidden fields, and some filters crash its handler
//! (`update_source.x eq y`).

use regex_automata::Input;
use regex_automata::hybrid::dfa::{Cache, Config, DFA};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::syntax;
use thiserror::Error;

use super::image::Image;

/// Maximum memory of a pattern's NFA, in bytes. It fits about 400 characters of alternatives.
const NFA_SIZE_LIMIT: usize = 1 << 15;
/// Maximum memory of the lazily built DFA states, in bytes: several times what typical patterns need. The states are
/// built once, which takes at most a millisecond for any pattern.
const DFA_SIZE_LIMIT: usize = 1 << 15;
/// Maximum length of a filter, in bytes.
const MAX_LENGTH: usize = 1 << 10;
const MAX_CLAUSES: usize = 8;

/// A chain of clauses, evaluated left to right. An empty filter matches every image.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Filter(Vec<Clause>);

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Clause {
    or: bool,
    /// Set by `not` or `ne`, but not by both.
    negated: bool,
    test: Test,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Test {
    Flag(Flag, bool),
    Size(i64),
    /// Field, and the pattern as written.
    Text(Text, String),
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Flag {
    AutoUpdate,
    Cached,
    Public,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Text {
    Architecture,
    Filename,
    Fingerprint,
    Project,
    Property(String),
    Type,
}

/// Evaluates a filter. Each pattern is compiled when the first image needs it.
#[derive(Debug)]
pub struct Matcher<'a> {
    clauses: &'a [Clause],
    /// One entry per clause.
    patterns: Vec<Option<Pattern>>,
}

/// A compiled value. Matching ignores case.
#[derive(Debug)]
enum Pattern {
    Literal(String),
    /// A lazy DFA: states are built while texts are matched. A full DFA takes ten times as long to build for a typical
    /// pattern (0.2 ms instead of 0.02 ms for `.*debian.*`), and up to 16 ms for one that turns out to be too large.
    Regex(Box<(DFA, Cache)>),
}

/// A pattern needs more than [`NFA_SIZE_LIMIT`] or [`DFA_SIZE_LIMIT`]. Without these limits, the DFA cache would be
/// cleared and rebuilt every few bytes of text.
#[derive(Clone, Copy, Debug, Error, Eq, PartialEq)]
#[error("Invalid filter: the pattern of a value is too complex; use fewer repetitions and alternatives")]
pub struct TooComplex;

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

impl Filter {
    /// Parses a filter as Incus does.
    ///
    /// # Errors
    ///
    /// Fails on invalid syntax, unknown fields, values of the wrong type, and filters longer than 1024 bytes or with
    /// more than 8 clauses.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
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
        Ok(Self(clauses))
    }

    /// Whether the filter matches every image.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns a matcher for the filter.
    pub fn matcher(&self) -> Matcher<'_> {
        Matcher {
            clauses: &self.0,
            patterns: self.0.iter().map(|_| None).collect(),
        }
    }
}

impl Matcher<'_> {
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
                matched = clause.test.holds(image, pattern)? != clause.negated;
            }
        }
        Ok(matched)
    }
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

impl Clause {
    fn new(or: bool, not: bool, field: &str, operator: &str, value: &str) -> Result<Self, FilterError> {
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

    fn holds(&self, image: &Image, pattern: &mut Option<Pattern>) -> Result<bool, TooComplex> {
        Ok(match self {
            Self::Flag(Flag::AutoUpdate, value) => image.auto_update == *value,
            Self::Flag(Flag::Cached, value) => image.cached == *value,
            Self::Flag(Flag::Public, value) => image.public == *value,
            Self::Size(size) => image.size == *size,
            Self::Text(field, value) => {
                let pattern = match pattern {
                    Some(pattern) => pattern,
                    None => pattern.insert(Pattern::new(value)?),
                };
                pattern.matches(field.of(image))?
            }
        })
    }
}

impl Text {
    fn of<'a>(&self, image: &'a Image) -> &'a str {
        match self {
            Self::Architecture => &image.architecture,
            Self::Filename => &image.filename,
            Self::Fingerprint => &image.fingerprint,
            Self::Project => &image.project,
            Self::Property(key) => image.properties.get(key).map_or("", String::as_str),
            Self::Type => &image.kind,
        }
    }
}

impl Pattern {
    /// Compiles a value as a regular expression. It must match the whole text unless it contains `^` or `$`. A value
    /// that is not a valid regular expression is compared literally.
    fn new(value: &str) -> Result<Self, TooComplex> {
        let anchored = value.contains(['^', '$']);
        let pattern = if anchored {
            value.to_owned()
        } else {
            format!("^{value}$")
        };
        // Large Unicode classes such as `\pL` or `[\D]` need a case-folding lookup for each of their characters: 1000
        // bytes of them take seconds. Patterns with classes are therefore ASCII-only, as classes are in Go.
        let has_classes = value.contains(['[', '\\']);
        let syntax = syntax::Config::new()
            .case_insensitive(true)
            .unicode(!has_classes)
            .utf8(false);
        let literal = || Ok(Self::Literal(value.to_lowercase()));
        if sets_flags_of_its_own(value) {
            return literal();
        }
        match syntax::parse_with(&pattern, &syntax) {
            Ok(pattern) => {
                let nfa = thompson::Config::new()
                    .utf8(false)
                    .which_captures(WhichCaptures::None)
                    .nfa_size_limit(Some(NFA_SIZE_LIMIT));
                let nfa = thompson::Compiler::new().configure(nfa).build_from_hir(&pattern);
                // A DFA that would have to clear its cache fails instead.
                let dfa = Config::new()
                    .cache_capacity(DFA_SIZE_LIMIT)
                    .skip_cache_capacity_check(true)
                    .minimum_cache_clear_count(Some(0));
                let dfa = DFA::builder()
                    .configure(dfa)
                    .build_from_nfa(nfa.map_err(|_| TooComplex)?);
                let dfa = dfa.map_err(|_| TooComplex)?;
                let cache = dfa.create_cache();
                Ok(Self::Regex(Box::new((dfa, cache))))
            }
            Err(_) => literal(),
        }
    }

    fn matches(&mut self, text: &str) -> Result<bool, TooComplex> {
        match self {
            Self::Literal(value) => Ok(*value == text.to_lowercase()),
            Self::Regex(regex) => {
                let (dfa, cache) = &mut **regex;
                let found = dfa.try_search_fwd(cache, &Input::new(text).earliest(true));
                found.map(|end| end.is_some()).map_err(|_| TooComplex)
            }
        }
    }
}

/// Finds the inline flags `u` and `x`, which Go does not have. `u` would enable Unicode again, and `x` could hide a
/// `u`.
fn sets_flags_of_its_own(pattern: &str) -> bool {
    let flags = |rest: &str| {
        let mut flags = rest
            .bytes()
            .take_while(|byte| byte.is_ascii_alphabetic() || *byte == b'-');
        flags.any(|flag| matches!(flag, b'u' | b'x'))
    };
    pattern.split("(?").skip(1).any(flags)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;

    fn image() -> Image {
        serde_json::from_value(json!({
            "properties": {"os": "Alpine", "release": "3.20", "image.kind": "x"},
            "public": true, "cached": false, "architecture": "x86_64", "fingerprint": "b2e6",
            "size": 878_640, "type": "container", "project": "default",
        }))
        .expect("valid image")
    }

    #[test]
    fn clauses_are_evaluated_from_the_left() {
        let matches = [
            "",
            "public eq true",
            "public ne false",
            "not public eq false",
            "NOT public ne true",
            "size eq 878640",
            "type eq CONTAINER",
            "architecture eq x86_64|aarch64",
            "properties.os eq alp.*",
            "properties.os eq ^a",
            "properties.release eq 3..0",
            "cached eq true or public eq true",
            "public eq true or cached eq true and cached eq false",
        ];
        let differs = [
            "public eq false",
            "not public eq true",
            "size ne 878640",
            "architecture eq x86",
            "architecture eq x86_64,aarch64",
            "properties.rel eq 3.20",
            "properties.os eq lpin",
            "properties.release eq 3.2",
            "properties.nope eq x",
            "fingerprint eq B2",
            "cached eq true and public eq true",
            "cached eq true or public eq true and type eq virtual-machine",
        ];
        let holds = |text: &str| {
            Filter::parse(text)
                .unwrap_or_else(|error| panic!("{text}: {error}"))
                .matcher()
                .matches(&image())
                .expect("small pattern")
        };
        for text in matches {
            assert!(holds(text), "{text}");
        }
        for text in differs {
            assert!(!holds(text), "{text}");
        }
    }

    #[test]
    fn what_incus_refuses_is_refused() {
        let error = |text: &str| Filter::parse(text).expect_err(text).to_string();
        assert_eq!(error("x"), "Invalid filter: clause has no operator");
        assert_eq!(error("x eq"), "Invalid filter: clause has no value");
        assert_eq!(error("not"), "Invalid filter: incomplete not clause");
        assert_eq!(error("type eq \"x"), "Invalid filter: unterminated quote");
        assert_eq!(
            error("public eq true xor cached eq true"),
            "Invalid filter: invalid clause composition"
        );
        assert_eq!(
            error("public eq true and"),
            "Invalid filter: unterminated compound clause"
        );
        assert_eq!(
            error(&format!("type eq {}", "x".repeat(1024))),
            "Invalid filter: longer than 1024 bytes"
        );
        assert_eq!(
            error(&"type eq x or ".repeat(8)),
            "Invalid filter: unterminated compound clause"
        );
        assert_eq!(
            error(&(("type eq x or ".repeat(8)) + "type eq x")),
            "Invalid filter: more than 8 clauses"
        );
        assert_eq!(error("type gt x"), "Unsupported operation");
        assert_eq!(
            error("size eq x"),
            "Failed to parse value: strconv.ParseInt: parsing \"x\": invalid syntax"
        );
    }

    #[test]
    fn hidden_fields_cannot_be_asked_about() {
        for field in [
            "update_source.server",
            "last_used_at",
            "profiles",
            "aliases.name",
            "Public",
            "properties",
            "nope",
        ] {
            assert!(
                matches!(Filter::parse(&format!("{field} eq x")), Err(FilterError::Field(_))),
                "{field}"
            );
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        // Each of these would fold the case of all Unicode characters many times.
        for hostile in [
            r"\pL",
            r"[\D]",
            r"\p{Any}",
            r"[!-\x{10ffff}]",
            "[!-\u{10ffff}]",
            "(?u)[\\D]",
            "(?x)(?u)[\\W]",
            "(?-i:(?isu:[\\S]))",
            ".",
            "\u{fc}.",
            "[a-z]",
        ] {
            let pattern = hostile.repeat((MAX_LENGTH - 8) / hostile.len());
            let begun = Instant::now();
            let filter = Filter::parse(&format!("type eq {pattern}")).expect("valid filter");
            assert_ne!(filter.matcher().matches(&image()), Ok(true), "{hostile}");
            assert!(
                begun.elapsed() < Duration::from_secs(1),
                "{hostile}: {:?}",
                begun.elapsed()
            );
        }
    }

    #[test]
    fn a_pattern_is_of_any_script_but_a_class_of_ascii() {
        let mut image = image();
        image.properties.insert("os".to_owned(), "Münster".to_owned());
        for (pattern, matches) in [
            ("m.nster", true),
            ("MÜNSTER", true),
            ("(münster|berlin)", true),
            ("(?:münster|berlin)", true),
            (r".*nster\b", true),
            ("m.*[a-z]r", true),
            (r"m\wnster", false),
            ("m[a-zü]nster", false),
        ] {
            let filter = Filter::parse(&format!("properties.os eq {pattern}")).expect("valid filter");
            assert_eq!(filter.matcher().matches(&image), Ok(matches), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_without_a_small_automaton_is_refused_and_cheaply() {
        let texts: Vec<_> = (0..200_u64)
            .map(|n| {
                let mut image = image();
                let digits =
                    [n, n + 1, n + 2, n + 3].map(|n| format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
                image.fingerprint = digits.concat();
                image
            })
            .collect();
        let evaluate = |pattern: &str| {
            let filter = Filter::parse(&format!("fingerprint eq {pattern}")).expect("valid filter");
            let mut matcher = filter.matcher();
            texts.iter().try_for_each(|image| matcher.matches(image).map(drop))
        };
        for hostile in [
            "((a{100}){100}){100}",
            ".*(.?[0-7]?[8-f]?){25}[0-7].{15}0dz",
            ".*[0-7].{40}z",
        ] {
            assert_eq!(evaluate(hostile), Err(TooComplex), "{hostile}");
        }
        let names = (0..25)
            .map(|n| format!("distribution{n}"))
            .collect::<Vec<_>>()
            .join("|");
        for usual in [
            "[0-9a-f]{64}",
            ".*(debian|ubuntu).*cloud.*",
            "b2e6.*",
            r"\d+\.\d+(-.*)?",
            &names,
        ] {
            assert_eq!(evaluate(usual), Ok(()), "{usual}");
        }
    }
}
