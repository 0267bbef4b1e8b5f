use serde_json::json;

use super::*;
use crate::config::Images;

fn request(path: &str, headers: &[(HeaderName, &str)]) -> Request<()> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    request.body(()).expect("a request")
}

#[test]
fn only_browsers_ask_for_it() {
    let asks = |path: &str, accept: &str| PageRequest::of(&request(path, &[(ACCEPT, accept)])).is_some();
    assert!(asks("/", "text/html,application/xhtml+xml,*/*;q=0.8"));
    assert!(asks("/?q=debian", "application/json, TEXT/HTML; charset=utf-8; q=0.1"));
    assert!(!asks("/", "*/*"));
    assert!(!asks("/", "text/*"));
    assert!(!asks("/", "text/html;q=0"));
    assert!(!asks("/1.0", "text/html"));
    assert!(!asks("//", "text/html"));
    let post = Request::post("/")
        .header(ACCEPT, "text/html")
        .body(())
        .expect("a request");
    assert!(PageRequest::of(&post).is_none());
}

#[test]
fn a_search_is_no_longer_than_people_type() {
    let asked = |search: &str| {
        let path = format!("/?q={search}");
        PageRequest::of(&request(&path, &[(ACCEPT, "text/html")])).expect("a browser's")
    };
    assert_eq!(asked("debian+12").words, ["debian", "12"]);
    let long = asked(&"a+".repeat(30_000));
    assert!(long.words.len() <= 100, "{} words", long.words.len());
    assert!(long.search.len() <= 200, "{} bytes", long.search.len());
}

#[test]
fn a_host_that_a_shell_might_read_otherwise_is_none() {
    let host = |value: &str| {
        let asked = PageRequest::of(&request("/", &[(ACCEPT, "text/html"), (HOST, value)]));
        asked.expect("a browser's").host
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
    ] {
        assert_eq!(host(hostile).to_string(), "THIS-SERVER", "{hostile}");
    }
}

#[test]
fn of_many_images_the_first_are_shown_and_the_others_are_found() {
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
    let snapshot = Snapshot::parse(server.as_bytes(), images.as_bytes(), Images::Public).expect("as Incus has it");
    let snapshot = Arc::new(snapshot);
    let page = |path: &str| {
        let asked = PageRequest::of(&request(path, &[(ACCEPT, "text/html"), (HOST, "lxc.example.org")]));
        let parts = asked.expect("a browser's").parts(None, Arc::clone(&snapshot));
        parts
            .map(|part| String::from_utf8(part.to_vec()).expect("text"))
            .collect::<String>()
    };
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
    assert!(whole.contains("<li>3.0 GiB</li>") && !whole.contains("0001-01-01"));

    let last = page("/?q=IMAGE%2F209+virtual");
    assert_eq!(shown(&last), 1);
    assert!(last.contains("1 of 210 images"), "{last}");
    assert_eq!(shown(&page("/?q=none")), 0);
}
