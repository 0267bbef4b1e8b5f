//! The values that texts are compared with: regular expressions with bounded memory and time.

use regex_automata::Input;
use regex_automata::hybrid::dfa::{Cache, Config, DFA};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::syntax;
use thiserror::Error;

/// Maximum memory of a pattern's NFA, in bytes. It fits about 400 characters of alternatives.
const NFA_SIZE_LIMIT: usize = 1 << 15;
/// Maximum memory of the lazily built DFA states, in bytes: several times what typical patterns need. The states are
/// built once, which takes at most a millisecond for any pattern.
const DFA_SIZE_LIMIT: usize = 1 << 15;

/// A compiled value. Matching ignores case.
#[derive(Debug)]
pub(super) enum Pattern {
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

impl Pattern {
    /// Compiles a value as a regular expression. It must match the whole text unless it contains `^` or `$`. A value
    /// that is not a valid regular expression is compared literally.
    pub(super) fn new(value: &str) -> Result<Self, TooComplex> {
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

    pub(super) fn matches(&mut self, text: &str) -> Result<bool, TooComplex> {
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
