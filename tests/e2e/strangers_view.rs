//! Strangers see what Incus itself shows to a client without a certificate, except for the named differences in
//! `strangers_view/differences.rs`. No response contains unpublished data, whatever the request is.
//!
//! Each line of the corpus is sent byte for byte to the gateway and to Incus.

mod corpus;
mod differences;
mod rules;
mod seen;
mod world;

use std::collections::HashSet;
use std::fmt::Write;
use std::net::SocketAddr;
use std::thread;

use corpus::AS_INCUS;
use differences::DIFFERENCES;
use rules::Rule;
use seen::{Seen, ask, ask_http2};
use testing::tls::TlsClient;
use testing::tls::http2::Http2;
use world::World;

/// Headers that give rights on Incus, or affect it; on the public port they have no effect.
const POWERFUL: &str = "Authorization: Bearer eyJhbGciOiJub25lIn0.e30.\r\n\
    Cookie: oidc_access=x; oidc_refresh=x; oidc_identity=x; session=x\r\n\
    Origin: https://localhost\r\n\
    User-Agent: incus-cluster-notifier\r\n\
    X-Incus-Forwarded-Address: 127.0.0.1\r\n\
    X-Incus-Forwarded-Protocol: unix\r\n\
    X-Incus-Forwarded-Username: root\r\n\
    X-Incus-Public: true\r\n\
    X-Incus-Secret: x\r\n\
    X-Forwarded-For: 127.0.0.1\r\n\
    X-Forwarded-Proto: http\r\n\
    X-HTTP-Method-Override: DELETE\r\n\
    X-Original-URL: /1.0/instances\r\n\
    X-Real-IP: 127.0.0.1\r\n\
    SSL-Client-Verify: SUCCESS\r\n";

const THREADS: usize = 6;

/// One line of the corpus and its results.
struct Compared {
    rule: &'static Rule,
    line: String,
    incus: Seen,
    expected: Seen,
    /// The gateway's responses, by protocol.
    answers: [(&'static str, Option<Seen>); 3],
}

#[test]
fn strangers_see_what_incus_itself_shows_them() {
    let world = World::create();
    let lines = corpus_of(&world);
    let distinct: HashSet<&String> = lines.iter().map(|(_, line)| line).collect();
    assert!(distinct.len() >= 60, "only {} different lines", distinct.len());
    assert_eq!(distinct.len(), lines.len(), "a line stands twice");

    let compared = in_parallel(&lines, world.scene.gateway.public(), |(rule, line), http2| {
        compare(&world, rule, line, http2)
    });
    let mut table = String::new();
    for one in &compared {
        one.write_differences(&mut table);
    }
    assert!(table.is_empty(), "{} lines were compared\n{table}", compared.len());

    // A rule without a difference would hide errors of the gateway.
    for rule in DIFFERENCES {
        let of_rule = |one: &&Compared| std::ptr::eq(one.rule, rule);
        let differs = compared.iter().filter(of_rule).any(|one| one.incus != one.expected);
        assert!(differs, "Incus does the same: {}", rule.name);
    }

    let raw = compared
        .iter()
        .flat_map(|one| one.answers.iter().filter_map(|(_, seen)| seen.as_ref()));
    for seen in raw {
        world.assert_discloses_nothing(seen);
    }
    // Otherwise the test would prove nothing.
    world.assert_incus_would_disclose();
}

#[test]
fn an_admins_token_gives_no_access() {
    let world = World::create();
    let token = world.scene.setup.local.token();
    let by_header = format!("Authorization: Bearer {token}\r\n");
    let by_query = format!("?access_token={token}");
    let incus = world.scene.incus.address();
    let public = world.scene.gateway.public();

    let trusted = get(incus, "/1.0/images", &by_header);
    assert!(
        trusted.contains(&world.private),
        "the token is worth something: {trusted:?}"
    );
    for path in [
        "/1.0",
        "/1.0/images",
        "/1.0/images?recursion=1",
        "/1.0/images/aliases",
        "/1.0/instances",
    ] {
        let plain = get(public, path, "");
        assert_eq!(get(public, path, &by_header), plain, "{path}");
        if !path.contains('?') {
            assert_eq!(get(public, &format!("{path}{by_query}"), ""), plain, "{path}");
        }
    }
    let private = format!("/1.0/images/{}", world.private);
    assert_eq!(get(public, &private, &by_header).status, 404);
    assert_eq!(get(public, &format!("{private}/export{by_query}"), "").status, 404);
}

#[test]
fn an_image_secret_gives_no_access_and_is_not_consumed() {
    let world = World::create();
    let path = format!("/1.0/images/{}/secret", world.private);
    let operation = world.scene.incus.run(&["query", "--request=POST", &path]).ok();
    let operation: serde_json::Value = serde_json::from_str(&operation).unwrap();
    let secret = operation["metadata"]["secret"].as_str().unwrap();

    for suffix in ["", "/export"] {
        let path = format!("/1.0/images/{}{suffix}?secret={secret}", world.private);
        assert_eq!(get(world.scene.gateway.public(), &path, "").status, 404, "{suffix}");
        let header = format!("X-Incus-Secret: {secret}\r\n");
        assert_eq!(
            get(world.scene.gateway.public(), &path, &header).status,
            404,
            "{suffix}"
        );
    }
    let path = format!("/1.0/images/{}/export?secret={secret}", world.private);
    assert_eq!(
        get(world.scene.incus.address(), &path, "").status,
        200,
        "it is still good for Incus"
    );
}

fn corpus_of(world: &World) -> Vec<(&'static Rule, String)> {
    let of_rule = |rule: &'static Rule| rule.lines.iter().map(move |line| (rule, world.fill_in(line)));
    AS_INCUS.iter().chain(DIFFERENCES).flat_map(of_rule).collect()
}

fn compare(world: &World, rule: &'static Rule, line: &str, http2: &mut Http2) -> Compared {
    let public = world.scene.gateway.public();
    let incus = ask(world.scene.incus.address(), line, "");
    Compared {
        rule,
        line: line.to_owned(),
        expected: (rule.expected)(world, line, incus.clone()),
        incus,
        answers: [
            ("HTTP/1.1", Some(ask(public, line, ""))),
            ("with powerful headers", Some(ask(public, line, POWERFUL))),
            ("HTTP/2", ask_http2(http2, line)),
        ],
    }
}

impl Compared {
    /// Writes a block for each answer that is not the expected one.
    fn write_differences(&self, table: &mut String) {
        for (how, seen) in &self.answers {
            let Some(seen) = seen.as_ref().filter(|seen| **seen != self.expected) else {
                continue;
            };
            let Self {
                rule,
                line,
                incus,
                expected,
                ..
            } = self;
            let name = rule.name;
            writeln!(
                table,
                "\n{line}    [{name}] [{how}]\n  expected {expected}\n  came     {seen}\n  Incus    {incus}"
            )
            .expect("a string takes all");
        }
    }
}

/// Returns the results in the order of the lines. Each thread has its own HTTP/2 connection.
fn in_parallel(
    lines: &[(&'static Rule, String)],
    public: SocketAddr,
    work: impl Fn(&(&'static Rule, String), &mut Http2) -> Compared + Sync,
) -> Vec<Compared> {
    let in_order = |lines: &[(&'static Rule, String)]| {
        let mut http2 = TlsClient::tls13().connect_http2(public).expect("everybody may connect");
        lines.iter().map(|line| work(line, &mut http2)).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let chunks = lines.chunks(lines.len().div_ceil(THREADS));
        let threads: Vec<_> = chunks.map(|chunk| scope.spawn(move || in_order(chunk))).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("a thread that compares"))
            .collect()
    })
}

fn get(address: SocketAddr, path: &str, headers: &str) -> Seen {
    ask(address, &format!("GET {path}"), headers)
}
