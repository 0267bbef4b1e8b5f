//! Which of Nginx's servers is the port for strangers, and which the one for admins.

use super::clients::ClientVariables;
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
    let mut parts = Parts {
        incus: Vec::new(),
        others: Vec::new(),
        target: None,
        problems: Vec::new(),
    };
    for server in http.servers() {
        let routes = || server.routes.iter();
        // Nothing else has a certificate to show behind it, or asks for one, or has these paths.
        let is_likely = routes().any(|route| route.is_of_incus() || route.scope.one("proxy_ssl_certificate").is_some())
            || (server.verification() != Verification::None && !server.routes.is_empty());
        if !is_likely {
            parts.others.push(server);
            continue;
        }
        let (admin, public) = routes()
            .cloned()
            .partition(|route| is_for_admins(&server, route, variables));
        parts.incus.push(Part { server, public, admin });
    }
    for route in parts.incus.iter().flat_map(|part| &part.server.routes) {
        let place = &route.pass.place;
        match (target(route, http), &parts.target) {
            (Ok(target), None) => parts.target = Some(target),
            (Ok(target), Some(first)) if target.url != first.url => parts.problems.push(format!(
                "{place}: this goes to {}, and the gateway stands in front of one Incus only, the one at {} ({})",
                target.url, first.url, first.place
            )),
            (Ok(_), Some(_)) => {}
            (Err(problem), _) => parts.problems.push(format!("{place}: {problem}")),
        }
    }
    parts
}

fn is_for_admins(server: &Server<'_>, route: &Route<'_>, variables: &ClientVariables<'_>) -> bool {
    match server.verification() {
        Verification::None => false,
        Verification::Optional => route.conditions().any(|condition| variables.are_in(condition)),
        Verification::Required => true,
    }
}
