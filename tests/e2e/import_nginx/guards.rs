//! What Nginx guarded stays guarded: each row is a configuration, and what must come out of it.

use std::net::SocketAddr;

use incus_gate::config::Config;

use super::machine::Machine;

/// `$TLS`, `$UP` and the like stand for what every configuration has.
const SHORT: [(&str, &str); 5] = [
    (
        "$TLS",
        "ssl_certificate /etc/nginx/certs/server.crt; ssl_certificate_key /etc/nginx/certs/server.key;",
    ),
    ("$UP", "proxy_pass https://127.0.0.1:8443; $SHOWN"),
    (
        "$SHOWN",
        "proxy_ssl_certificate /etc/nginx/certs/local.crt; proxy_ssl_certificate_key /etc/nginx/certs/local.key;",
    ),
    (
        "$ASKED",
        "ssl_client_certificate /etc/nginx/certs/ops.crt; ssl_verify_client on;",
    ),
    (
        "$PUBLIC",
        "server { listen 8554 ssl; $TLS location /1.0 { limit_except GET { deny all; } $UP } }",
    ),
];

fn long(text: &str) -> String {
    let mut text = text.to_owned();
    for (short, long) in SHORT.into_iter().rev().chain(SHORT) {
        text = text.replace(short, long);
    }
    text
}

struct Written {
    code: i32,
    stderr: String,
    stdout: String,
    public: Vec<SocketAddr>,
    admin: Vec<SocketAddr>,
    /// How many admins are let in.
    admins: usize,
}

/// Imports a configuration, and sees to it that what comes out can be loaded and does not collide with itself.
fn imported(machine: &Machine, text: &str, arguments: &[&str]) -> Written {
    let file = machine.configure("etc/nginx/conf.d/lxc.conf", &long(text));
    let output = machine.import(&file, arguments);
    let code = output.status.code().expect("it ends by itself");
    let mut written = Written {
        code,
        stderr: output.stderr,
        stdout: output.stdout,
        public: Vec::new(),
        admin: Vec::new(),
        admins: 0,
    };
    if written.stdout.is_empty() {
        return written;
    }
    let table: toml::Table = written.stdout.parse().expect("it is TOML");
    let listens = |key: &str| -> Vec<SocketAddr> {
        let listen = &table[key]["listen"];
        let list = listen.as_array().cloned().unwrap_or_else(|| vec![listen.clone()]);
        list.iter()
            .map(|address| address.as_str().expect("a text").parse().expect("an address"))
            .collect()
    };
    (written.public, written.admin) = (listens("public"), listens("admin"));
    let clients = table["admin"].get("clients").and_then(toml::Value::as_array);
    written.admins = clients.map_or(0, Vec::len);
    let all = [written.public.as_slice(), &written.admin].concat();
    for (number, one) in all.iter().enumerate() {
        for other in &all[..number] {
            let is_one_any = one.ip().is_unspecified() || other.ip().is_unspecified() || one.ip() == other.ip();
            assert!(!is_one_any || one.port() != other.port(), "{one} {other}: {text}");
        }
    }
    // What is missing is told; nothing else may be wrong with it.
    let path = machine.write("proxy.toml", &written.stdout);
    if let Err(error) = Config::load(&path) {
        let error = error.to_string();
        assert!(
            code == 1
                && ["upstream", "tls", "missing"].iter().any(|word| error.contains(word))
                && !error.contains("both"),
            "{text}: {error}\n{}",
            written.stdout
        );
    }
    written
}

fn is_local(listens: &[SocketAddr]) -> bool {
    listens.iter().all(|listen| listen.ip().is_loopback())
}

/// Of Nginx's own and of well-known modules, and one that nobody has heard of.
const GUARDS: [&str; 24] = [
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

/// What stands in a server beside its `listen` and certificate, for strangers and for admins.
#[test]
fn a_port_that_led_to_less_than_the_gateways_does_is_held_back() {
    let machine = Machine::new();
    for guarded in [
        // Not the list, or not the images.
        "location = /1.0/images { $UP }",
        "location = /1.0/images/ { $UP }",
        "location /1.0/images/aliases/ { $UP }",
        r#"location ~ "^/1\.0/images/[0-9a-f]{64}/export$" { $UP }"#,
        "location ~ ^/1.0/images(?!/secret) { $UP }",
        "location /x/ { proxy_pass https://127.0.0.1:8443/1.0/images/aliases/; $SHOWN }",
        // Some of it was kept away.
        r"location /1.0 { $UP } location ~ ^/1\.0/.*/export$ { deny all; }",
        "location /1.0 { $UP } location ~ ^/admin|^/1.0/images/secret { return 403; }",
        "location /1.0 { $UP } location ~* ^/1.0/Images/aliases { return 403; }",
        "location /1.0 { $UP } location ~ ^/1.0x?/images { return 403; }",
        // What a client says decides.
        "if ($host != $cookie_a) { return 403; } location /1.0 { $UP }",
        "if ($scheme = https) { return 403; } location /1.0 { $UP }",
    ] {
        let text = format!("server {{ listen 9554 ssl; $TLS {guarded} }}");
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
fn addresses_that_nginx_kept_apart_are_not_opened() {
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
    // The second one shares an address with the first, and the third its admins: two of them have neither in common.
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
    for guard in GUARDS {
        for (in_http, in_server, in_location) in [(guard, "", ""), ("", guard, ""), ("", "", guard)] {
            // Of the server's own, or not to be had there.
            if !in_http.is_empty()
                && ["return", "rewrite", "try_files"]
                    .iter()
                    .any(|word| guard.starts_with(word))
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
                let word = guard.split([' ', ';']).next().expect("a word");
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

/// What everyday configurations have, none of which keeps anybody out.
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
    // What is switched off further in is off.
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

/// Configuration, exit code, public.listen, admin.listen, admins, what is said, what is not said.
type Row = (
    &'static str,
    i32,
    &'static str,
    &'static str,
    usize,
    &'static [&'static str],
    &'static [&'static str],
);

const LOCATIONS: &[Row] = &[
    // Reached from elsewhere alone, under what stands there.
    (
        "server { listen 9554 ssl; $TLS location /1.0/images { internal; $UP } }",
        1,
        "127.0.0.1:9554",
        "127.0.0.1:8555",
        0,
        &["locations that Nginx reached from other locations only"],
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
            "nobody was refused for want of one",
            "asks for a certificate; the gateway's admin port",
        ],
    ),
    // Paths and methods that strangers did not have.
    (
        "server { listen 9554 ssl; $TLS location = /1.0 { $UP } location /1.0/images { return 403; } }",
        1,
        "127.0.0.1:9554",
        "127.0.0.1:8555",
        0,
        &["paths that Nginx kept from people"],
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
        &["methods that Nginx kept away"],
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
        &["changes to what Incus is asked for"],
        &[],
    ),
    // Revocation.
    (
        "server { listen 9555 ssl; $TLS $ASKED ssl_ocsp leaf; location / { $UP } }",
        1,
        "127.0.0.1:8554",
        "0.0.0.0:9555",
        0,
        &["does not ask whether a certificate was revoked, as `ssl_ocsp` did"],
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
            "port 443 also serves what is not Incus's (conf.d/lxc.conf:1)",
            "leave in conf.d/lxc.conf:1-2 all but its locations that lead to Incus (conf.d/lxc.conf:2)",
        ],
        &["Take these blocks out of Nginx"],
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
        &["admins now come to port 8555"],
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
        &["changes to what Incus is asked for"],
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
        &["refuses whoever asks for another name"],
        &["MISSING"],
    ),
    (
        "$PUBLIC server { listen 80; listen 8554 ssl default_server; $TLS return 444; }",
        0,
        "0.0.0.0:8554",
        "127.0.0.1:8555",
        0,
        &["the `listen` of conf.d/lxc.conf:1-1 on ports of the gateway's"],
        &["MISSING"],
    ),
    (
        "$PUBLIC server { listen 8554 ssl; server_name www.example.org; $TLS allow 192.0.2.1; deny all; root /var/www; }",
        1,
        "0.0.0.0:8554",
        "127.0.0.1:8555",
        0,
        &["port 8554 is also another server's"],
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

#[track_caller]
fn rows(table: &[Row]) {
    let machine = Machine::new();
    for (text, code, public, admin, admins, said, unsaid) in table {
        let written = imported(&machine, text, &[]);
        let all = format!("{text}\n{}\n{}", written.stderr, written.stdout);
        assert_eq!(written.code, *code, "{all}");
        assert_eq!(written.public, [public.parse().expect("an address")], "{all}");
        assert_eq!(written.admin, [admin.parse().expect("an address")], "{all}");
        assert_eq!(written.admins, *admins, "{all}");
        for sentence in *said {
            assert!(written.stderr.contains(sentence), "{sentence}: {all}");
        }
        for sentence in *unsaid {
            assert!(!written.stderr.contains(sentence), "{sentence}: {all}");
        }
    }
}

#[test]
fn what_kept_people_out_of_a_location_is_not_lost() {
    rows(LOCATIONS);
}

#[test]
fn addresses_are_free_and_sites_are_left() {
    rows(SITES);
}

#[test]
fn an_open_unix_socket_comes_first() {
    let machine = Machine::new();
    let route = "location / { proxy_pass http://unix:/var/lib/incus/unix.socket:/; }";
    let written = imported(&machine, &format!("server {{ listen 8554 ssl; $TLS {route} }}"), &[]);
    assert_eq!(written.code, 1);
    let first = written
        .stderr
        .lines()
        .find(|line| line.starts_with("  - "))
        .expect("a finding");
    assert!(first.contains("whoever gets here is root on this machine"), "{first}");
    assert!(
        !written.stderr.contains("answered admins as strangers"),
        "{}",
        written.stderr
    );

    let written = imported(
        &machine,
        &format!("server {{ listen 8554 ssl; $TLS $ASKED {route} }}"),
        &[],
    );
    assert_eq!(written.code, 1);
    for unsaid in ["answered admins as strangers", "is root on this machine"] {
        assert!(!written.stderr.contains(unsaid), "{}", written.stderr);
    }
}

#[test]
fn what_is_not_understood_is_not_called_right() {
    let machine = Machine::new();
    let text = "server { listen 8554 ssl; $TLS location / { proxy_pass https://127.0.0.1:8443; } }";
    let written = imported(&machine, text, &[]);
    assert_eq!(written.code, 1);
    assert!(
        written
            .stderr
            .contains("run this again with `--incus https://127.0.0.1:8443`"),
        "{}",
        written.stderr
    );
    for unsaid in ["no server here hands requests on", "Nothing was wrong"] {
        assert!(!written.stderr.contains(unsaid), "{}", written.stderr);
    }
    for url in ["https://127.0.0.1:8443", "https://127.0.0.1:8443/", "127.0.0.1"] {
        let written = imported(&machine, text, &["--incus", url]);
        assert!(
            written.stdout.contains("\nurl = \"https://127.0.0.1:8443\""),
            "{}",
            written.stdout
        );
        assert_eq!(written.public, ["0.0.0.0:8554".parse().expect("an address")]);
    }
    let text = "map $host $to { default 127.0.0.1:8443; } server { listen 8554 ssl; $TLS location /1.0 { proxy_pass https://$to; $SHOWN } }";
    let written = imported(&machine, text, &["--incus", "https://127.0.0.1:8443"]);
    // Some of its requests may have gone elsewhere.
    assert!(written.code == 1 && is_local(&written.public), "{}", written.stderr);
    assert!(
        written.stdout.contains("\nurl = \"https://127.0.0.1:8443\""),
        "{}",
        written.stdout
    );
    let written = imported(&machine, text, &["--incus", "not a url"]);
    assert_eq!(written.code, 64, "{}", written.stderr);
}

#[test]
fn a_mark_and_lua_are_refused_with_safe_advice() {
    let machine = Machine::new();
    machine.configure_around();
    let text = long("\u{feff}server { listen 8554 ssl; $TLS location /1.0 { $UP } }\n$PUBLIC");
    let file = machine.configure("etc/nginx/conf.d/lxc.conf", &text);
    let output = machine.import(&file, &[]);
    assert_eq!(output.status.code(), Some(65), "{output}");
    assert!(
        output.stderr.contains("byte order mark, which Nginx refuses"),
        "{output}"
    );
    machine.nginx_test().fails();

    let text = long("server { listen 8554 ssl; $TLS access_by_lua_block { ngx.exit(403) } location /1.0 { $UP } }");
    let file = machine.configure("etc/nginx/conf.d/lxc.conf", &text);
    let output = machine.import(&file, &[]);
    assert_eq!(output.status.code(), Some(65), "{output}");
    assert!(output.stderr.contains("may be what keeps people out"), "{output}");
    // The advice is to be followed without harm.
    assert!(
        output.stderr.contains("`access_by_lua_file x;` in its place"),
        "{output}"
    );
    let text = text.replace("access_by_lua_block { ngx.exit(403) }", "access_by_lua_file x;");
    let file = machine.configure("etc/nginx/conf.d/lxc.conf", &text);
    let output = machine.import(&file, &[]);
    assert!(
        output.stdout.contains("listen = \"127.0.0.1:8554\"   # HELD BACK"),
        "{output}"
    );
}

#[test]
fn includes_start_at_the_folder_of_the_main_file() {
    let machine = Machine::new();
    machine.configure("etc/nginx/snippets/incus.conf", &long("$UP"));
    let text = long("server { listen 8554 ssl; $TLS location /1.0 { include snippets/incus.conf; } }");
    for (folder, has_main) in [("http.d", false), ("http.d", true), ("vhosts/ours", true)] {
        if has_main {
            machine.configure_around();
        }
        let file = machine.configure(&format!("etc/nginx/{folder}/x.conf"), &text);
        machine.import(&file, &[]).ok();
    }
    let file = machine.configure("srv/x.conf", &text);
    let output = machine.import(&file, &[]);
    assert_eq!(output.status.code(), Some(66), "{output}");
    assert!(
        output
            .stderr
            .contains("relative names start at the folder of nginx.conf"),
        "{output}"
    );
}

#[test]
fn what_the_main_file_has_around_counts() {
    let machine = Machine::new();
    let text = "server { listen 8554 ssl; location /1.0 { proxy_pass https://incus; } }";
    let around = "$TLS $SHOWN upstream incus { server 127.0.0.1:8443; }";
    for (guard, code) in [("", 0), ("some_module on;", 1), ("allow 192.0.2.1; deny all;", 0)] {
        let main = long(&format!(
            "events {{}} http {{ {around} {guard} include conf.d/*.conf; }}"
        ));
        machine.configure("etc/nginx/nginx.conf", &main);
        let written = imported(&machine, text, &[]);
        assert_eq!(written.code, code, "{}", written.stderr);
        assert_eq!(is_local(&written.public), code == 1, "{}", written.stdout);
        assert_eq!(
            written.stdout.contains("allow = [\"192.0.2.1/32\"]"),
            guard.contains("allow")
        );
        assert!(
            written.stdout.contains("url = \"https://127.0.0.1:8443\""),
            "{}",
            written.stdout
        );
    }
    machine.configure(
        "etc/nginx/nginx.conf",
        "http { access_by_lua_block { } include conf.d/*.conf; }",
    );
    let written = imported(&machine, text, &[]);
    assert!(
        written.code == 65 && written.stderr.contains("nginx.conf:1: `access_by_lua_block`"),
        "{}",
        written.stderr
    );
}

#[test]
fn many_findings_of_a_kind_are_one_line() {
    let machine = Machine::new();
    let conditions: String = (0..60)
        .map(|number| format!("if ($http_user_agent ~ bot{number}) {{ return 403; }}\n"))
        .collect();
    let text = format!("server {{ listen 8554 ssl; $TLS\n{conditions}location /1.0 {{ $UP }} }}");
    let written = imported(&machine, &text, &[]);
    assert!(written.stderr.lines().count() < 30, "{}", written.stderr);
    let first = written
        .stderr
        .lines()
        .find(|line| line.starts_with("  - "))
        .expect("a finding");
    assert!(
        first.contains("bot0)") && first.contains(" and 57 more. Decide"),
        "{first}"
    );
}
