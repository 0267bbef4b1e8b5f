//! Incus's responses from which the catalogue is built: `/1.0` on the first line, the list of images on the second.
//!
//! The result is a snapshot or an error. The public content of a snapshot is the same whether or not the list contains
//! images that are not public; it has no fields but those named here; and each alias belongs to a published image.

use edge::response::ReplyBody;
use http::HeaderMap;
use incus_gate::config::Visibility;
use incus_gate::public::cached_response::CachedJson;
use incus_gate::public::snapshot::Snapshot;
use serde_json::Value;

const FIELDS: [&str; 15] = [
    "aliases",
    "architecture",
    "auto_update",
    "cached",
    "created_at",
    "expires_at",
    "filename",
    "fingerprint",
    "last_used_at",
    "profiles",
    "project",
    "properties",
    "public",
    "size",
    "type",
];
const UPLOADED: &str = "uploaded_at";

pub fn holds(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (server, images) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    for shown in [Visibility::Public, Visibility::All] {
        let Ok(snapshot) = Snapshot::parse(server, images, shown) else {
            continue;
        };
        let public_content = public_content(&snapshot);
        // The entries of images that are not public may be malformed in any way.
        let Ok(mut list) = serde_json::from_slice::<Value>(images) else {
            is_of_the_form(&public_content, snapshot.number_of_images());
            continue;
        };
        // serde also accepts a struct as an array of its values.
        let metadata = match list.is_array() {
            true => &mut list[0],
            false => &mut list["metadata"],
        };
        let all = metadata.as_array_mut().expect("the snapshot was built from it");
        let is_theirs = |image: &Value| {
            let is_default = image.get("project").is_none_or(|project| project == "default");
            is_default && (shown == Visibility::All || image["public"] == true)
        };
        all.retain(is_theirs);
        let number = all.len();
        let without =
            Snapshot::parse(server, list.to_string().as_bytes(), shown).expect("a subset of a valid list is valid");
        assert!(snapshot.is_same(&without));
        assert_eq!(
            public_content,
            self::public_content(&without),
            "what is hidden makes a difference"
        );
        assert_eq!(snapshot.number_of_images(), number);
        is_of_the_form(&public_content, number);
    }
}

/// Returns all public content as text: `/1.0`, images and their paths, aliases and their paths.
fn public_content(snapshot: &Snapshot) -> [Value; 5] {
    let lists = [&snapshot.images, &snapshot.aliases];
    let [[images, image_paths], [aliases, alias_paths]] =
        lists.map(|list| [true, false].map(|depth| text(list.get(depth))));
    [text(&snapshot.server), images, image_paths, aliases, alias_paths]
}

fn text(document: &CachedJson) -> Value {
    let ReplyBody::Whole(Some(body)) = document.reply(&HeaderMap::new()).into_body() else {
        panic!("a document has a body");
    };
    let mut answer: Value = serde_json::from_slice(&body).expect("a document is JSON");
    answer["metadata"].take()
}

fn is_of_the_form([server, images, image_paths, aliases, alias_paths]: &[Value; 5], number: usize) {
    for (key, value) in server.as_object().expect("an object") {
        let is_known = key.starts_with("api_") || ["auth", "auth_methods", "config", "public"].contains(&key.as_str());
        assert!(is_known, "{key}");
        assert!(key != "auth" || value == "untrusted");
        assert!(key != "config" || value == &Value::Object(serde_json::Map::new()));
    }
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let (images, aliases) = (list(images), list(aliases));
    assert_eq!([images.len(), list(image_paths).len()], [number; 2]);
    assert_eq!(aliases.len(), list(alias_paths).len());
    for image in &images {
        let fields = image.as_object().expect("an object");
        assert!(
            fields
                .keys()
                .all(|key| FIELDS.contains(&key.as_str()) || key == UPLOADED),
            "{image}"
        );
        assert_eq!(
            [&image["profiles"], &image["last_used_at"]],
            [&Value::Array(Vec::new()), &Value::from("0001-01-01T00:00:00Z")]
        );
        let digits = image["fingerprint"].as_str().expect("a string");
        let is_one = (1..=64).contains(&digits.len()) && digits.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
        assert!(is_one, "{digits:?} becomes a path");
    }
    for alias in aliases {
        let names = |image: &&Value| {
            let names = image["aliases"].as_array().expect("a list");
            image["fingerprint"] == alias["target"] && names.iter().any(|name| name["name"] == alias["name"])
        };
        assert!(images.iter().any(|image| names(&image)), "{alias}");
    }
}
