//! Derives the expected response from Incus's response: the same, or one of the named differences.

use serde_json::{Value, json};

use super::seen::Seen;
use super::world::World;

/// A part of the corpus.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    /// Computes the expected response from the line and Incus's response.
    pub(crate) expected: fn(&World, &str, Seen) -> Seen,
    /// `METHOD target`
    pub(crate) lines: &'static [&'static str],
}

pub(crate) const NOT_PUBLIC: &str = "Public access limited to image downloads only";

/// The same response as Incus.
pub(crate) fn same(_: &World, _: &str, incus: Seen) -> Seen {
    incus
}

/// Everything outside the six routes gets the same error, for any method.
pub(crate) fn not_public(_: &World, line: &str, _: Seen) -> Seen {
    headless(line, Seen::refusal(403, NOT_PUBLIC))
}

/// Existing resources can be read, and nothing else.
pub(crate) fn only_get(_: &World, line: &str, _: Seen) -> Seen {
    let mut expected = Seen::refusal(405, "method not allowed");
    expected.allow = Some("GET".to_owned());
    headless(line, expected)
}

/// The source of an image, its last use and its profiles are hidden.
pub(crate) fn without_private_fields(_: &World, _: &str, incus: Seen) -> Seen {
    incus.with_metadata(|metadata| match metadata {
        Value::Array(images) => images.iter_mut().for_each(neutral),
        image => neutral(image),
    })
}

fn neutral(image: &mut Value) {
    // Anything that is no image is compared unchanged.
    let Some(fields) = image.as_object_mut() else { return };
    fields.remove("update_source");
    fields.insert("last_used_at".to_owned(), "0001-01-01T00:00:00Z".into());
    fields.insert("profiles".to_owned(), json!([]));
}

/// The server reports that it is public, so that `incus remote add` needs no trust token, and hides its configuration.
pub(crate) fn cut_server(_: &World, _: &str, incus: Seen) -> Seen {
    incus.with_metadata(|metadata| {
        let fields = metadata.as_object_mut().expect("the server is an object");
        fields.retain(|key, _| key.starts_with("api_") || key == "auth_methods");
        fields.insert("auth".to_owned(), "untrusted".into());
        fields.insert("config".to_owned(), json!({}));
        fields.insert("public".to_owned(), true.into());
    })
}

/// Strangers may list the aliases of published images.
pub(crate) fn published_aliases(world: &World, line: &str, _: Seen) -> Seen {
    let mut aliases = Vec::new();
    for image in world.published() {
        for alias in image["aliases"].as_array().expect("aliases are a list") {
            let name = alias["name"].as_str().expect("a name");
            // Each alias is compared with Incus's response for this alias.
            let path = format!("/1.0/images/aliases/{}", name.replace('/', "%2F"));
            let alias = world.incus(&format!("GET {path}"));
            aliases.push(match line.contains("recursion=1") {
                true => alias.metadata().clone(),
                false => path.into(),
            });
        }
    }
    assert!(aliases.len() > 5, "{aliases:?}");
    Seen::success(aliases.into())
}

/// No wildcards and no upper case: an invalid fingerprint matches no image.
pub(crate) fn no_such_image(_: &World, line: &str, _: Seen) -> Seen {
    Seen::refusal(404, &format!("Image \"{}\" not found", name_in(line)))
}

/// A prefix is resolved among published images; private ones cannot make it ambiguous.
pub(crate) fn resolved_among_the_published(world: &World, line: &str, _: Seen) -> Seen {
    let prefix = name_in(line);
    let published = world.published();
    let fingerprints = published
        .iter()
        .map(|image| image["fingerprint"].as_str().expect("a fingerprint"));
    let matching: Vec<&str> = fingerprints
        .filter(|fingerprint| fingerprint.starts_with(&prefix))
        .collect();
    match matching.as_slice() {
        [] => no_such_image(world, line, Seen::success(Value::Null)),
        [fingerprint] => {
            let answer = world.incus(&line.replacen(&format!("/{prefix}"), &format!("/{fingerprint}"), 1));
            match line.ends_with("/export") {
                true => answer,
                false => without_private_fields(world, line, answer),
            }
        }
        _ => Seen::refusal(500, "More than one image matches"),
    }
}

/// Other projects are hidden, including their published images and their existence.
pub(crate) fn nothing_of_other_projects(world: &World, line: &str, incus: Seen) -> Seen {
    match line.contains("/aliases/") {
        true => Seen::refusal(404, "Image alias not found"),
        false => no_such_image(world, line, incus),
    }
}

/// Hidden fields cannot be used in filters: the error is that for unknown fields. The same is true of the names
/// of aliases, on which Incus's handler panics.
pub(crate) fn no_such_field(_: &World, line: &str, _: Seen) -> Seen {
    let (_, filter) = line.split_once("filter=").expect("a filter");
    let field = filter.split("%20").next().expect("a field");
    Seen::refusal(500, &format!("Invalid type \"invalid\" for field {field:?}"))
}

/// A request has no fragment (RFC 9112 §3.2); if there is one, it is ignored.
pub(crate) fn as_without_fragment(world: &World, line: &str, _: Seen) -> Seen {
    let (line, _) = line.split_once('#').expect("a fragment");
    let answer = world.incus(line);
    match line {
        "GET /1.0" => cut_server(world, line, answer),
        _ => same(world, line, answer),
    }
}

/// Returns the decoded image name of a line.
fn name_in(line: &str) -> String {
    let (_, rest) = line.split_once("/images/").expect("an image's path");
    let name = rest.split(['/', '?']).next().expect("a name");
    percent_encoding::percent_decode_str(name)
        .decode_utf8_lossy()
        .into_owned()
}

fn headless(line: &str, expected: Seen) -> Seen {
    match line.starts_with("HEAD ") {
        true => expected.without_content(),
        false => expected,
    }
}
