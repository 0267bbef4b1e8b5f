//! Conditions of `if` on the way to a `proxy_pass`.

use crate::directive::Directive;
use crate::directive_support::{Support, support};

/// An `if`, and its effect on requests for which it is true.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Condition<'a> {
    pub(crate) directive: &'a Directive,
    pub(crate) effect: Effect,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Effect {
    Admits,
    /// The response does not come from Incus.
    Rejects,
    /// It sets a variable, redirects internally, or skips the directives after it.
    Unclear,
}

impl<'a> Condition<'a> {
    /// Returns the condition of an `if` that encloses a `proxy_pass`.
    pub(crate) fn enclosing(directive: &'a Directive) -> Self {
        let effect = Effect::Admits;
        Self { directive, effect }
    }

    /// Returns the condition of an `if` before a `proxy_pass`; `None` if it does not influence which requests reach Incus.
    pub(crate) fn preceding(directive: &'a Directive) -> Option<Self> {
        let effect = effect(directive)?;
        Some(Self { directive, effect })
    }
}

fn effect(condition: &Directive) -> Option<Effect> {
    let is_rejection = |child: &&Directive| match child.name.as_str() {
        "return" => true,
        "deny" => child.value() == "all",
        // A redirect, after which the client sends another request.
        "rewrite" => child
            .arguments
            .iter()
            .skip(1)
            .any(|word| word.contains("://") || word == "redirect" || word == "permanent"),
        _ => false,
    };
    let mut rest = condition
        .children()
        .iter()
        .filter(|child| matches!(support(child), Support::Interpreted | Support::Unknown));
    match (rest.next(), rest.next()) {
        (None, _) => None,
        // A response to a CORS preflight request.
        (Some(only), None) if only.is("return") && only.value() == "204" && tests_for_options(condition) => None,
        (Some(only), None) if is_rejection(&only) => Some(Effect::Rejects),
        _ => Some(Effect::Unclear),
    }
}

fn tests_for_options(condition: &Directive) -> bool {
    let text = condition.arguments.join(" ");
    let text = text.trim_matches(['(', ')', ' ']);
    text.split_whitespace().eq(["$request_method", "=", "OPTIONS"])
}
