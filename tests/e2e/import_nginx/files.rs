//! Files are read as Nginx reads them, with what other files contribute; what cannot be read is refused.

use super::cases::{imported, is_local, long};
use super::machine::Machine;

#[test]
fn a_byte_order_mark_and_lua_are_refused_with_safe_advice() {
    let machine = Machine::new();
    machine.configure_around();
    let text = long("\u{feff}server { listen 8554 ssl; $TLS location /1.0 { $UP } }\n$PUBLIC");
    let file = machine.configure("etc/nginx/conf.d/lxc.conf", &text);
    let output = machine.import(&file, &[]);
    assert_eq!(output.status.code(), Some(65), "{output}");
    assert!(
        output.stderr.contains("byte order mark, which Nginx rejects"),
        "{output}"
    );
    machine.nginx_test().fails();

    let text = long("server { listen 8554 ssl; $TLS access_by_lua_block { ngx.exit(403) } location /1.0 { $UP } }");
    let file = machine.configure("etc/nginx/conf.d/lxc.conf", &text);
    let output = machine.import(&file, &[]);
    assert_eq!(output.status.code(), Some(65), "{output}");
    assert!(output.stderr.contains("may reject requests"), "{output}");
    // Following the advice opens nothing.
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
        output.stderr.contains("names are relative to the folder of nginx.conf"),
        "{output}"
    );
}

#[test]
fn directives_of_the_main_file_apply() {
    let machine = Machine::new();
    let text = "server { listen 8554 ssl; location /1.0 { proxy_pass https://incus; } }";
    let around = "$TLS $SHOWN upstream incus { server 127.0.0.1:8443; }";
    for (directive, code) in [("", 0), ("some_module on;", 1), ("allow 192.0.2.1; deny all;", 0)] {
        let main = long(&format!(
            "events {{}} http {{ {around} {directive} include conf.d/*.conf; }}"
        ));
        machine.configure("etc/nginx/nginx.conf", &main);
        let written = imported(&machine, text, &[]);
        assert_eq!(written.code, code, "{}", written.stderr);
        assert_eq!(is_local(&written.public), code == 1, "{}", written.stdout);
        assert_eq!(
            written.stdout.contains("allow = [\"192.0.2.1/32\"]"),
            directive.contains("allow")
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
