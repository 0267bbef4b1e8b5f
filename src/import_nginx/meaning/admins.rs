//! `[[admin.clients]]`, from `ssl_client_certificate` and the conditions on client certificates.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use edge::tls::{certificate, read_certificate};

use super::super::clients::{self, Listed, absolute};
use super::super::conditions::ClientVariables;
use super::super::roles::{Part, Parts};
use super::super::tree::Directive;
use super::Translation;

impl Translation<'_> {
    pub(super) fn clients(&mut self, parts: &Parts<'_>, variables: &ClientVariables<'_>) {
        self.proxy.are_clients_certain = true;
        let admin: Vec<_> = parts.incus.iter().filter(|part| !part.admin.is_empty()).collect();
        let mut files = HashSet::new();
        self.apart(&admin, variables);
        for part in admin {
            let scope = &part.server.scope;
            let demands = variables.demands(&part.admin);
            let trusted = scope
                .one("ssl_trusted_certificate")
                .filter(|_| scope.value("ssl_stapling") != Some("on"));
            let named = scope.one("ssl_client_certificate");
            if let (Some(_), Some(trusted)) = (named, trusted) {
                self.report.lost(format!(
                    "{}: whom these authorities have signed was let in too; list those by their own certificates",
                    trusted.place
                ));
            }
            let Some(directive) = named.or(trusted) else {
                self.report.missing(format!(
                    "{}: who the admins are: there is no `ssl_client_certificate`; list them in [[admin.clients]]",
                    part.server.directive.place
                ));
                continue;
            };
            let path = match absolute(&self.machine.prefix, directive) {
                Ok(path) => path,
                Err(problem) => {
                    self.report.missing(problem);
                    continue;
                }
            };
            for name in ["ssl_crl", "ssl_ocsp"] {
                if let Some(revocation) = scope.one(name).filter(|directive| directive.value() != "off") {
                    self.uncertain(format!(
                        "{}: the gateway does not ask whether a certificate was revoked, as `{name}` did",
                        revocation.place
                    ));
                }
            }
            for route in part.admin.iter().filter(|route| route.is_internal()) {
                self.uncertain(format!(
                    "{}: whose requests got to `{}` was decided elsewhere in Nginx",
                    route.pass.place,
                    route.pattern()
                ));
            }
            for condition in &demands.other {
                self.uncertain(format!(
                    "{}: the condition `{}` on certificates cannot be held against them here",
                    condition.place,
                    condition.arguments.join(" ")
                ));
            }
            if !files.insert(path.clone()) && demands.fingerprints.is_empty() {
                continue;
            }
            let listed = clients::list(&path, &directive.place, &demands, &mut self.report);
            self.admit(listed, directive, &path);
        }
    }

    /// Reports administrators who could connect to some addresses only: the gateway's single admin port listens on all of them.
    fn apart(&mut self, admin: &[&Part<'_>], variables: &ClientVariables<'_>) {
        let addresses = |part: &Part<'_>| -> BTreeSet<_> {
            let listens = part.server.listens.iter().filter(|listen| listen.is_tls);
            listens.filter_map(|listen| listen.address).collect()
        };
        let admins = |part: &Part<'_>| {
            let authorities = [
                "ssl_client_certificate",
                "ssl_trusted_certificate",
                "ssl_crl",
                "ssl_ocsp",
            ];
            let authorities = authorities.map(|name| part.server.scope.value(name).map(ToOwned::to_owned));
            let demands = variables.demands(&part.admin);
            (authorities, demands.fingerprints.into_iter().collect::<BTreeSet<_>>())
        };
        let Some((first, others)) = admin.split_first() else {
            return;
        };
        // If neither the administrators nor the addresses are the same for all parts, some two parts differ in both.
        let has_other_admins = others.iter().any(|other| admins(other) != admins(first));
        let elsewhere = others.iter().find(|other| addresses(other) != addresses(first));
        if let Some(other) = elsewhere.filter(|_| has_other_admins) {
            self.uncertain(format!(
                "{}: these admins came to other addresses than those of {}, and the gateway has one admin port for all",
                other.server.directive.place, first.server.directive.place
            ));
        }
    }

    fn admit(&mut self, listed: Listed, directive: &Directive, path: &Path) {
        if !listed.is_certain {
            self.proxy.are_clients_certain = false;
        }
        if listed.clients.iter().any(|client| client.fingerprint.is_none()) {
            self.report.missing(format!(
                "{}: Nginx knows admins by the SHA-1 of certificates that are not in {}; ask them for those (they are in their ~/.config/incus/client.crt)",
                directive.place,
                path.display()
            ));
        }
        if listed.have_authority {
            self.report.lost(format!(
                "{}: a certificate here can sign others, and Nginx let in whomever it had signed; the gateway lets in who shows a listed certificate itself. List those of admins who come with another one",
                directive.place
            ));
        }
        let own = self
            .proxy
            .identity
            .as_ref()
            .and_then(|pair| read_certificate(&pair.certificate.value).ok());
        let own = own.map(|own| certificate::Fingerprint::of(&own).to_string());
        if own.is_some_and(|own| listed.fingerprints.contains(&own)) {
            self.report.better(format!(
                "{}: the gateway's own certificate for Incus is an admin's too, so its key is in several hands. Now each admin can have their own: `incus remote generate-certificate` makes it, and a table [[admin.clients]] lets it in",
                directive.place
            ));
        }
        for client in listed.clients {
            let is_known = self
                .proxy
                .clients
                .iter()
                .any(|known| known.fingerprint == client.fingerprint);
            if !is_known || client.fingerprint.is_none() {
                self.proxy.clients.push(client);
            }
        }
    }

    fn uncertain(&mut self, problem: String) {
        self.proxy.are_clients_certain = false;
        self.report.unguarded(format!(
            "{problem}: the tables [[admin.clients]] are commented out. Leave in those whom you mean"
        ));
    }
}
