//! Which of Nginx's servers is the port for strangers, and which the one for admins.

use super::conditions::ClientVariables;
use super::site::{Http, Route, Server, Verification};
use super::target::{Target, target};

/// A server that leads to Incus.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) server: Server<'a>,
    /// Its routes for everybody.
    pub(super) public: Vec<Route<'a>>,
    /// Its routes for who has shown a certificate.
    pub(super) admin: Vec<Route<'a>>,
}

/// All servers of a file.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) incus: Vec<Part<'a>>,
    /// Not Incus's.
    pub(super) others: Vec<Server<'a>>,
    /// Where Incus is; else why that cannot be told.
    pub(super) target: Option<Target<'a>>,
    pub(super) problems: Vec<String>,
}

pub(super) fn parts<'a>(http: &Http<'a>, variables: &ClientVariables<'a>) -> Parts<'a> {
    let (mut likely, others): (Vec<_>, Vec<_>) = http.servers().partition(may_lead_to_incus);
    let mut parts = Parts {
        incus: Vec::new(),
        others,
        target: None,
        problems: Vec::new(),
    };
    let routes = || likely.iter().flat_map(|server| &server.routes);
    let targets = routes().filter_map(|route| Some((likelihood(route), target(route, http).ok()?)));
    // The first of those that are as likely.
    let best = targets.reduce(|best, other| if other.0 > best.0 { other } else { best });
    parts.target = best.map(|(_, target)| target);
    for route in routes() {
        let place = &route.pass.place;
        match (target(route, http), &parts.target) {
            (Ok(target), Some(chosen)) if target.url != chosen.url => parts.problems.push(format!(
                "{place}: this goes to {}, and the gateway stands in front of one Incus only, the one at {} ({})",
                target.url, chosen.url, chosen.place
            )),
            (Ok(_), _) => {}
            (Err(problem), _) => parts.problems.push(format!("{place}: {problem}")),
        }
    }
    for server in &mut likely {
        // What leads elsewhere tells nothing of Incus. Where nothing leads to it, all may have been meant to.
        server.routes.retain(|route| match &parts.target {
            Some(chosen) => target(route, http).is_ok_and(|target| target.url == chosen.url),
            None => true,
        });
    }
    for server in likely {
        if server.routes.is_empty() {
            parts.others.push(server);
            continue;
        }
        let routes = server.routes.iter().cloned();
        let (admin, public) = routes.partition(|route| is_for_admins(&server, route, variables));
        parts.incus.push(Part { server, public, admin });
    }
    parts
}

/// Whether it has Incus's paths, shows a certificate to what is behind it, or asks for one.
fn may_lead_to_incus(server: &Server<'_>) -> bool {
    server.routes.iter().any(|route| likelihood(route) > 0)
        || (server.verification() != Verification::None && !server.routes.is_empty())
}

fn likelihood(route: &Route<'_>) -> u8 {
    let shows_certificate = route.scope.one("proxy_ssl_certificate").is_some();
    2 * u8::from(route.is_of_incus()) + u8::from(shows_certificate)
}

fn is_for_admins(server: &Server<'_>, route: &Route<'_>, variables: &ClientVariables<'_>) -> bool {
    match server.verification() {
        Verification::None => false,
        Verification::Optional => route
            .conditions()
            .any(|condition| variables.are_in(condition.directive)),
        Verification::Required => true,
    }
}
