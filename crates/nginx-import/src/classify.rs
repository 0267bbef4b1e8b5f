//! Classification of Nginx's servers: which one is the port for strangers, and which one the port for administrators.

use crate::certificate_conditions::ClientVariables;
use crate::directive::Directive;
use crate::locations::{Http, Route, Server, Verification};
use crate::target::{Target, is_computed, is_incus_socket, socket, target};

/// A server that leads to Incus.
#[derive(Debug)]
pub(crate) struct IncusServer<'a> {
    pub(crate) server: Server<'a>,
    /// Its routes without a client certificate.
    pub(crate) public: Vec<Route<'a>>,
    /// Its routes that require a client certificate.
    pub(crate) admin: Vec<Route<'a>>,
}

impl<'a> IncusServer<'a> {
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Route<'a>> {
        self.public.iter().chain(&self.admin)
    }
}

/// All servers of a configuration.
#[derive(Debug)]
pub(crate) struct Servers<'a> {
    pub(crate) incus: Vec<IncusServer<'a>>,
    /// Servers that do not lead to Incus.
    pub(crate) others: Vec<Server<'a>>,
    /// The address of Incus. If it is `None`, `problems` contains the reason.
    pub(crate) target: Option<Target<'a>>,
    pub(crate) problems: Vec<String>,
}

/// Classifies the servers. `incus_url` is the URL of Incus, if it was given.
pub(crate) fn classify<'a>(http: &Http<'a>, variables: &ClientVariables<'a>, incus_url: Option<&str>) -> Servers<'a> {
    let servers: Vec<_> = http.servers().collect();
    let leads_to = |url: &str| {
        let mut routes = servers.iter().flat_map(|server| &server.routes);
        routes.any(|route| target(route, http).is_ok_and(|target| target.url == url))
    };
    let scorer = Scorer {
        http,
        incus_url,
        assume_computed: incus_url.is_some_and(|url| !leads_to(url)),
    };
    let is_likely = |server: &Server<'a>| server.routes.iter().any(|route| scorer.score(server, route) > 0);
    let (likely, others): (Vec<_>, Vec<_>) = servers.into_iter().partition(is_likely);
    let mut servers = Servers {
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
        let score = scorer.score(server, route);
        Some((score, target(route, http).ok().filter(|_| score > 0)?))
    });
    // The first of equally likely targets wins.
    let best = targets.reduce(|best, other| if other.0 > best.0 { other } else { best });
    let best = best.map(|(_, target)| target);
    let given = incus_url.filter(|_| scorer.assume_computed).map(|url| Target {
        url: url.to_owned(),
        position: "--incus".to_owned(),
        others: Vec::new(),
        upstream: None,
    });
    servers.target = given.or(best);
    for (_, route) in routes() {
        let position = &route.pass.position;
        match (target(route, http), &servers.target) {
            (Ok(target), Some(chosen)) if target.url != chosen.url => servers.problems.push(format!(
                "{position}: this leads to {}, and the gateway proxies to one Incus only, the one at {} ({})",
                target.url, chosen.url, chosen.position
            )),
            (Err(problem), _) if !(scorer.assume_computed && is_computed(route)) => {
                servers.problems.push(format!("{position}: {problem}"));
            }
            _ => {}
        }
    }
    for server in likely {
        // A route to another target is unrelated to Incus. Without a known target, every likely route may lead to Incus.
        let leads_to_incus = |route: &&Route<'a>| match (target(route, http), &servers.target) {
            (Ok(target), Some(chosen)) => target.url == chosen.url,
            (Err(_), Some(_)) => scorer.assume_computed && is_computed(route) || targets_incus_socket(route, http),
            (_, None) => scorer.score(&server, route) > 0,
        };
        let routes: Vec<_> = server.routes.iter().filter(leads_to_incus).cloned().collect();
        if routes.is_empty() {
            servers.others.push(server);
            continue;
        }
        let (admin, public) = routes
            .into_iter()
            .partition(|route| is_for_admins(&server, route, variables));
        servers.incus.push(IncusServer { server, public, admin });
    }
    servers
}

/// Returns whether a route leads to Incus's own Unix socket.
pub(crate) fn targets_incus_socket<'a>(route: &Route<'a>, http: &Http<'a>) -> bool {
    socket(route, http).is_some_and(|socket| is_incus_socket(&socket))
}

struct Scorer<'j, 'a> {
    http: &'j Http<'a>,
    incus_url: Option<&'j str>,
    /// No `proxy_pass` has the given address of Incus, so routes whose target depends on variables are assumed to lead there.
    assume_computed: bool,
}

impl<'a> Scorer<'_, 'a> {
    /// Scores how likely a route leads to Incus: by its address, its paths, and client certificates on either side.
    fn score(&self, server: &Server<'a>, route: &Route<'a>) -> u8 {
        let shows_certificate = route.scope.first("proxy_ssl_certificate").is_some();
        let is_at = |url: &str| target(route, self.http).is_ok_and(|target| target.url == url);
        let is_given = self.incus_url.is_some_and(is_at) || self.assume_computed && is_computed(route);
        16 * u8::from(is_given)
            + 8 * u8::from(targets_incus_socket(route, self.http))
            + 4 * u8::from(route.has_incus_path())
            + 2 * u8::from(shows_certificate)
            + u8::from(server.verification() != Verification::None)
    }
}

fn is_for_admins(server: &Server<'_>, route: &Route<'_>, variables: &ClientVariables<'_>) -> bool {
    match server.verification() {
        Verification::None => false,
        // Any condition of the server may guard the way to an internal location.
        Verification::Optional if route.is_internal() => tests_client_certificate(server, variables),
        Verification::Optional => route
            .conditions()
            .any(|condition| variables.occur_in(condition.directive)),
        Verification::Required => true,
    }
}

/// Returns whether any condition of the server depends on the client's certificate.
pub(crate) fn tests_client_certificate(server: &Server<'_>, variables: &ClientVariables<'_>) -> bool {
    fn any(directives: &[Directive], variables: &ClientVariables<'_>) -> bool {
        directives.iter().any(|directive| {
            directive.is("if") && variables.occur_in(directive) || any(directive.children(), variables)
        })
    }
    any(server.directive.children(), variables)
}
