//! `[[admin.clients]]`, from `ssl_client_certificate` and the conditions on client certificates.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use crate::certificate_conditions::ClientVariables;
use crate::certificate_file::resolve;
use crate::classify::{IncusServer, Servers};
use crate::client_list::{self, ClientList};
use crate::directive::Directive;
use crate::draft::Draft;

/// Translates the clients that Nginx admitted.
pub(crate) fn translate(draft: &mut Draft<'_>, servers: &Servers<'_>, variables: &ClientVariables<'_>) {
    draft.config.is_client_list_exact = true;
    let admin: Vec<_> = servers
        .incus
        .iter()
        .filter(|incus_server| !incus_server.admin.is_empty())
        .collect();
    let mut files = HashSet::new();
    report_separate_addresses(draft, &admin, variables);
    for incus_server in admin {
        let scope = &incus_server.server.scope;
        let requirements = variables.requirements(&incus_server.admin);
        let trusted = scope
            .first("ssl_trusted_certificate")
            .filter(|_| scope.value("ssl_stapling") != Some("on"));
        let named = scope.first("ssl_client_certificate");
        if let (Some(_), Some(trusted)) = (named, trusted) {
            draft.report.unsupported(format!(
                "{}: clients with a certificate of these authorities were admitted too; list their own certificates",
                trusted.position
            ));
        }
        let Some(directive) = named.or(trusted) else {
            draft.report.missing(format!(
                "{}: the admins' certificates: there is no `ssl_client_certificate`; list them in [[admin.clients]]",
                incus_server.server.directive.position
            ));
            continue;
        };
        let path = match resolve(draft.prefix, directive) {
            Ok(path) => path,
            Err(problem) => {
                draft.report.missing(problem);
                continue;
            }
        };
        for name in ["ssl_crl", "ssl_ocsp"] {
            if let Some(revocation) = scope.first(name).filter(|directive| directive.value() != "off") {
                comment_out_clients(
                    draft,
                    format!(
                        "{}: the gateway does not check whether a certificate is revoked, as `{name}` did",
                        revocation.position
                    ),
                );
            }
        }
        for route in incus_server.admin.iter().filter(|route| route.is_internal()) {
            comment_out_clients(
                draft,
                format!(
                    "{}: other locations of Nginx decided which requests reached `{}`",
                    route.pass.position,
                    route.pattern()
                ),
            );
        }
        for condition in &requirements.unsupported {
            comment_out_clients(
                draft,
                format!(
                    "{}: the condition `{}` on certificates cannot be evaluated here",
                    condition.position,
                    condition.arguments.join(" ")
                ),
            );
        }
        if !files.insert(path.clone()) && requirements.fingerprints.is_empty() {
            continue;
        }
        let list = client_list::read(
            &path,
            &directive.position,
            draft.options.certificates,
            &requirements,
            &mut draft.report,
        );
        add_clients(draft, list, directive, &path);
    }
}

/// Reports administrators who could connect to some addresses only: the gateway's single admin port listens on all of them.
fn report_separate_addresses(draft: &mut Draft<'_>, admin: &[&IncusServer<'_>], variables: &ClientVariables<'_>) {
    let addresses = |incus_server: &IncusServer<'_>| -> BTreeSet<_> {
        let listens = incus_server.server.listens.iter().filter(|listen| listen.is_tls);
        listens.filter_map(|listen| listen.address).collect()
    };
    let admins = |incus_server: &IncusServer<'_>| {
        let authorities = [
            "ssl_client_certificate",
            "ssl_trusted_certificate",
            "ssl_crl",
            "ssl_ocsp",
        ];
        let authorities = authorities.map(|name| incus_server.server.scope.value(name).map(ToOwned::to_owned));
        let requirements = variables.requirements(&incus_server.admin);
        (
            authorities,
            requirements.fingerprints.into_iter().collect::<BTreeSet<_>>(),
        )
    };
    let Some((first, others)) = admin.split_first() else {
        return;
    };
    // If neither the administrators nor the addresses are the same for all servers, some two servers differ in both.
    let has_other_admins = others.iter().any(|other| admins(other) != admins(first));
    let elsewhere = others.iter().find(|other| addresses(other) != addresses(first));
    if let Some(other) = elsewhere.filter(|_| has_other_admins) {
        comment_out_clients(
            draft,
            format!(
                "{}: these admins used other addresses than those of {}, and the gateway has one admin port for all",
                other.server.directive.position, first.server.directive.position
            ),
        );
    }
}

fn add_clients(draft: &mut Draft<'_>, list: ClientList, directive: &Directive, path: &Path) {
    if !list.is_exact {
        draft.config.is_client_list_exact = false;
    }
    if list.clients.iter().any(|client| client.fingerprint.is_none()) {
        draft.report.missing(format!(
            "{}: Nginx identifies admins by the SHA-1 of certificates that are not in {}; ask the admins for these certificates (~/.config/incus/client.crt)",
            directive.position,
            path.display()
        ));
    }
    if list.have_authority {
        draft.report.unsupported(format!(
            "{}: a certificate here can sign others, and Nginx admitted every client with a certificate signed by it; the gateway admits only clients that present a listed certificate. List the certificates of admins who use another one",
            directive.position
        ));
    }
    let reader = draft.options.certificates;
    let own = draft
        .config
        .client_key_pair
        .as_ref()
        .and_then(|key_pair| reader.read_one(&key_pair.certificate.value).ok());
    if own.is_some_and(|own| list.fingerprints.contains(&own.sha256)) {
        draft.report.improvement(format!(
            "{}: the certificate that the gateway presents to Incus is an admin's too, so several people have its key. Now each admin can have a separate one: create it with `incus remote generate-certificate`, and list it in a table [[admin.clients]]",
            directive.position
        ));
    }
    for client in list.clients {
        let is_known = draft
            .config
            .clients
            .iter()
            .any(|known| known.fingerprint == client.fingerprint);
        if !is_known || client.fingerprint.is_none() {
            draft.config.clients.push(client);
        }
    }
}

/// Reports that the clients are not known exactly, for which reason they are written as comments.
fn comment_out_clients(draft: &mut Draft<'_>, problem: String) {
    draft.config.is_client_list_exact = false;
    draft.report.unenforced(format!(
        "{problem}: the tables [[admin.clients]] are commented out. Uncomment those that you want"
    ));
}
