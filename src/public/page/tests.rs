use http::header::HOST;
use serde_json::json;

use super::*;
use crate::config::Visibility;
use crate::public::evaluation::Evaluation;
use crate::public::image::Image;

fn request(path: &str, headers: &[(HeaderName, &str)]) -> Request<()> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    request.body(()).expect("valid request")
}

#[test]
fn only_requests_that_accept_html_get_the_page() {
    let is_page_request = |path: &str, accept: &str| PageRequest::of(&request(path, &[(ACCEPT, accept)])).is_some();
    assert!(is_page_request("/", "text/html,application/xhtml+xml,*/*;q=0.8"));
    assert!(is_page_request(
        "/?q=debian",
        "application/json, TEXT/HTML; charset=utf-8; q=0.1"
    ));
    assert!(!is_page_request("/", "*/*"));
    assert!(!is_page_request("/", "text/*"));
    assert!(!is_page_request("/", "text/html;q=0"));
    assert!(!is_page_request("/1.0", "text/html"));
    assert!(!is_page_request("//", "text/html"));
    let post = Request::post("/")
        .header(ACCEPT, "text/html")
        .body(())
        .expect("valid request");
    assert!(PageRequest::of(&post).is_none());
}

#[test]
fn long_searches_are_truncated() {
    let page_request = |search: &str| {
        let path = format!("/?q={search}");
        PageRequest::of(&request(&path, &[(ACCEPT, "text/html")])).expect("a request for the page")
    };
    let words = |page_request: &PageRequest| match page_request.selector() {
        Selector::Words(words) => words,
        Selector::Filter(_) => panic!("a search is no filter"),
    };
    assert_eq!(words(&page_request("debian+12+DEBIAN")), ["12", "debian"]);
    let long = page_request(&"a+%c3%84+".repeat(6_000));
    assert_eq!(words(&long), ["a", "ä"]);
    assert!(long.search.chars().count() <= 200, "{}", long.search);
}

#[test]
fn hosts_unsafe_in_a_shell_are_replaced() {
    let host = |value: &str| {
        let page_request = PageRequest::of(&request("/", &[(ACCEPT, "text/html"), (HOST, value)]));
        page_request.expect("a request for the page").host
    };
    let named = host("LXC.example.org:8554");
    assert_eq!(
        (named.to_string(), named.remote()),
        ("LXC.example.org:8554".to_owned(), "lxc".to_owned())
    );
    assert_eq!(named.url(), "https://LXC.example.org:8554");
    assert_eq!(host("lxc.example.org").url(), "https://lxc.example.org:443");
    let numbered = host("[2001:db8::1]:8554");
    assert_eq!(
        (numbered.to_string(), numbered.remote()),
        ("[2001:db8::1]:8554".to_owned(), "published".to_owned())
    );
    for taken in [
        "images.example.org",
        "IMAGES.example.org:8554",
        "Local.example.org",
        "localhost:8554",
        "ubuntu-minimal-daily.example.org",
    ] {
        assert_eq!(
            host(taken).remote(),
            "published",
            "clients have a remote of that name: {taken}"
        );
    }
    assert_eq!(host("images2.example.org").remote(), "images2");
    for hostile in [
        "$(reboot)",
        "a;b",
        "a'b",
        "a@b",
        "a b",
        "<b>",
        "a[::1]:80",
        "[::1",
        "[a]",
        "a:",
        "a:b",
        ":80",
        // No name is as long, and the page repeats it hundreds of times.
        &format!("{}.example.org", "a".repeat(260)),
    ] {
        assert_eq!(host(hostile).to_string(), "THIS-SERVER", "{hostile}");
    }
}

#[test]
fn images_beyond_the_page_limit_are_found_by_search() {
    let image = |number: usize| {
        json!({
            "public": true, "architecture": "x86_64", "fingerprint": format!("{number:064x}"), "size": 3_i64 << 30,
            "type": "virtual-machine", "aliases": [{"name": format!("image/{number:03}")}],
            "uploaded_at": "0001-01-01T00:00:00Z",
        })
    };
    let images: Vec<_> = (0..MAX_SHOWN + 10).map(image).collect();
    let server = json!({"metadata": {"auth": "trusted"}}).to_string();
    let images = json!({ "metadata": images }).to_string();
    let snapshot = Snapshot::parse(server.as_bytes(), images.as_bytes(), Visibility::Public).expect("valid image list");
    let snapshot = Arc::new(snapshot);
    let rendered = |path: &str, page: &Page| {
        let page_request = PageRequest::of(&request(path, &[(ACCEPT, "text/html"), (HOST, "lxc.example.org")]));
        let page_request = page_request.expect("a request for the page");
        let selector = page_request.selector();
        let matches = Evaluation::new(&snapshot, &selector).advance(|| false);
        let matches = matches.expect("evaluation finishes").expect("words are simple");
        let (parts, _) = page_request.parts(page, Arc::clone(&snapshot), &matches);
        parts
            .map(|part| String::from_utf8(part.to_vec()).expect("valid UTF-8"))
            .collect::<String>()
    };
    let plain = Page {
        title: None,
        simplestreams: false,
    };
    let page = |path: &str| rendered(path, &plain);
    let shown = |page: &str| page.matches("<li id=").count();

    let whole = page("/");
    assert_eq!(shown(&whole), MAX_SHOWN);
    assert!(
        whole.contains("The first 200 of 210 images. Search to find the others."),
        "{whole}"
    );
    assert!(
        !whole.contains("data-whole"),
        "the script must not look among these alone"
    );
    assert!(whole.contains("<code>incus launch lxc:image/000 --vm</code>"));
    assert!(!whole.contains("simplestreams"));
    let with_simplestreams = Page {
        title: None,
        simplestreams: true,
    };
    let whole = rendered("/", &with_simplestreams);
    for client in ["incus", "lxc"] {
        let add = format!("<code>{client} remote add lxc https://lxc.example.org:443 --protocol=simplestreams</code>");
        assert!(whole.contains(&add), "{whole}");
    }
    assert!(whole.contains("<li>3.0 GiB</li>") && !whole.contains("0001-01-01"));

    let last = page("/?q=IMAGE%2F209+virtual");
    assert_eq!(shown(&last), 1);
    assert!(last.contains("1 of 210 images"), "{last}");
    assert_eq!(shown(&page("/?q=none")), 0);
}

/// Aliases of an image, and the image argument expected in its launch command.
#[test]
fn the_launch_command_is_safe_in_a_shell() {
    let fingerprint = "ab".repeat(32);
    let launch = |names: &[&str]| {
        let aliases: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
        let image: Image = serde_json::from_value(json!({
            "public": true, "architecture": "x86_64", "fingerprint": fingerprint, "size": 1, "type": "container",
            "aliases": aliases, "uploaded_at": "2026-11-21T00:00:00Z",
        }))
        .expect("valid image list");
        view::launch(&image, &fingerprint[..12], "published")
    };
    let by_fingerprint = format!("published:{}", &fingerprint[..12]);
    for (names, expected) in [
        (&["crynux-node:v2.6.0"][..], "published:crynux-node:v2.6.0"),
        (&["a=b,c%d@e+f_g.h/i-j"], "published:a=b,c%d@e+f_g.h/i-j"),
        (&["two words", "plain"], "published:plain"),
        (&["two  words"], "'published:two  words'"),
        (
            &["~$(reboot)`id`;#*?![a]{b,c}&|<>^\""],
            "'published:~$(reboot)`id`;#*?![a]{b,c}&|<>^\"'",
        ),
        (&["größe"], "'published:größe'"),
        (&["it's", "it is"], "'published:it is'"),
        (&["it's"], &by_fingerprint),
        (&["a\\"], &by_fingerprint),
        (&["a\u{2019}b"], &by_fingerprint),
        (&["a\u{202e}b"], &by_fingerprint),
        (&["a\nb"], &by_fingerprint),
        (&[""], &by_fingerprint),
        (&[], &by_fingerprint),
    ] {
        let command = launch(names);
        assert_eq!(command, format!("incus launch {expected}"), "{names:?}");
        let image = expected.trim_matches('\'');
        for shell in ["sh", "bash"] {
            let script = format!("incus() {{ printf '%s\\n' \"$@\"; }}; {command}");
            let output = std::process::Command::new(shell).args(["-c", &script]).output();
            let output = output.expect("the shell starts");
            let words = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(words, format!("launch\n{image}\n"), "{shell} of {command}");
        }
    }
}
