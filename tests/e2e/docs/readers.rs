//! The user and the machine for each chapter, and replacements for commands that cannot run.

/// A block and its special treatment.
pub(crate) struct Reader {
    pub(crate) file: &'static str,
    pub(crate) heading: &'static str,
    /// The user who runs it; for a configuration, `serve` if the gateway is to run with it.
    pub(crate) who: &'static str,
    /// Commands after the block: actions of the reader, and checks.
    pub(crate) then: &'static str,
}

/// The initial state of a chapter, if it is not a server set up as in the README.
pub(crate) const BEFORE: &[(&str, &str)] = &[
    (
        "README.md",
        "has_certificate lxc.example.org; has_incus; has_binary
         lives stranger; scripts/throwaway-incus up /srv/stranger 8560
         lives admin; image /home/admin crynux-node:v2.6.0",
    ),
    (
        "docs/BEHIND_A_PROXY.md",
        "has_certificate images.example.org; is_set_up; lives stranger",
    ),
    (
        "docs/FROM_NGINX.md",
        "has_certificate lxc.example.org; has_incus; has_gateway; has_nginx; lives admin",
    ),
    (
        "docs/SIMPLESTREAMS.md",
        "is_set_up; lives stranger; scripts/throwaway-incus up /srv/stranger 8560",
    ),
    ("docs/LETS_ENCRYPT.md", "has_incus; has_gateway; has_acme"),
    ("docs/PUBLISHING_FROM_CI.md", "is_set_up; has_pipelines"),
];

pub(crate) const READERS: &[Reader] = &[
    Reader {
        file: "README.md",
        heading: "Set it up in front of your own Incus",
        who: "root",
        then: "if systemctl --quiet is-active incus-gate; then
                   incus image import --quiet /home/admin/{meta,rootfs}.tar.xz --alias crynux-node:v2.6.0 --public
                   cp /etc/incus-gate/certs/ops.* /home/admin
               fi",
    },
    Reader {
        file: "README.md",
        heading: "What strangers do",
        who: "stranger",
        then: "INCUS_DIR=/srv/stranger/var incus image list | grep -F 'crynux-node:v2.6.0'
               incus image delete local:crynux-node:v2.6.0",
    },
    Reader {
        file: "README.md",
        heading: "What admins do",
        who: "admin",
        then: "",
    },
    Reader {
        file: "docs/SIMPLESTREAMS.md",
        heading: "Add the server",
        who: "stranger",
        then: "",
    },
    Reader {
        file: "docs/FROM_NGINX.md",
        heading: "What to run",
        who: "root",
        then: "mv /etc/nginx/conf.d/lxc.conf /srv; systemctl reload nginx
               chgrp -R incus-gate /etc/nginx/certs /etc/letsencrypt; chmod -R g+rX /etc/nginx/certs /etc/letsencrypt
               sed -i 's/\"0.0.0.0:855/\"[::]:855/' /etc/incus-gate/proxy.toml
               until_so systemctl enable --quiet --now incus-gate
               types admin <(echo 'mkdir -p ~/.config/incus; cp /etc/nginx/certs/local.crt ~/.config/incus/client.crt
                   cp /etc/nginx/certs/local.key ~/.config/incus/client.key
                   incus remote add example-admin https://lxc.example.org:8555')",
    },
    Reader {
        file: "docs/FROM_NGINX.md",
        heading: "What changes for admins",
        who: "admin",
        then: "",
    },
    Reader {
        file: "docs/BEHIND_A_PROXY.md",
        heading: "HAProxy",
        who: "serve",
        then: "",
    },
    Reader {
        file: "docs/BEHIND_A_PROXY.md",
        heading: "Client addresses in Incus",
        who: "serve",
        then: "",
    },
    Reader {
        file: "docs/BEHIND_A_PROXY.md",
        heading: "What strangers do",
        who: "stranger",
        then: "incus image alias create --quiet local:a/b $(incus image list --format csv --columns F local:)
               curl -sSf https://images.example.org/1.0/images/aliases/a%2Fb > /dev/null
               curl -sSf -H 'Accept: text/html' https://images.example.org/ | grep -F 'incus remote add published https://images.example.org:443 --public'
               cd /srv; HOME=/home/stranger incus image export example:a/b exported
               cat exported exported.root | sha256sum | cut -d' ' -f1 | grep -qxf <(INCUS_DIR=/var/lib/incus incus image list --format csv --columns F local:)",
    },
    Reader {
        file: "docs/CLUSTERS.md",
        heading: "Set it up",
        who: "serve",
        then: "",
    },
    Reader {
        file: "docs/LETS_ENCRYPT.md",
        heading: "With nothing on port 80",
        who: "root",
        then: "incus-gate init --yes --name lxc.example.org --admin ops > /dev/null
               grep -F /etc/letsencrypt/live/lxc.example.org/privkey.pem /etc/incus-gate/proxy.toml
               certbot delete -q --cert-name lxc.example.org",
    },
    Reader {
        file: "docs/LETS_ENCRYPT.md",
        heading: "With a web server on port 80",
        who: "root",
        then: "test -e /etc/letsencrypt/live/lxc.example.org/privkey.pem",
    },
    Reader {
        file: "docs/LETS_ENCRYPT.md",
        heading: "Let the gateway read it",
        who: "root",
        then: "printf '[reload]\\ninterval = \"1s\"\\n' >> /etc/incus-gate/proxy.toml
               until_so systemctl enable --quiet --now incus-gate
               curl -sSf --cacert /etc/letsencrypt/live/lxc.example.org/chain.pem --output /dev/null https://lxc.example.org:8554/1.0",
    },
    Reader {
        file: "docs/LETS_ENCRYPT.md",
        heading: "Renewal",
        who: "root",
        then: "before=$(shown_serial); certbot renew -q --force-renewal
               is_renewed() { [ \"$(shown_serial)\" != \"$before\" ]; }; until_so is_renewed",
    },
    Reader {
        file: "docs/PUBLISHING_FROM_CI.md",
        heading: "List it",
        who: "serve",
        then: "give_secrets",
    },
    Reader {
        file: "docs/PUBLISHING_FROM_CI.md",
        heading: "GitHub Actions",
        who: "github",
        then: "curl -sSf https://lxc.example.org:8554/1.0/images/aliases/my-image%2Fv1.2.3 > /dev/null",
    },
    Reader {
        file: "docs/PUBLISHING_FROM_CI.md",
        heading: "GitLab",
        who: "gitlab",
        then: "curl -sSf https://lxc.example.org:8554/1.0/images/aliases/my-image%2Fv1.2.4 > /dev/null",
    },
];

/// A documented command that cannot run here unchanged.
pub(crate) struct StandIn {
    pub(crate) line: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) instead: &'static str,
}

const fn stand_in(line: &'static str, reason: &'static str, instead: &'static str) -> StandIn {
    StandIn { line, reason, instead }
}

/// Without delegated cgroups no container starts here; the test checks that it was downloaded and created.
pub(crate) const STAND_INS: &[StandIn] = &[
    stand_in(
        "make build",
        "It is built already, or the test would not run.",
        "test -x target/release/incus-gate",
    ),
    stand_in(
        "make build && make install && systemctl restart incus-gate",
        "As above.",
        "make install > /dev/null && systemctl restart incus-gate",
    ),
    stand_in(
        "incus-gate init --name lxc.example.org --admin ops",
        "It asks, and nobody is there to answer; tests/e2e/init.rs has somebody.",
        "incus-gate init --name lxc.example.org --admin ops --yes > /srv/said
         grep -F 'chgrp incus-gate live archive archive/lxc.example.org/privkey*.pem' /srv/said",
    ),
    stand_in(
        "incus launch example:crynux-node:v2.6.0 my-container",
        "Whether a container can start is the machine's part; that it can be made of the image is seen.",
        "incus launch example:crynux-node:v2.6.0 my-container || incus config show my-container > /dev/null",
    ),
    stand_in(
        "apt-get install ./incus-gate_0.1.0-1_amd64.deb",
        "`make dist-test` does it, with a package that was made.",
        "true",
    ),
    stand_in(
        "sha256sum --check --ignore-missing SHA256SUMS",
        "The tarball is `make dist`'s.",
        "grep -qe --ignore-missing <(sha256sum --help)",
    ),
    stand_in(
        "tar -C /usr/local --strip-components=1 -xf incus-gate-0.1.0-x86_64-linux.tar.gz",
        "As above.",
        "grep -qe --strip-components <(tar --help)",
    ),
    stand_in(
        "podman build -t incus-gate -f share/doc/incus-gate/Containerfile .",
        "Podman is not for every machine that tests.",
        "test -e packaging/Containerfile",
    ),
    stand_in(
        "podman run --network host --read-only --user \"$(id -u incus-gate):$(id -g incus-gate)\" \\\n    -v /etc/incus-gate:/etc/incus-gate:ro -v /var/lib/incus/server.crt:/var/lib/incus/server.crt:ro incus-gate",
        "As above.",
        "true",
    ),
    stand_in(
        "# put the blocks back into Nginx's files",
        "A person's work.",
        "mv /srv/lxc.conf /etc/nginx/conf.d",
    ),
    stand_in(
        "systemctl restart haproxy",
        "It is on a machine of its own, which has no systemd here.",
        "ip netns exec proxy haproxy -D -f /etc/haproxy/haproxy.cfg",
    ),
    stand_in(
        "apt-get install -y certbot",
        "There is no way out to a mirror; it was installed before.",
        "certbot --version",
    ),
    stand_in("apt-get update", "As above.", "true"),
    stand_in("sudo apt-get update", "As above.", "true"),
    stand_in(
        "sudo apt-get install -y --no-install-recommends incus-client",
        "As above.",
        "incus --version",
    ),
    stand_in(
        "apt-get install -y --no-install-recommends ca-certificates incus-client",
        "As above.",
        "incus --version",
    ),
    stand_in(
        "./build-image",
        "The reader's own, which makes meta.tar.xz and rootfs.tar.xz.",
        "test -e meta.tar.xz && test -e rootfs.tar.xz",
    ),
];
