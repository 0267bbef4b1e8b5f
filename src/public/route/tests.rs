use proptest::prelude::*;

use super::*;

const FINGERPRINT: &str = "b2e6a657f8a6a3449e45aa9969cfbd636c874becade63aed5a3aec60268b89ee";

fn parse(method: &str, target: &str) -> Result<PublicRoute, HttpError> {
    let method = Method::from_bytes(method.as_bytes()).expect("valid method");
    PublicRoute::parse(&method, &target.parse().expect("valid request target"))
}

fn get(target: &str) -> PublicRoute {
    parse("GET", target).unwrap_or_else(|refusal| panic!("{target}: {refusal}"))
}

fn refused(method: &str, target: &str) -> String {
    match parse(method, target) {
        Ok(route) => panic!("{method} {target} was read as {route:?}"),
        Err(refusal) => refusal.to_string(),
    }
}

fn prefix(text: &str) -> FingerprintPrefix {
    FingerprintPrefix::parse(text).expect("valid fingerprint prefix")
}

fn images(recursion: bool, filter: &str) -> PublicRoute {
    let filter = Filter::parse(filter).expect("valid filter");
    PublicRoute::Images(ImagesQuery { recursion, filter })
}

#[test]
fn six_routes_are_parsed() {
    assert_eq!(get("/1.0"), PublicRoute::Server);
    assert_eq!(get("/1.0?anything=goes"), PublicRoute::Server);
    assert_eq!(get("/1.0/images"), images(false, ""));
    assert_eq!(get("/1.0/images?filter=&recursion=1"), images(true, ""));
    assert_eq!(get("/1.0/images?recursion=2&project=default"), images(true, ""));
    assert_eq!(get("/1.0/images?recursion=0&recursion=1"), images(false, ""));
    assert_eq!(get("/1.0/images?recursion=yes"), images(false, ""));
    assert_eq!(
        get("/1.0/images?filter=type+eq%20container"),
        images(false, "type eq container")
    );
    assert_eq!(get("/1.0/images/b2"), PublicRoute::Image(prefix("b2")));
    assert_eq!(get("/1.0/images/b2?secret=x"), PublicRoute::Image(prefix("b2")));
    assert_eq!(
        get(&format!("/1.0/images/{FINGERPRINT}/export?project=default")),
        PublicRoute::Export(prefix(FINGERPRINT))
    );
    assert_eq!(get("/1.0/images/aliases"), PublicRoute::Aliases { recursion: false });
    assert_eq!(
        get("/1.0/images/aliases?recursion=1"),
        PublicRoute::Aliases { recursion: true }
    );
    assert_eq!(get("/1.0/images/aliases/a%2Fb"), PublicRoute::Alias("a/b".to_owned()));
    for (path, name) in [
        ("a/b", "a/b"),
        ("a//b%2F", "a//b/"),
        ("/a/", "/a/"),
        ("/", "/"),
        ("a/export", "a/export"),
    ] {
        let path = format!("/1.0/images/aliases/{path}");
        assert_eq!(get(&path), PublicRoute::Alias(name.to_owned()), "a slash may be bare");
    }
    assert_eq!(
        get("/1.0/images/aliases/crynux-node:v2.6.0"),
        PublicRoute::Alias("crynux-node:v2.6.0".to_owned())
    );
    assert_eq!(
        get("/1.0/images/aliases/a%252Fb"),
        PublicRoute::Alias("a%2Fb".to_owned()),
        "decoded once"
    );
    assert_eq!(
        get("/1.0/images/aliases/a+b"),
        PublicRoute::Alias("a+b".to_owned()),
        "in a path, + is a plus"
    );
}

#[test]
fn other_paths_are_not_public() {
    let outside = [
        "/",
        "/1.0/",
        "//1.0",
        "/1.0//images",
        "/1.0images",
        "/1.0x/images",
        "/1.0x/images/b2",
        "/1.0x/images/b2/export",
        "/1.0x/images/aliases",
        "/1.0x/images/aliases/a",
        "/1.0/images/",
        "/1.0/images//export",
        "/1.0/images/b2/",
        "/1.0/images/b2/export/",
        "/1.0/images/b2/junk",
        "/1.0/images/b2/x/export",
        "/1.0/images/b2/Export",
        "/1.0/images/b2/%65xport",
        "/1.0/images/./b2",
        "/1.0/images/../instances",
        "/1.0/images/%2e%2e",
        "/1.0/images/%ff",
        "/1.0/images/%",
        "/1.0/images/b2%0",
        "/1.0/images/b2%00",
        "/1.0/images/aliases/%zz",
        "/1.0/images/aliases/a%0ab",
        "/1.0/images/aliases/",
        "/1.0/images/aliases/..",
        "/1.0/images/aliases/a/../b",
        "/1.0/images/aliases/a/%2e",
        "/1.0/images/aliases/a/%zz",
        "/1.0/images/aliases/a/b%00",
        "/1.0/%69mages",
        "/%31.0",
        "/1.0/images%2Fb2",
        "/1.0/instances",
        "/1.0/events",
        "/1.1",
        "/internal/ready",
        "/os/1.0",
    ];
    for target in outside {
        for method in ["GET", "POST", "DELETE", "OPTIONS", "BREW"] {
            assert_eq!(
                refused(method, target),
                "Public access limited to image downloads only",
                "{method} {target}"
            );
        }
    }
}

#[test]
fn only_get_is_allowed() {
    for target in [
        "/1.0",
        "/1.0/images",
        "/1.0/images/b2",
        "/1.0/images/b2/export",
        "/1.0/images/aliases",
        "/1.0/images/aliases/a",
    ] {
        for method in ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get"] {
            assert_eq!(refused(method, target), "method not allowed", "{method} {target}");
        }
    }
}

#[test]
fn other_projects_are_rejected_with_the_errors_of_incus() {
    let default_only = "Unauthenticated image queries are only possible against the default project";
    assert_eq!(refused("GET", "/1.0/images?project=p2"), default_only);
    assert_eq!(refused("GET", "/1.0/images?project=p2&project=default"), default_only);
    assert_eq!(refused("GET", "/1.0/images?%70roject=p2"), default_only);
    assert_eq!(refused("GET", "/1.0/images?all-projects=TRUE"), default_only);
    assert_eq!(
        refused("GET", "/1.0/images?project=p2&all-projects=1"),
        "Cannot specify a project when requesting all projects"
    );
    assert_eq!(refused("GET", "/1.0/images/b2?project=p2"), "Image \"b2\" not found");
    assert_eq!(
        refused("GET", "/1.0/images/b2/export?project=p2"),
        "Image \"b2\" not found"
    );
    assert_eq!(
        refused("GET", "/1.0/images/aliases/a?project=p2"),
        "Image alias not found"
    );
    assert_eq!(refused("GET", "/1.0/images/aliases?project=p2"), "not authorized");
}

#[test]
fn an_invalid_fingerprint_is_not_found() {
    for name in ["nope", "B2", "%25", "b_", &"a".repeat(65)] {
        assert!(
            refused("GET", &format!("/1.0/images/{name}")).ends_with("not found"),
            "{name}"
        );
        assert!(
            refused("GET", &format!("/1.0/images/{name}/export")).ends_with("not found"),
            "{name}"
        );
    }
}

#[test]
fn alias_urls_are_escaped_as_in_go() {
    assert_eq!(alias_path("a/b:c d%é~"), "/1.0/images/aliases/a%2Fb:c%20d%25%C3%A9~");
}

proptest! {
    #[test]
    fn accepted_targets_have_one_of_six_forms(target in "/1\\.0(/|/images|/images/|/images/aliases/)?[a-z0-9%./_?&=;+-]{0,24}", method in "GET|HEAD|POST") {
        let Ok(uri) = target.parse::<Uri>() else { return Ok(()) };
        let method = Method::from_bytes(method.as_bytes()).expect("valid method");
        if let Ok(route) = PublicRoute::parse(&method, &uri) {
            prop_assert_eq!(method, Method::GET);
            let path = uri.path();
            let canonical = match route {
                PublicRoute::Server => path == "/1.0",
                PublicRoute::Images(_) => path == "/1.0/images",
                PublicRoute::Aliases { .. } => path == "/1.0/images/aliases",
                PublicRoute::Alias(_) => path.strip_prefix("/1.0/images/aliases/").is_some_and(|name| !name.is_empty()),
                PublicRoute::Image(prefix) | PublicRoute::Export(prefix) => {
                    prop_assert!(prefix.as_str().bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()));
                    path.matches('/').count() <= 4
                }
            };
            prop_assert!(canonical, "{}", path);
        }
    }
}
