//! The gateway's ports do not collide with each other, with Incus, or with what stays with Nginx.

use super::cases::{Row, check_rows};

const SITES: &[Row] = &[
    // A website with Incus below a prefix.
    (
        "server { listen 443 ssl; $TLS root /var/www;\nlocation /incus/ { proxy_pass https://127.0.0.1:8443/; $SHOWN } }",
        1,
        "0.0.0.0:443",
        "127.0.0.1:8555",
        0,
        &[
            "`/incus/` became `/` on the way to Incus",
            "port 443 also serves other content (conf.d/lxc.conf:1)",
            "In conf.d/lxc.conf:1-2, which also serves other content, remove only the locations that lead to Incus (conf.d/lxc.conf:2)",
        ],
        &["Remove these blocks from Nginx"],
    ),
    // Who has the gateway's own default.
    (
        "server { listen 8554 ssl; $TLS $ASKED location / { $UP } }",
        0,
        "127.0.0.1:8555",
        "0.0.0.0:8554",
        1,
        &[],
        &[],
    ),
    (
        "server { listen 8555 ssl; $TLS location /1.0 { $UP } }",
        0,
        "0.0.0.0:8555",
        "127.0.0.1:8556",
        0,
        &[],
        &[],
    ),
    (
        "server { listen 8554 ssl; $TLS $ASKED satisfy any; location / { $UP } }",
        1,
        "127.0.0.1:8555",
        "127.0.0.1:8554",
        1,
        &[],
        &[],
    ),
    // Held back, it would be where Incus is.
    (
        "server { listen 192.0.2.1:8443 ssl; $TLS auth_basic x; location /1.0 { $UP } }",
        1,
        "127.0.0.1:8554",
        "127.0.0.1:8555",
        0,
        &[],
        &[],
    ),
    (
        "server { listen 8554 ssl; listen 127.0.0.1:8554 ssl; $TLS location /1.0 { $UP } }\
         server { listen 192.0.2.1:8554 ssl; $TLS $ASKED location / { $UP } }",
        0,
        "0.0.0.0:8554",
        "192.0.2.1:8555",
        1,
        &["admins now use port 8555"],
        &[],
    ),
    // The same as without a path.
    (
        "server { listen 9554 ssl; $TLS location /1.0 { proxy_pass https://127.0.0.1:8443$request_uri; $SHOWN } }",
        0,
        "0.0.0.0:9554",
        "127.0.0.1:8555",
        0,
        &[],
        &["MISSING"],
    ),
    (
        "server { listen 9554 ssl; $TLS location /1.0/images { proxy_pass https://127.0.0.1:8443/1.0/images; $SHOWN } }",
        0,
        "0.0.0.0:9554",
        "127.0.0.1:8555",
        0,
        &[],
        &["MISSING", "became"],
    ),
    (
        "server { listen 9554 ssl; $TLS set $server 127.0.0.1; set $port 8443; set $to $server:$port;\
         location /1.0 { proxy_pass $scheme://$to; $SHOWN } }",
        0,
        "0.0.0.0:9554",
        "127.0.0.1:8555",
        0,
        &[],
        &["MISSING"],
    ),
    (
        "server { listen 9554 ssl; $TLS location ~ ^/1.0/(.*) { proxy_pass https://127.0.0.1:8443/1.0/$1?public=1; $SHOWN } }",
        1,
        "127.0.0.1:9554",
        "127.0.0.1:8555",
        0,
        &["changes to the request for Incus"],
        &["where Incus is"],
    ),
    // HTTP/3 is not without TLS; and a refusing catch-all is no other site.
    (
        "server { listen 8555 quic reuseport; listen 8555 ssl; $TLS $ASKED location / { $UP } }",
        0,
        "127.0.0.1:8554",
        "0.0.0.0:8555",
        1,
        &["HTTP/3"],
        &["without TLS"],
    ),
    (
        "$PUBLIC server { listen 8554 ssl default_server; server_name _; $TLS return 444; }",
        0,
        "0.0.0.0:8554",
        "127.0.0.1:8555",
        0,
        &["rejects requests for other host names"],
        &["MISSING"],
    ),
    (
        "$PUBLIC server { listen 80; listen 8554 ssl default_server; $TLS return 444; }",
        0,
        "0.0.0.0:8554",
        "127.0.0.1:8555",
        0,
        &["the `listen` of conf.d/lxc.conf:1-1 on the gateway's ports"],
        &["MISSING"],
    ),
    (
        "$PUBLIC server { listen 8554 ssl; server_name www.example.org; $TLS allow 192.0.2.1; deny all; root /var/www; }",
        1,
        "0.0.0.0:8554",
        "127.0.0.1:8555",
        0,
        &["port 8554 is also used by another server"],
        &[],
    ),
    (
        "$PUBLIC server { listen 8554 ssl default_server; ssl_reject_handshake on; }",
        0,
        "0.0.0.0:8554",
        "127.0.0.1:8555",
        0,
        &[],
        &["MISSING"],
    ),
];

#[test]
fn addresses_are_free_and_other_sites_stay() {
    check_rows(SITES);
}
