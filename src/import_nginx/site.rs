//! The part of Nginx's tree that leads to Incus: servers, and the locations in them that proxy requests.

use std::collections::HashSet;

use super::fate::{Fate, fate};
use super::listen::Listen;
use super::target::{Paths, paths};
use super::tree::Directive;

/// The directives in effect at one place: its own, then those of each enclosing block.
#[derive(Clone, Debug)]
pub(super) struct Scope<'a>(Vec<&'a [Directive]>);

impl<'a> Scope<'a> {
    pub(super) fn within(&self, directives: &'a [Directive]) -> Self {
        let mut levels = vec![directives];
        levels.extend(&self.0);
        Self(levels)
    }

    /// Returns the directives of this name on the innermost level that has one: a level replaces the outer ones.
    pub(super) fn all(&self, name: &str) -> Vec<&'a Directive> {
        self.any_of(&[name])
    }

    /// Like [`Self::all`], for directives of one module that replace each other.
    pub(super) fn any_of(&self, names: &[&str]) -> Vec<&'a Directive> {
        let on = |level: &&'a [Directive]| -> Vec<&'a Directive> {
            level
                .iter()
                .filter(|directive| names.contains(&directive.name.as_str()))
                .collect()
        };
        self.0
            .iter()
            .map(on)
            .find(|found| !found.is_empty())
            .unwrap_or_default()
    }

    pub(super) fn one(&self, name: &str) -> Option<&'a Directive> {
        self.all(name).into_iter().next()
    }

    /// Returns the value of a directive with a single argument.
    pub(super) fn value(&self, name: &str) -> Option<&'a str> {
        self.one(name).map(Directive::value)
    }

    /// Returns all directives in effect, without those that a directive of the same name on an inner level replaces.
    pub(super) fn in_force(&self) -> Vec<&'a Directive> {
        let mut found: Vec<&'a Directive> = Vec::new();
        let mut further_in: HashSet<&str> = HashSet::new();
        for level in &self.0 {
            found.extend(level.iter().filter(|outer| !further_in.contains(&*outer.name)));
            further_in.extend(level.iter().map(|directive| &*directive.name));
        }
        found
    }

    /// Returns the directives of this name on all levels, for `if` and others that accumulate.
    pub(super) fn everywhere(&self, name: &str) -> impl Iterator<Item = &'a Directive> {
        self.0
            .iter()
            .copied()
            .flatten()
            .filter(move |directive| directive.name == name)
    }
}

/// The `http` block, or a file that nginx.conf includes in it.
#[derive(Debug)]
pub(super) struct Http<'a> {
    pub(super) directives: &'a [Directive],
    /// The directives of the `http` block of nginx.conf, if that is another file.
    pub(super) around: &'a [Directive],
    /// Whether the block itself is present.
    pub(super) is_whole: bool,
}

impl<'a> Http<'a> {
    /// Finds the block. `main` is the tree of nginx.conf if `tree` is that of a file it includes.
    pub(super) fn of(tree: &'a [Directive], main: &'a [Directive]) -> Self {
        let block = |tree: &'a [Directive]| tree.iter().find(|directive| directive.is("http"));
        Self {
            directives: block(tree).map_or(tree, Directive::children),
            around: block(main).map_or(&[], Directive::children),
            is_whole: block(tree).is_some(),
        }
    }

    pub(super) fn servers(&self) -> impl Iterator<Item = Server<'a>> {
        let scope = Scope(vec![self.directives, self.around]);
        self.named("server").map(move |server| Server::new(server, &scope))
    }

    pub(super) fn upstream(&self, name: &str) -> Option<&'a Directive> {
        let all = self.directives.iter().chain(self.around);
        let mut upstreams = all.filter(|directive| directive.is("upstream"));
        upstreams.find(|upstream| upstream.value() == name)
    }

    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = &'a Directive> {
        self.directives.iter().filter(move |directive| directive.name == name)
    }
}

#[derive(Debug)]
pub(super) struct Server<'a> {
    pub(super) directive: &'a Directive,
    pub(super) scope: Scope<'a>,
    pub(super) listens: Vec<Listen<'a>>,
    pub(super) routes: Vec<Route<'a>>,
}

/// A `proxy_pass`, and the blocks of the server that enclose it, outermost first.
#[derive(Clone, Debug)]
pub(super) struct Route<'a> {
    pub(super) pass: &'a Directive,
    pub(super) blocks: Vec<&'a Directive>,
    pub(super) scope: Scope<'a>,
}

impl<'a> Server<'a> {
    fn new(directive: &'a Directive, http: &Scope<'a>) -> Self {
        let scope = http.within(directive.children());
        let mut routes = Vec::new();
        find_routes(directive.children(), &[], &scope, &mut routes);
        let named = directive.children().iter().filter(|child| child.is("listen"));
        let mut listens: Vec<_> = named.map(Listen::parse).collect();
        if listens.is_empty() {
            listens.push(Listen::default_of(directive));
        }
        // `ssl on`, the syntax before Nginx 1.15.
        if scope.value("ssl") == Some("on") {
            for listen in &mut listens {
                listen.is_tls = !listen.is_quic;
            }
        }
        Self {
            directive,
            scope,
            listens,
            routes,
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        let names = self.directive.children().iter().filter(|child| child.is("server_name"));
        names.flat_map(|names| &names.arguments).map(String::as_str)
    }

    /// Returns whether Nginx requests a client certificate, and whether it requires one.
    pub(super) fn verification(&self) -> Verification {
        match self.scope.value("ssl_verify_client") {
            Some("on") => Verification::Required,
            Some("optional" | "optional_no_ca") => Verification::Optional,
            _ => Verification::None,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verification {
    None,
    Optional,
    Required,
}

fn find_routes<'a>(
    directives: &'a [Directive],
    blocks: &[&'a Directive],
    scope: &Scope<'a>,
    found: &mut Vec<Route<'a>>,
) {
    for directive in directives {
        if directive.is("proxy_pass") {
            found.push(Route {
                pass: directive,
                blocks: blocks.to_vec(),
                scope: scope.clone(),
            });
        } else if ["location", "if", "limit_except"].contains(&directive.name.as_str()) {
            let blocks = [blocks, &[directive]].concat();
            find_routes(
                directive.children(),
                &blocks,
                &scope.within(directive.children()),
                found,
            );
        }
    }
}

impl<'a> Route<'a> {
    /// Returns the innermost location that encloses it.
    pub(super) fn location(&self) -> Option<&'a Directive> {
        self.blocks.iter().copied().rev().find(|block| block.is("location"))
    }

    /// Returns the location's pattern, as written.
    pub(super) fn pattern(&self) -> &'a str {
        let location = self.location();
        location
            .and_then(|location| location.arguments.last())
            .map_or("/", String::as_str)
    }

    /// Returns whether it takes every request that no other location takes, or maps its own prefix to all of Incus.
    pub(super) fn takes_all(&self) -> bool {
        let is_any = matches!(self.pattern(), "/" | "^/" | "^" | ".*" | "^/.*" | "^/.*$" | "^/(.*)$");
        let is_exact = self.blocks.iter().any(|block| block.value() == "=");
        let leads_to_all = match paths(self) {
            Paths::Moved(prefix) => prefix == "/",
            Paths::Same | Paths::Computed => is_any,
        };
        leads_to_all && !is_exact
    }

    /// Returns whether it is reached only through other locations of Nginx, which have their own conditions.
    pub(super) fn is_internal(&self) -> bool {
        self.pattern().starts_with('@') || self.scope.one("internal").is_some()
    }

    /// Returns whether the pattern, literal or regular expression, is one of Incus's own paths.
    pub(super) fn is_of_incus(&self) -> bool {
        let pattern = self.pattern().replace('\\', "");
        pattern.trim_start_matches(['^', '(']).starts_with("/1.0")
    }

    /// Returns every condition that applies to it: those that enclose it and those before it, except those without an effect.
    pub(super) fn conditions(&self) -> impl Iterator<Item = Condition<'a>> {
        let around = self.blocks.iter().copied().filter(|block| block.is("if"));
        let around = around.map(|directive| Condition {
            directive,
            effect: Effect::LetsThrough,
        });
        let before = self.scope.everywhere("if").filter(|before| !self.is_in(before));
        around.chain(before.filter_map(|directive| {
            let effect = effect(directive)?;
            Some(Condition { directive, effect })
        }))
    }

    /// Returns a `return` that responds in its place to every request.
    pub(super) fn overruled_by(&self) -> Option<&'a Directive> {
        self.scope.everywhere("return").next()
    }

    /// Returns whether the block encloses it.
    pub(super) fn is_in(&self, block: &Directive) -> bool {
        self.blocks.iter().any(|around| std::ptr::eq(*around, block))
    }
}

/// An `if`, and its effect on requests for which it is true.
#[derive(Clone, Copy, Debug)]
pub(super) struct Condition<'a> {
    pub(super) directive: &'a Directive,
    pub(super) effect: Effect,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Effect {
    LetsThrough,
    /// The response does not come from Incus.
    Refuses,
    /// It sets a variable, redirects internally, or skips the directives after it.
    Unclear,
}

/// Returns the effect; `None` if the condition does not influence which requests reach Incus.
fn effect(condition: &Directive) -> Option<Effect> {
    let is_refusal = |child: &&Directive| match child.name.as_str() {
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
        .filter(|child| matches!(fate(child), Fate::Read | Fate::Unknown));
    match (rest.next(), rest.next()) {
        (None, _) => None,
        // A response to a CORS preflight request.
        (Some(only), None) if only.is("return") && only.value() == "204" && is_of_options(condition) => None,
        (Some(only), None) if is_refusal(&only) => Some(Effect::Refuses),
        _ => Some(Effect::Unclear),
    }
}

fn is_of_options(condition: &Directive) -> bool {
    let text = condition.arguments.join(" ");
    let text = text.trim_matches(['(', ')', ' ']);
    text.split_whitespace().eq(["$request_method", "=", "OPTIONS"])
}

/// Returns whether a location ends in a rejection, such as `return 403`.
pub(super) fn is_refusal(block: &Directive) -> bool {
    let children = block.children();
    let denies = |child: &Directive| child.is("deny") && child.value() == "all";
    children
        .iter()
        .any(|child| child.is("return") && child.value().starts_with('4'))
        || children.iter().any(denies) && !children.iter().any(|child| child.is("allow"))
}
