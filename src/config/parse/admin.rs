//! The `[admin]` table and its clients.

use std::collections::HashSet;

use edge::tls::certificate::Fingerprint;
use edge::tls::read_chain_of_one;

use super::loader::Loader;
use crate::config::error::ConfigError;
use crate::config::model::{AdminClient, AdminConfig, CredentialMatcher, is_admin_name};
use crate::config::schema::{AdminTable, ClientTable, TlsTable};

impl Loader<'_> {
    pub(super) fn admin(&self, table: AdminTable, shared: Option<&TlsTable>) -> Result<AdminConfig, ConfigError> {
        let mut names = HashSet::new();
        let mut fingerprints = HashSet::new();
        let mut clients = Vec::new();
        for (index, client) in table.clients.into_iter().enumerate() {
            let key = format!("admin.clients[{index}]");
            let name = client.name.clone();
            let client = self.client(&key, client)?;
            if !names.insert(client.name.clone()) {
                let problem = format!(
                    "another administrator already has the name `{}`; give each administrator a unique name",
                    client.name
                );
                return Err(self.source.wrong(&format!("{key}.name"), name.span(), problem));
            }
            if !fingerprints.insert(client.known_by.fingerprint()) {
                let problem =
                    "another administrator already has this certificate; give each administrator a unique certificate"
                        .to_owned();
                return Err(self.source.wrong(&key, name.span(), problem));
            }
            clients.push(client);
        }
        Ok(AdminConfig {
            listen: self.listen("admin.listen", &table.listen)?,
            access: self.access("admin", &table.allow, &table.deny)?,
            proxies: self.networks("admin.proxy_protocol_from", &table.proxy_protocol_from)?,
            tls: self.identity("admin.tls", table.tls.as_ref(), shared)?,
            clients,
        })
    }

    fn client(&self, key: &str, table: ClientTable) -> Result<AdminClient, ConfigError> {
        let name = table.name.get_ref();
        if !is_admin_name(name) {
            let problem = format!("{name:?} is not a valid name; use 1 to 64 of the characters a-z A-Z 0-9 - _ . @ +");
            return Err(self.source.wrong(&format!("{key}.name"), table.name.span(), problem));
        }
        let mut others_in_file = 0;
        let known_by = match (table.certificate, table.fingerprint) {
            (Some(path), None) => {
                let chain = read_chain_of_one(&self.source.resolve(path.get_ref()))
                    .map_err(|error| self.source.wrong(&format!("{key}.certificate"), path.span(), error.to_string()))?;
                others_in_file = chain.len() - 1;
                CredentialMatcher::Certificate(chain[0].clone())
            }
            (None, Some(text)) => CredentialMatcher::Fingerprint(Fingerprint::parse(text.get_ref()).ok_or_else(|| {
                let problem = "not a SHA-256 fingerprint; write 64 hexadecimal digits, as in `incus config trust list --format json`";
                self.source.wrong(&format!("{key}.fingerprint"), text.span(), problem.to_owned())
            })?),
            _ => {
                let problem = "needs exactly one of `certificate` and `fingerprint`; add or remove one".to_owned();
                return Err(self.source.wrong(key, table.name.span(), problem));
            }
        };
        Ok(AdminClient {
            name: table.name.into_inner().into(),
            known_by,
            others_in_file,
        })
    }
}
