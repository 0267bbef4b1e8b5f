//! `[upstream]`, from `proxy_pass`, `proxy_ssl_certificate` and `proxy_ssl_trusted_certificate`.

use crate::certificate_file::resolve;
use crate::classify::{IncusServer, Servers, targets_incus_socket};
use crate::draft::Draft;
use crate::locations::{Http, Route};
use crate::output::is_loopback;
use crate::sourced::Sourced;
use crate::target::{PathMapping, path_mapping};

/// Translates the connection to Incus.
pub(crate) fn translate<'a>(draft: &mut Draft<'_>, http: &Http<'a>, servers: &Servers<'a>) {
    for incus_server in &servers.incus {
        for route in incus_server
            .public
            .iter()
            .filter(|route| targets_incus_socket(route, http))
        {
            draft.report.exposed(
                route.pass,
                "every client here is root on this machine, because Incus treats clients of its unix socket as root, and Nginx requests no certificate. Close this port first",
            );
        }
        for route in incus_server.routes() {
            if let PathMapping::Replaced(prefix) = path_mapping(route) {
                draft.report.unsupported(format!(
                    "{}: `{}` became `{prefix}` on the way to Incus; the gateway uses Incus's own paths, without a prefix. Change the remotes and links that have it",
                    route.pass.position,
                    route.pattern()
                ));
            }
        }
    }
    for problem in &servers.problems {
        draft.report.unsupported(problem.clone());
    }
    match &servers.target {
        Some(target) => {
            draft.config.upstream_url = Some(Sourced::new(target.url.clone(), &target.position));
            for other in &target.others {
                draft.report.unsupported(format!(
                    "{}: the gateway proxies to one Incus, {}, and does not use `{}`",
                    other.position,
                    target.url,
                    other.arguments.join(" ")
                ));
            }
        }
        None if servers.incus.is_empty() => {}
        None => draft
            .report
            .missing("the address of Incus: `upstream.url`; `--incus URL` sets it".to_owned()),
    }
    let routes = || servers.incus.iter().flat_map(IncusServer::routes);
    let with_certificate = routes().find(|route| route.scope.first("proxy_ssl_certificate").is_some());
    if let Some(route) = with_certificate {
        draft.config.client_key_pair =
            draft.key_pair(&route.scope, ["proxy_ssl_certificate", "proxy_ssl_certificate_key"]);
    }
    if draft.config.client_key_pair.is_none() && !servers.incus.is_empty() {
        draft.report.missing(
            "the certificate that the gateway presents to Incus: `upstream.client_certificate` and its key. Create both, `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -noenc -days 3650 -subj /CN=incus-gate -keyout client.key -out client.crt`, and add the certificate to Incus's trust store: `incus config trust add-certificate client.crt`".to_owned(),
        );
    }
    pin(draft, routes().next());
}

/// Chooses the pin. Nginx verifies Incus's certificate against a CA, if at all; the gateway requires the exact certificate.
fn pin(draft: &mut Draft<'_>, route: Option<&Route<'_>>) {
    let Some(route) = route else { return };
    if route.scope.value("proxy_ssl_verify") == Some("on")
        && let Some(trusted) = route.scope.first("proxy_ssl_trusted_certificate")
    {
        let position = &trusted.position;
        match resolve(draft.prefix, trusted).map(|path| (draft.options.certificates.read_one(&path), path)) {
            Ok((Ok(certificate), path)) if certificate.fields.as_ref().is_some_and(|fields| !fields.is_authority) => {
                draft.config.pin = Some(Sourced::new(path, position));
                return;
            }
            Ok((Ok(_), path)) => draft.report.unsupported(format!(
                "{position}: {} is a CA, and the gateway requires Incus's exact certificate instead",
                path.display()
            )),
            Ok((Err(error), _)) => draft.report.unsupported(format!("{position}: {error}")),
            Err(problem) => draft.report.unsupported(problem),
        }
    }
    let is_here = draft
        .config
        .upstream_url
        .as_ref()
        .is_some_and(|url| is_loopback(&url.value));
    // In a cluster, clients see the cluster's certificate.
    let own = ["cluster.crt", "server.crt"]
        .map(|name| draft.options.incus_folder.join(name))
        .into_iter()
        .find(|path| path.exists());
    match own {
        Some(own) if is_here => draft.config.pin = Some(Sourced::new(own, "Incus's own, on this machine")),
        _ if is_here => draft.report.unsupported(format!(
            "Incus's own certificate is not at {}, so any server at that address of this machine is accepted as Incus: set `upstream.server_certificate`",
            draft.options.incus_folder.join("server.crt").display()
        )),
        _ if draft.config.upstream_url.is_some() => draft.report.missing(
            "the certificate of Incus, which is on another machine: copy its server.crt (in a cluster: cluster.crt) here, and name it in `upstream.server_certificate`".to_owned(),
        ),
        _ => {}
    }
}
