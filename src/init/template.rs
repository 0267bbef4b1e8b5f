//! The text of a new `proxy.toml`.

use std::path::Path;

use toml::Value;

use super::keypair::Pair;
use super::options::Options;
use super::reach::Reached;
use super::server_cert::Site;
use crate::config::DEFAULT_PATHS;

/// Returns the complete file.
pub(super) fn configuration(options: &Options, incus: &Reached, site: &Site, admins: &[String]) -> String {
    let folder = options.config.parent().unwrap_or_else(|| Path::new(""));
    let path = |path: &Path| quoted(path.strip_prefix(folder).unwrap_or(path).to_string_lossy());
    let client = Pair::at(&folder.join("certs"), "incus-client");
    let pin = match &incus.pin {
        Some(file) => format!("server_certificate = {}   # the certificate that Incus must present", path(file)),
        None => "# server_certificate = \"/var/lib/incus/server.crt\"   # a copy of Incus's certificate: without it, Incus is not authenticated".to_owned(),
    };
    let store = match options.config == Path::new(DEFAULT_PATHS[1]) {
        true => "# directory = \"/var/cache/incus-gate\"   # the systemd unit creates it",
        false => "directory = \"store\"",
    };
    let mut text = format!(
        "# Configuration of incus-gate. proxy.toml.example and docs/REFERENCE.md document every key; keys that are not set have\n\
         # their defaults. `incus-gate check` verifies the configuration; a running gateway reads the file again on SIGHUP.\n\
         \n\
         [tls]                         # the server certificate of both ports\n\
         certificate = {}\n\
         private_key = {}\n\
         \n\
         [upstream]                    # the Incus behind the gateway\n\
         url = {}\n\
         client_certificate = {}\n\
         client_private_key = {}\n\
         {pin}\n\
         \n\
         [public]                      # the port for anyone, with the published images\n\
         listen = {}\n\
         simplestreams = true          # also for simplestreams clients, such as LXD's\n\
         \n\
         [store]                       # the files of the published images on disk; Incus is asked for each of them once\n\
         {store}\n\
         \n\
         [admin]                       # the port for clients with one of these certificates\n\
         listen = {}\n",
        path(&site.certificate),
        path(&site.private_key),
        quoted(&incus.url),
        path(&client.certificate),
        path(&client.key),
        quoted(options.public.to_string()),
        quoted(options.admin.to_string()),
    );
    let certs = folder.join("certs");
    for name in admins {
        text += &admin(name, &Pair::at(&certs, name), &options.config);
    }
    if admins.is_empty() {
        text += "\n# [[admin.clients]]             # one table for each administrator; without any, the port rejects every client\n\
                 # name = \"ops\"\n\
                 # certificate = \"certs/ops.crt\"\n";
    }
    text
}

/// Returns the lines that add an administrator.
pub(super) fn admin(name: &str, pair: &Pair, config: &Path) -> String {
    let folder = config.parent().unwrap_or_else(|| Path::new(""));
    let certificate = pair.certificate.strip_prefix(folder).unwrap_or(&pair.certificate);
    format!(
        "\n[[admin.clients]]\nname = {}\ncertificate = {}\n",
        quoted(name),
        quoted(certificate.to_string_lossy())
    )
}

fn quoted(text: impl Into<String>) -> String {
    Value::String(text.into()).to_string()
}
