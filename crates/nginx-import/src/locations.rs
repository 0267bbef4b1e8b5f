//! The part of Nginx's tree that leads to Incus: servers, and the locations in them that proxy requests.

use crate::condition::Condition;
use crate::directive::Directive;
use crate::listen::Listen;
use crate::scope::Scope;

/// The `http` block, or a file that nginx.conf includes in it.
#[derive(Debug)]
pub(crate) struct Http<'a> {
    pub(crate) directives: &'a [Directive],
    /// The directives of the `http` block of nginx.conf, if that is another file.
    pub(crate) outer: &'a [Directive],
    /// Whether the block itself is present.
    pub(crate) has_http_block: bool,
}

impl<'a> Http<'a> {
    /// Finds the block. `main` is the tree of nginx.conf if `tree` is that of a file it includes.
    pub(crate) fn of(tree: &'a [Directive], main: &'a [Directive]) -> Self {
        let block = |tree: &'a [Directive]| tree.iter().find(|directive| directive.is("http"));
        Self {
            directives: block(tree).map_or(tree, Directive::children),
            outer: block(main).map_or(&[], Directive::children),
            has_http_block: block(tree).is_some(),
        }
    }

    pub(crate) fn servers(&self) -> impl Iterator<Item = Server<'a>> {
        let scope = Scope::of(&[self.directives, self.outer]);
        self.named("server").map(move |server| Server::new(server, &scope))
    }

    pub(crate) fn upstream(&self, name: &str) -> Option<&'a Directive> {
        let all = self.directives.iter().chain(self.outer);
        let mut upstreams = all.filter(|directive| directive.is("upstream"));
        upstreams.find(|upstream| upstream.value() == name)
    }

    pub(crate) fn named(&self, name: &str) -> impl Iterator<Item = &'a Directive> {
        self.directives.iter().filter(move |directive| directive.name == name)
    }
}

#[derive(Debug)]
pub(crate) struct Server<'a> {
    pub(crate) directive: &'a Directive,
    pub(crate) scope: Scope<'a>,
    pub(crate) listens: Vec<Listen<'a>>,
    pub(crate) routes: Vec<Route<'a>>,
}

/// A `proxy_pass`, and the blocks of the server that enclose it, outermost first.
#[derive(Clone, Debug)]
pub(crate) struct Route<'a> {
    pub(crate) pass: &'a Directive,
    pub(crate) blocks: Vec<&'a Directive>,
    pub(crate) scope: Scope<'a>,
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

    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> {
        let names = self.directive.children().iter().filter(|child| child.is("server_name"));
        names.flat_map(|names| &names.arguments).map(String::as_str)
    }

    /// Returns whether Nginx requests a client certificate, and whether it requires one.
    pub(crate) fn verification(&self) -> Verification {
        match self.scope.value("ssl_verify_client") {
            Some("on") => Verification::Required,
            Some("optional" | "optional_no_ca") => Verification::Optional,
            _ => Verification::None,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verification {
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
    pub(crate) fn location(&self) -> Option<&'a Directive> {
        self.blocks.iter().copied().rev().find(|block| block.is("location"))
    }

    /// Returns the location's pattern, as written.
    pub(crate) fn pattern(&self) -> &'a str {
        let location = self.location();
        location
            .and_then(|location| location.arguments.last())
            .map_or("/", String::as_str)
    }

    /// Returns whether it is reached only through other locations of Nginx, which have their own conditions.
    pub(crate) fn is_internal(&self) -> bool {
        self.pattern().starts_with('@') || self.scope.first("internal").is_some()
    }

    /// Returns whether the pattern, literal or regular expression, is one of Incus's own paths.
    pub(crate) fn has_incus_path(&self) -> bool {
        let pattern = self.pattern().replace('\\', "");
        pattern.trim_start_matches(['^', '(']).starts_with("/1.0")
    }

    /// Returns every condition that applies to it: those that enclose it and those before it, except those without an effect.
    pub(crate) fn conditions(&self) -> impl Iterator<Item = Condition<'a>> {
        let outer = self.blocks.iter().copied().filter(|block| block.is("if"));
        let outer = outer.map(Condition::enclosing);
        let before = self.scope.on_all_levels("if").filter(|before| !self.is_inside(before));
        outer.chain(before.filter_map(Condition::preceding))
    }

    /// Returns a `return` that responds in its place to every request.
    pub(crate) fn overriding_return(&self) -> Option<&'a Directive> {
        self.scope.on_all_levels("return").next()
    }

    /// Returns whether the block encloses it.
    pub(crate) fn is_inside(&self, block: &Directive) -> bool {
        self.blocks.iter().any(|outer| std::ptr::eq(*outer, block))
    }
}

/// Returns whether a location ends in a rejection, such as `return 403`.
pub(crate) fn is_rejection(block: &Directive) -> bool {
    let children = block.children();
    let denies = |child: &Directive| child.is("deny") && child.value() == "all";
    children
        .iter()
        .any(|child| child.is("return") && child.value().starts_with('4'))
        || children.iter().any(denies) && !children.iter().any(|child| child.is("allow"))
}
