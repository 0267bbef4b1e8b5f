//! Lifecycle events of Incus, reduced to what they say about the catalogue.
//!
//! Incus sends each event from a task of its own, so events of one moment arrive in any order. An event therefore only
//! names what to fetch anew.

use std::collections::BTreeSet;

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;

use super::super::image::DEFAULT_PROJECT;
use super::super::snapshot::Snapshot;

/// Number of digits of a full fingerprint.
const FINGERPRINT_DIGITS: usize = 64;

/// What may have changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// The images with one of these alias names, and the image that an alias names now.
    Alias { names: Vec<String>, target: Option<String> },
    /// Anything: the gateway does not know this action, or the event lacks what it should name.
    Anything(String),
    /// The image with this fingerprint was created.
    Created(String),
    /// The image with this fingerprint is about to be deleted: Incus reports it first.
    Deleted(String),
    /// The image with this fingerprint.
    Image(String),
    /// The image with this fingerprint, and another project may have it too. An event names the project of the request,
    /// which shares the images of the default project if it has none of its own.
    ImageElsewhere(String),
    /// The response to `/1.0`.
    Server,
}

/// The event does not have the form of an event.
#[derive(Debug)]
pub(super) struct Unreadable;

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    metadata: Value,
    project: Option<String>,
}

#[derive(Deserialize)]
struct Lifecycle {
    action: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    context: Value,
}

impl Change {
    /// Parses an event. Returns `None` if it does not affect the catalogue.
    pub(super) fn parse(event: &str) -> Result<Option<Self>, Unreadable> {
        let event: Event = serde_json::from_str(event).map_err(|_| Unreadable)?;
        if event.kind != "lifecycle" {
            return Ok(None);
        }
        let lifecycle = Lifecycle::deserialize(event.metadata).map_err(|_| Unreadable)?;
        Ok(lifecycle.change(event.project.is_none_or(|project| project == DEFAULT_PROJECT)))
    }

    /// Adds the fingerprints of the images that may have changed, as far as they or their alias are in the snapshot.
    pub(super) fn resolve(&self, snapshot: &Snapshot, images: &mut BTreeSet<String>) {
        match self {
            Self::Alias { names, target } => {
                let holders = names.iter().flat_map(|name| snapshot.images_with_alias(name));
                images.extend(holders.map(|image| image.fingerprint.clone()));
                images.extend(target.clone());
            }
            Self::Created(fingerprint)
            | Self::Deleted(fingerprint)
            | Self::Image(fingerprint)
            | Self::ImageElsewhere(fingerprint) => {
                images.insert(fingerprint.clone());
            }
            Self::Anything(_) | Self::Server => {}
        }
    }
}

impl Lifecycle {
    fn change(self, is_of_default_project: bool) -> Option<Change> {
        let change = match self.action.as_str() {
            "image-created" if is_of_default_project => self.image().map(Change::Created),
            "image-updated" if is_of_default_project => self.image().map(Change::Image),
            "image-created" | "image-updated" => self.image().map(Change::ImageElsewhere),
            // Reported only if no other project has the image.
            "image-deleted" => self.image().map(Change::Deleted),
            "image-alias-created" | "image-alias-updated" => self.alias(|| {
                let target = self.context("target").filter(|target| is_fingerprint(target))?;
                Some((None, Some(target)))
            }),
            "image-alias-deleted" => self.alias(|| Some((None, None))),
            "image-alias-renamed" => self.alias(|| Some((Some(self.context("old_name")?), None))),
            // Downloads, and tokens for them.
            "image-retrieved" | "image-secret-created" => return None,
            // The certificate may be the gateway's own.
            "certificate-created" | "certificate-deleted" | "certificate-updated" | "config-updated" => {
                Some(Change::Server)
            }
            action if action.starts_with("image-") || action.starts_with("cluster-") => None,
            // Images of other projects are not visible.
            action if action.starts_with("project-") && self.name().as_deref() == Some(DEFAULT_PROJECT) => None,
            _ => return None,
        };
        Some(change.unwrap_or(Change::Anything(self.action)))
    }

    fn alias(&self, context: impl Fn() -> Option<(Option<String>, Option<String>)>) -> Option<Change> {
        let (old_name, target) = context()?;
        Some(Change::Alias {
            names: self.name().into_iter().chain(old_name).collect(),
            target,
        })
        .filter(|_| self.source.starts_with("/1.0/images/aliases/"))
    }

    fn image(&self) -> Option<String> {
        let is_image = self.source.starts_with("/1.0/images/");
        self.name().filter(|name| is_image && is_fingerprint(name))
    }

    /// Returns the name of the object that the event is about: the last segment of its path.
    fn name(&self) -> Option<String> {
        let (path, _) = self.source.split_once('?').unwrap_or((&self.source, ""));
        let (_, name) = path.rsplit_once('/')?;
        percent_decode_str(name).decode_utf8().ok().map(Into::into)
    }

    fn context(&self, key: &str) -> Option<String> {
        self.context.get(key)?.as_str().map(ToOwned::to_owned)
    }
}

fn is_fingerprint(text: &str) -> bool {
    text.len() == FINGERPRINT_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FINGERPRINT: &str = "9064f96e012eedb3394bf37ae9a4f35e6b2e166e448d7b66a79439d843991109";

    fn parse(action: &str, source: &str, context: &Value, project: &str) -> Option<Change> {
        let event = json!({
            "location": "none",
            "metadata": { "action": action, "context": context, "requestor": { "username": "root" }, "source": source },
            "project": project,
            "timestamp": "2026-11-29T00:49:14.874762147Z",
            "type": "lifecycle",
        });
        Change::parse(&event.to_string()).expect("it has the form of an event")
    }

    #[test]
    fn each_action_names_what_may_have_changed() {
        let image = format!("/1.0/images/{FINGERPRINT}");
        let alias = |names: &[&str], target: Option<&str>| {
            Some(Change::Alias {
                names: names.iter().map(ToString::to_string).collect(),
                target: target.map(ToOwned::to_owned),
            })
        };
        let anything = |action: &str| Some(Change::Anything(action.to_owned()));
        let target = json!({ "target": FINGERPRINT });
        let none = Value::Null;
        type Make = fn(String) -> Change;
        let cases: [(_, Make, Make); 3] = [
            ("image-created", Change::Created, Change::ImageElsewhere),
            ("image-updated", Change::Image, Change::ImageElsewhere),
            ("image-deleted", Change::Deleted, Change::Deleted),
        ];
        for (action, here, elsewhere) in cases {
            let found = Some(here(FINGERPRINT.to_owned()));
            assert_eq!(parse(action, &image, &json!({ "type": "container" }), "default"), found);
            let found = Some(elsewhere(FINGERPRINT.to_owned()));
            assert_eq!(parse(action, &format!("{image}?project=p2"), &none, "p2"), found);
            assert_eq!(parse(action, "/1.0/images/5c41", &none, "default"), anything(action));
            assert_eq!(parse(action, "", &none, "default"), anything(action));
        }
        for action in ["image-alias-created", "image-alias-updated"] {
            let source = "/1.0/images/aliases/a%2Fb";
            assert_eq!(
                parse(action, source, &target, "default"),
                alias(&["a/b"], Some(FINGERPRINT))
            );
            assert_eq!(parse(action, source, &none, "default"), anything(action), "no target");
            assert_eq!(parse(action, "/1.0/x", &target, "default"), anything(action));
            assert_eq!(
                parse(action, source, &target, "p2"),
                alias(&["a/b"], Some(FINGERPRINT)),
                "its images may be those of the default project"
            );
        }
        let deleted = parse("image-alias-deleted", "/1.0/images/aliases/a?x=/y", &none, "default");
        assert_eq!(deleted, alias(&["a"], None));
        let renamed = |context| parse("image-alias-renamed", "/1.0/images/aliases/new", &context, "default");
        assert_eq!(renamed(json!({ "old_name": "o/d" })), alias(&["new", "o/d"], None));
        assert_eq!(renamed(none.clone()), anything("image-alias-renamed"));
        for action in ["image-retrieved", "image-secret-created"] {
            assert_eq!(parse(action, &image, &none, "default"), None);
        }
        assert_eq!(parse("config-updated", "/1.0", &none, "default"), Some(Change::Server));
        let of_certificate = parse("certificate-deleted", "/1.0/certificates/x", &none, "default");
        assert_eq!(of_certificate, Some(Change::Server));
        for action in ["image-refreshed", "image-moved", "cluster-member-removed"] {
            assert_eq!(parse(action, &image, &none, "default"), anything(action));
        }
        let of_project = |source| parse("project-updated", source, &none, "default");
        assert_eq!(of_project("/1.0/projects/default"), anything("project-updated"));
        assert_eq!(of_project("/1.0/projects/p2"), None);
        assert_eq!(parse("instance-started", "/1.0/instances/c", &target, "default"), None);
    }

    #[test]
    fn what_is_no_event_is_unreadable() {
        for text in [
            "",
            "{}",
            "[]",
            r#"{"type": "lifecycle"}"#,
            r#"{"type": "lifecycle", "metadata": {"source": "/1.0"}}"#,
        ] {
            assert!(Change::parse(text).is_err(), "{text}");
        }
        assert!(matches!(Change::parse(r#"{"type": "logging"}"#), Ok(None)));
    }
}
