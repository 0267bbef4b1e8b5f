//! Where Nginx restricted access and the gateway cannot, the port is held back: it listens on loopback only.

use super::cases::{Row, check_rows, imported, is_local};
use super::machine::Machine;

/// Directives of Nginx, of well-known modules and of an unknown one.
const RESTRICTIONS: [&str; 24] = [
    "access_by_lua_file /etc/nginx/lua/login.lua;",
    "access_by_lua 'ngx.exit(403)';",
    "rewrite_by_lua_file /etc/nginx/lua/login.lua;",
    "auth_basic \"Images\";",
    "auth_digest \"x\";",
    "auth_gss on;",
    "auth_jwt \"x\";",
    "auth_ldap \"x\";",
    "auth_oidc x;",
    "auth_pam \"x\";",
    "auth_request /auth;",
    "js_access a.b;",
    "modsecurity on;",
    "some_module on;",
    "some_module off;",
    "some_block { on; }",
    "satisfy any;",
    "secure_link $arg_md5;",
    "sub_filter a b;",
    "try_files /closed.html =403;",
    "proxy_method GET;",
    "ssl_conf_command VerifyMode Require;",
    "rewrite ^ /closed last;",
    "return 403;",
];

#[test]
fn a_port_with_fewer_paths_than_the_gateways_is_held_back() {
    let machine = Machine::new();
    for restricted in [
        // Without the list, or without the images.
        "location = /1.0/images { $UP }",
        "location = /1.0/images/ { $UP }",
        "location /1.0/images/aliases/ { $UP }",
        r#"location ~ "^/1\.0/images/[0-9a-f]{64}/export$" { $UP }"#,
        "location ~ ^/1.0/images(?!/secret) { $UP }",
        "location /x/ { proxy_pass https://127.0.0.1:8443/1.0/images/aliases/; $SHOWN }",
        // A part is denied.
        r"location /1.0 { $UP } location ~ ^/1\.0/.*/export$ { deny all; }",
        "location /1.0 { $UP } location ~ ^/admin|^/1.0/images/secret { return 403; }",
        "location /1.0 { $UP } location ~* ^/1.0/Images/aliases { return 403; }",
        "location /1.0 { $UP } location ~ ^/1.0x?/images { return 403; }",
        // The client's own statement decides.
        "if ($host != $cookie_a) { return 403; } location /1.0 { $UP }",
        "if ($scheme = https) { return 403; } location /1.0 { $UP }",
    ] {
        let text = format!("server {{ listen 9554 ssl; $TLS {restricted} }}");
        let written = imported(&machine, &text, &[]);
        assert_eq!(written.code, 1, "{text}: {}", written.stderr);
        assert!(is_local(&written.public), "{text}: {}", written.stdout);
    }
    for open in [
        "location /1.0/images { $UP }",
        "location / { $UP }",
        r"location ~ ^/1\.0/images(/.*)?$ { $UP }",
        "location /incus/ { proxy_pass https://127.0.0.1:8443/; $SHOWN }",
        r"location = /1.0/images { $UP } location ~ ^/1\.0/images/[0-9a-f]+(/export)?$ { $UP }",
        r"location /1.0 { $UP } location ~ ^/admin/ { return 403; } location ~ /\.(?!well-known) { deny all; }",
        "if ($scheme != https) { return 301 https://$host$request_uri; } location /1.0 { $UP }",
        "if ($host != images.example.org) { return 444; } location /1.0 { $UP }",
    ] {
        let text = format!("server {{ listen 9554 ssl; $TLS {open} }}");
        let written = imported(&machine, &text, &[]);
        assert!(!is_local(&written.public), "{text}: {}", written.stderr);
    }
    let admins =
        "server { listen 9555 ssl; $TLS $ASKED location / { proxy_pass https://127.0.0.1:8443/1.0/images/; $SHOWN } }";
    let written = imported(&machine, admins, &[]);
    assert_eq!(written.code, 1, "{}", written.stderr);
    assert!(is_local(&written.admin), "{}", written.stdout);
}

#[test]
fn addresses_that_nginx_restricted_are_not_opened() {
    let machine = Machine::new();
    for server in [
        "listen 127.0.0.1:9554 ssl; listen [::]:9554 ssl; $TLS",
        "listen 9554 ssl proxy_protocol; set_real_ip_from 192.0.2.1; allow 192.0.2.0/24; deny all; $TLS",
        "listen 9554 ssl proxy_protocol; set_real_ip_from 192.0.2.1; real_ip_header X-Real-IP; allow 192.0.2.0/24; deny all; $TLS",
    ] {
        let text = format!("server {{ {server} location /1.0 {{ $UP }} }}");
        let written = imported(&machine, &text, &[]);
        assert_eq!(written.code, 1, "{text}: {}", written.stderr);
        assert!(is_local(&written.public), "{text}: {}", written.stdout);
    }
    // The second server shares its address with the first, and the third its admins; the second and third share neither.
    let part = |port: u16, name: &str, certificate: &str| {
        format!(
            "server {{ listen {port} ssl; server_name {name}; $TLS ssl_verify_client on; \
             ssl_client_certificate /etc/nginx/certs/{certificate}.crt; location / {{ $UP }} }}"
        )
    };
    let text = part(9555, "a", "ops") + &part(9555, "b", "local") + &part(9556, "a", "ops");
    let written = imported(&machine, &text, &[]);
    assert_eq!((written.code, written.admins), (1, 0), "{}", written.stderr);
}

#[test]
fn an_unknown_directive_holds_the_port_back() {
    let machine = Machine::new();
    for directive in RESTRICTIONS {
        for (in_http, in_server, in_location) in [(directive, "", ""), ("", directive, ""), ("", "", directive)] {
            // Nginx does not accept these in `http`.
            if !in_http.is_empty()
                && ["return", "rewrite", "try_files"]
                    .iter()
                    .any(|word| directive.starts_with(word))
            {
                continue;
            }
            for (is_admin, asked, path) in [(false, "", "/1.0/images"), (true, "$ASKED", "/")] {
                let text = format!(
                    "{in_http} server {{ listen 9554 ssl; $TLS {asked} {in_server} location {path} {{ {in_location} $UP }} }}"
                );
                let written = imported(&machine, &text, &[]);
                assert_eq!(written.code, 1, "{text}: {}", written.stderr);
                let (port, name) = if is_admin {
                    (&written.admin, "admin")
                } else {
                    (&written.public, "public")
                };
                assert!(is_local(port), "{text}: {}", written.stdout);
                let first = written
                    .stderr
                    .lines()
                    .find(|line| line.starts_with("  - "))
                    .expect("a finding");
                let word = directive.split([' ', ';']).next().expect("a word");
                assert!(
                    first.starts_with("  - MISSING: conf.d/lxc.conf:1: ")
                        && first.contains(word)
                        && first.contains(&format!("set `{name}.listen`, which is held back")),
                    "{text}: {first}"
                );
            }
        }
    }
    // In the upstream block, too.
    let text = "upstream incus { server 127.0.0.1:8443; balancer_by_lua_file x.lua; }\
        server { listen 8554 ssl; $TLS location /1.0 { proxy_pass https://incus; $SHOWN } }";
    let written = imported(&machine, text, &[]);
    assert!(written.code == 1 && is_local(&written.public), "{}", written.stderr);
}

/// Common directives, none of which rejects requests.
const HARMLESS: &str = "access_log off; add_header X-A 1; auth_basic off; auth_request off; brotli on; charset utf-8;\
    client_body_buffer_size 1m; client_body_timeout 10m; client_max_body_size 0; default_type text/plain; etag on;\
    error_page 502 /502.html; expires off; fastcgi_buffers 8 16k; gzip on; gzip_types text/css; gzip_vary on; http2 on;\
    if_modified_since off; keepalive_requests 100; keepalive_timeout 65; large_client_header_buffers 4 16k; limit_rate 1m;\
    modsecurity off; more_set_headers 'Server: x'; proxy_buffer_size 8k; proxy_buffering off; proxy_buffers 8 8k;\
    proxy_cache off; proxy_connect_timeout 5; proxy_hide_header X-A; proxy_http_version 1.1; proxy_intercept_errors on;\
    proxy_next_upstream off; proxy_read_timeout 1h; proxy_redirect off; proxy_request_buffering off; proxy_send_timeout 1h;\
    proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_ssl_ciphers HIGH;\
    proxy_ssl_server_name on; proxy_ssl_session_reuse on; proxy_ssl_verify off; real_ip_header X-Real-IP;\
    resolver 127.0.0.53; root /var/www; satisfy all; send_timeout 10m; sendfile on; server_tokens off; set $x 1;\
    ssl_buffer_size 4k; ssl_ciphers HIGH; ssl_conf_command Options KTLS; ssl_dhparam /etc/nginx/dh.pem;\
    ssl_prefer_server_ciphers on; ssl_session_cache shared:S:1m; ssl_session_tickets off; ssl_session_timeout 1d;\
    ssl_stapling on; tcp_nodelay on; tcp_nopush on; types_hash_max_size 2048; underscores_in_headers on;";

#[test]
fn everyday_directives_hold_nothing_back() {
    let machine = Machine::new();
    // An inner level switches the outer directive off.
    for around in ["", "auth_basic \"Site\";"] {
        let text = format!(
            "limit_req_zone $binary_remote_addr zone=a:1m rate=1r/s; map $http_upgrade $up {{ default upgrade; }} geo $x {{ default 0; }}\
            log_format a '$uri'; {around} upstream incus {{ zone a 64k; server 127.0.0.1:8443; keepalive 8; }}\
            server {{ listen 9554 ssl http2; $TLS {HARMLESS} location /1.0 {{ {HARMLESS} limit_req zone=a; proxy_pass https://incus; $SHOWN }}\
            location / {{ return 403; }} }}\
            server {{ listen 9555 ssl; $TLS $ASKED {HARMLESS} location / {{ {HARMLESS} proxy_pass https://incus; $SHOWN }}\
            location = /favicon.ico {{ return 204; }} location ~ /\\. {{ deny all; }} location @x {{ internal; return 401; }}\
            location = /401.html {{ internal; root /var/www; }} }}"
        );
        let written = imported(&machine, &text, &[]);
        assert_eq!(written.code, 0, "{}", written.stderr);
        assert_eq!(written.public, ["0.0.0.0:9554".parse().expect("an address")]);
        assert_eq!(written.admin, ["0.0.0.0:9555".parse().expect("an address")]);
        assert_eq!(written.admins, 1);
    }
}

const LOCATIONS: &[Row] = &[
    // Reached from other locations only, under their conditions.
    (
        "server { listen 9554 ssl; $TLS location /1.0/images { internal; $UP } }",
        1,
        "127.0.0.1:9554",
        "127.0.0.1:8555",
        0,
        &["locations that only other locations of Nginx reach"],
        &[],
    ),
    (
        "server { listen 9554 ssl; $TLS location / { auth_basic x; try_files /none @incus; } location @incus { $UP } }",
        1,
        "127.0.0.1:9554",
        "127.0.0.1:8555",
        0,
        &["`location @incus`"],
        &[],
    ),
    (
        "map $ssl_client_verify $ok { SUCCESS 1; default 0; } server { listen 10443 ssl; $TLS\
         ssl_client_certificate /etc/nginx/certs/ops.crt; ssl_verify_client optional;\
         location / { if ($ok = 1) { rewrite ^ /with_cert last; } return 401; } location /with_cert { internal; $UP } }",
        1,
        "127.0.0.1:8554",
        "127.0.0.1:10443",
        0,
        &[
            "the tables [[admin.clients]] are commented out",
            "`location /with_cert`",
        ],
        &[
            "clients without one were not rejected",
            "requests a certificate; the gateway's admin port",
        ],
    ),
    // Paths and methods that strangers did not have.
    (
        "server { listen 9554 ssl; $TLS location = /1.0 { $UP } location /1.0/images { return 403; } }",
        1,
        "127.0.0.1:9554",
        "127.0.0.1:8555",
        0,
        &["paths that Nginx denied"],
        &[],
    ),
    (
        "server { listen 9554 ssl; $TLS location /1.0 { $UP } location /1.0/instances { return 403; } }",
        0,
        "0.0.0.0:9554",
        "127.0.0.1:8555",
        0,
        &[],
        &["MISSING"],
    ),
    (
        "server { listen 9554 ssl; $TLS location /1.0 { limit_except POST { deny all; } $UP } }",
        1,
        "127.0.0.1:9554",
        "127.0.0.1:8555",
        0,
        &["methods that Nginx rejected"],
        &[],
    ),
    (
        "server { listen 9554 ssl; $TLS location /1.0 { if ($request_method = GET) { return 403; } $UP } }",
        1,
        "127.0.0.1:9554",
        "127.0.0.1:8555",
        0,
        &["`if ($request_method = GET)`"],
        &[],
    ),
    (
        "server { listen 9554 ssl; $TLS location /1.0 { set $args project=a; $UP } }",
        1,
        "127.0.0.1:9554",
        "127.0.0.1:8555",
        0,
        &["changes to the request for Incus"],
        &[],
    ),
    // Revocation.
    (
        "server { listen 9555 ssl; $TLS $ASKED ssl_ocsp leaf; location / { $UP } }",
        1,
        "127.0.0.1:8554",
        "0.0.0.0:9555",
        0,
        &["does not check whether a certificate is revoked, as `ssl_ocsp` did"],
        &[],
    ),
    (
        "server { listen 9555 ssl; $TLS $ASKED ssl_ocsp off; location / { $UP } }",
        0,
        "127.0.0.1:8554",
        "0.0.0.0:9555",
        1,
        &[],
        &["revoked"],
    ),
];

#[test]
fn restrictions_of_locations_are_not_lost() {
    check_rows(LOCATIONS);
}
