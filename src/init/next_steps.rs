//! The remaining steps, as commands to copy.

use std::net::SocketAddr;
use std::path::Path;

use edge::tls::certificate::{Fingerprint, first_name, is_self_signed};

use super::keypair::{Pair, group};
use super::options::Options;
use crate::config::{Config, DEFAULT_PATHS};

/// Returns the steps for the server, for strangers and for administrators.
pub(super) fn steps(options: &Options, config: &Config, folder: &Path) -> String {
    let shown = config.public.tls.certificate();
    let host = first_name(shown).unwrap_or_else(|| "THIS-SERVER".to_owned());
    let label = host.split('.').next().unwrap_or_default();
    let remote = if label.is_empty() || label == "localhost" {
        "gate"
    } else {
        label
    };
    let (public, admin) = (port(&config.public.listen), port(&config.admin.listen));
    let file = options.config.display();

    let mut text = String::from("Next, on this server:\n");
    // The path that the systemd unit uses.
    if options.config == Path::new(DEFAULT_PATHS[1]) {
        text += &with_systemd(options, config, folder);
        text += "  Or without systemd, in the foreground:\n";
    }
    text += &format!("  incus-gate run --config {file}\n");
    text += &format!("  Open the ports {public} and {admin} in the firewall; keep Incus's own port closed.\n");
    text += "To publish an existing image:\n  incus image edit IMAGE                  and set `public: true`\n";
    text += &format!(
        "\nNext, for users of the public port:\n  incus remote add {remote} https://{host}:{public} --public\n  incus image list {remote}:\n"
    );
    if config.public.simplestreams {
        text += &format!(
            "With simplestreams, for LXD and Incus clients that trust the certificate:\n  lxc remote add {remote} https://{host}:{public} --protocol=simplestreams\n"
        );
    }
    if is_self_signed(shown).unwrap_or_default() {
        text += &format!(
            "  The certificate is self-signed, so the client asks them to confirm its fingerprint:\n  {}\n",
            Fingerprint::of(shown)
        );
    }
    for client in &config.admin.clients {
        let pair = Pair::at(folder, &client.name);
        text += &format!("\nNext, for the administrator {}:\n", client.name);
        if pair.key.exists() {
            text += &format!(
                "  Copy {} and {} to their machine, over a secure channel, as\n  ~/.config/incus/client.crt and ~/.config/incus/client.key, and delete the key here.\n  If these two files already exist there, replace {} with their client.crt instead.\n",
                pair.certificate.display(),
                pair.key.display(),
                pair.certificate.display()
            );
        }
        text += &format!("  incus remote add {remote}-admin https://{host}:{admin} --accept-certificate\n");
        text += &format!("  incus image import FILES {remote}-admin: --alias NAME --public\n");
    }
    text
}

/// Returns the steps to run as a systemd service, which has a user of its own.
fn with_systemd(options: &Options, config: &Config, folder: &Path) -> String {
    let mut text = String::new();
    if group().is_none() {
        let folder = folder.display();
        text += &format!(
            "  systemd-sysusers                        creates the user incus-gate\n  chgrp incus-gate {folder}/*.key && chmod 640 {folder}/*.key\n"
        );
    }
    let of_certbot = |path| for_certbot(&options.letsencrypt, path);
    text += &config.files.paths().find_map(of_certbot).unwrap_or_default();
    text + "  systemctl daemon-reload && systemctl enable --now incus-gate\n"
}

/// Returns the commands that let this user read a certbot key, which by default only root can.
fn for_certbot(state: &Path, file: &Path) -> Option<String> {
    let name = file.strip_prefix(state).ok()?.iter().next()?.display();
    let folder = state.parent()?.display();
    Some(format!(
        "  cd {folder} && chgrp incus-gate live archive archive/{name}/privkey*.pem\n  chmod 750 live archive && chmod 640 archive/{name}/privkey*.pem\n"
    ))
}

/// Returns the port number of the first address. Usually all addresses have the same one.
fn port(addresses: &[SocketAddr]) -> u16 {
    addresses.first().map_or(0, SocketAddr::port)
}
