//! Classification of Nginx's servers: which one is the port for strangers, and which one the port for administrators.

use super::conditions::ClientVariables;
use super::site::{Http, Route, Server, Verification};
use super::target::{Target, is_computed, is_of_incus, socket, target};
use super::tree::Directive;

/// A server that leads to Incus.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) server: Server<'a>,
    /// Its routes without a client certificate.
    pub(super) public: Vec<Route<'a>>,
    /// Its routes that require a client certificate.
    pub(super) admin: Vec<Route<'a>>,
}

impl<'a> Part<'a> {
    pub(super) fn routes(&self) -> impl Iterator<Item = &Route<'a>> {
        self.public.iter().chain(&self.admin)
    }
}

/// All servers of a configuration.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) incus: Vec<Part<'a>>,
    /// Servers that do not lead to Incus.
    pub(super) others: Vec<Server<'a>>,
    /// The address of Incus. If it is `None`, `problems` contains the reason.
    pub(super) target: Option<Target<'a>>,
    pub(super) problems: Vec<String>,
}

/// Classifies the servers. `incus` is the URL of Incus, if it was given.
pub(super) fn parts<'a>(http: &Http<'a>, variables: &ClientVariables<'a>, incus: Option<&str>) -> Parts<'a> {
    let servers: Vec<_> = http.servers().collect();
    let leads_to = |url: &str| {
        let mut routes = servers.iter().flat_map(|server| &server.routes);
        routes.any(|route| target(route, http).is_ok_and(|target| target.url == url))
    };
    let judge = Judge {
        http,
        incus,
        takes_computed: incus.is_some_and(|url| !leads_to(url)),
    };
    let is_likely = |server: &Server<'a>| server.routes.iter().any(|route| judge.likelihood(server, route) > 0);
    let (likely, others): (Vec<_>, Vec<_>) = servers.into_iter().partition(is_likely);
    let mut parts = Parts {
        incus: Vec::new(),
        others,
        target: None,
        problems: Vec::new(),
    };
    let routes = || {
        likely
            .iter()
            .flat_map(|server| server.routes.iter().map(move |route| (server, route)))
    };
    let targets = routes().filter_map(|(server, route)| {
        let likelihood = judge.likelihood(server, route);
        Some((likelihood, target(route, http).ok().filter(|_| likelihood > 0)?))
    });
    // The first of equally likely targets wins.
    let best = targets.reduce(|best, other| if other.0 > best.0 { other } else { best });
    let best = best.map(|(_, target)| target);
    let told = incus.filter(|_| judge.takes_computed).map(|url| Target {
        url: url.to_owned(),
        place: "--incus".to_owned(),
        others: Vec::new(),
        upstream: None,
    });
    parts.target = told.or(best);
    for (_, route) in routes() {
        let place = &route.pass.place;
        match (target(route, http), &parts.target) {
            (Ok(target), Some(chosen)) if target.url != chosen.url => parts.problems.push(format!(
                "{place}: this goes to {}, and the gateway stands in front of one Incus only, the one at {} ({})",
                target.url, chosen.url, chosen.place
            )),
            (Err(problem), _) if !(judge.takes_computed && is_computed(route)) => {
                parts.problems.push(format!("{place}: {problem}"));
            }
            _ => {}
        }
    }
    for server in likely {
        // A route to another target is unrelated to Incus. Without a known target, every likely route may lead to Incus.
        let leads_to_incus = |route: &&Route<'a>| match (target(route, http), &parts.target) {
            (Ok(target), Some(chosen)) => target.url == chosen.url,
            (Err(_), Some(_)) => judge.takes_computed && is_computed(route) || is_socket_of_incus(route, http),
            (_, None) => judge.likelihood(&server, route) > 0,
        };
        let routes: Vec<_> = server.routes.iter().filter(leads_to_incus).cloned().collect();
        if routes.is_empty() {
            parts.others.push(server);
            continue;
        }
        let (admin, public) = routes
            .into_iter()
            .partition(|route| is_for_admins(&server, route, variables));
        parts.incus.push(Part { server, public, admin });
    }
    parts
}

pub(super) fn is_socket_of_incus<'a>(route: &Route<'a>, http: &Http<'a>) -> bool {
    socket(route, http).is_some_and(|socket| is_of_incus(&socket))
}

struct Judge<'j, 'a> {
    http: &'j Http<'a>,
    incus: Option<&'j str>,
    /// No `proxy_pass` has the given address of Incus, so routes whose target depends on variables are assumed to lead there.
    takes_computed: bool,
}

impl<'a> Judge<'_, 'a> {
    /// Scores how likely a route leads to Incus: by its address, its paths, and client certificates on either side.
    fn likelihood(&self, server: &Server<'a>, route: &Route<'a>) -> u8 {
        let shows_certificate = route.scope.one("proxy_ssl_certificate").is_some();
        let is_at = |incus: &str| target(route, self.http).is_ok_and(|target| target.url == incus);
        let is_told = self.incus.is_some_and(is_at) || self.takes_computed && is_computed(route);
        16 * u8::from(is_told)
            + 8 * u8::from(is_socket_of_incus(route, self.http))
            + 4 * u8::from(route.is_of_incus())
            + 2 * u8::from(shows_certificate)
            + u8::from(server.verification() != Verification::None)
    }
}

fn is_for_admins(server: &Server<'_>, route: &Route<'_>, variables: &ClientVariables<'_>) -> bool {
    match server.verification() {
        Verification::None => false,
        // Any condition of the server may guard the way to an internal location.
        Verification::Optional if route.is_internal() => asks_for_certificate(server, variables),
        Verification::Optional => route
            .conditions()
            .any(|condition| variables.are_in(condition.directive)),
        Verification::Required => true,
    }
}

/// Returns whether any condition of the server depends on the client's certificate.
pub(super) fn asks_for_certificate(server: &Server<'_>, variables: &ClientVariables<'_>) -> bool {
    fn any(directives: &[Directive], variables: &ClientVariables<'_>) -> bool {
        directives
            .iter()
            .any(|directive| directive.is("if") && variables.are_in(directive) || any(directive.children(), variables))
    }
    any(server.directive.children(), variables)
}
