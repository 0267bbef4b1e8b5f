//! What a stranger gets from Incus and from the gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::Value;
use simplestreams::{Family, Parsed, Products, View};
use testing::client::{Answer, Curl};
use testing::images::{export_fingerprint, sha256};
use testing::scene::Scene;
use testing::tls::{Raw, TlsClient};

/// Fields that describe the server and not the image.
const OF_THE_SERVER: [&str; 3] = ["last_used_at", "profiles", "update_source"];

/// A client without a certificate.
pub(crate) struct Stranger<'a> {
    scene: &'a Scene,
    incus: Raw,
    gateway: Raw,
}

/// The list of images in `/1.0`, and the fingerprint of each alias.
#[derive(Debug, PartialEq)]
pub(crate) struct Lists {
    images: BTreeMap<String, Value>,
    aliases: BTreeMap<String, String>,
}

/// The list of products, as each family of clients sees it.
#[derive(Debug)]
pub(crate) struct Listed(Parsed<Products>);

impl<'a> Stranger<'a> {
    pub(crate) fn of(scene: &'a Scene) -> Self {
        Self {
            scene,
            incus: connect(scene.incus.address()),
            gateway: connect(scene.gateway.public()),
        }
    }

    pub(crate) fn lists_of_incus(&mut self) -> Lists {
        Lists::of(&mut self.incus)
    }

    pub(crate) fn lists_of_gateway(&mut self) -> Lists {
        let lists = Lists::of(&mut self.gateway);
        // Incus lists aliases for clients with a certificate only.
        let (_, list) = metadata(&mut self.gateway, "/1.0/images/aliases?recursion=1");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let aliases = list.as_array().expect("a list").iter();
        let aliases = aliases.map(|alias| (text(&alias["name"]), text(&alias["target"])));
        Lists {
            aliases: aliases.collect(),
            ..lists
        }
    }

    /// Compares the answers for each image and each name.
    pub(crate) fn compare_each(&mut self, fingerprints: &[String], names: &[&str]) {
        let images = fingerprints.iter().flat_map(|fingerprint| {
            [fingerprint.as_str(), &fingerprint[..12]].map(|name| format!("/1.0/images/{name}"))
        });
        let names = names.iter().map(|name| {
            let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
            format!("/1.0/images/aliases/{name}")
        });
        for path in images.chain(names) {
            let (incus, gateway) = (metadata(&mut self.incus, &path), metadata(&mut self.gateway, &path));
            assert_eq!(gateway, incus, "{path}");
        }
    }

    /// Compares whether each image can be downloaded, and the fingerprints of the downloads.
    pub(crate) fn compare_downloads(&self, fingerprints: &[String]) {
        for fingerprint in fingerprints {
            let path = format!("/1.0/images/{fingerprint}/export");
            let gateway = self.scene.get(&path);
            let incus = Curl::get(format!("{}{path}", self.scene.incus.url())).answer();
            assert_eq!(gateway.status, incus.status, "{path}");
            if gateway.status == 200 {
                assert_eq!(&export_fingerprint(&gateway), fingerprint);
            }
        }
    }

    pub(crate) fn simplestreams(&self) -> Listed {
        let answer = self.scene.get("/streams/v1/images.json");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let parsed = Products::parse(&answer.body).expect("a list of products");
        assert_eq!(simplestreams::check(&[&parsed]), []);
        Listed(parsed)
    }

    /// Downloads the files of each image and compares their hashes. Returns their paths.
    pub(crate) fn compare_files(&self, listed: &Listed) -> BTreeSet<String> {
        for family in Family::ALL {
            for image in &View::of(family, &[&listed.0]).images {
                let files = image.files.iter().map(|file| {
                    let answer: Answer = self.scene.get(&format!("/{}", file.path));
                    assert_eq!(answer.status, 200, "{}", file.path);
                    assert!(file.path.contains(&sha256(&[&answer.body])), "{}", file.path);
                    answer.body
                });
                let files: Vec<_> = files.collect();
                let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
                assert_eq!(sha256(&files), image.fingerprint);
            }
        }
        self.paths_of(listed)
    }

    pub(crate) fn paths_of(&self, listed: &Listed) -> BTreeSet<String> {
        let views = Family::ALL.map(|family| View::of(family, &[&listed.0]));
        let images = views.iter().flat_map(|view| &view.images);
        images
            .flat_map(|image| image.files.iter().map(|file| format!("/{}", file.path)))
            .collect()
    }
}

impl Lists {
    fn of(raw: &mut Raw) -> Self {
        let (status, list) = metadata(raw, "/1.0/images?recursion=1");
        assert_eq!(status, 200);
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let list = list.as_array().cloned().expect("a list");
        let aliases = list.iter().flat_map(|image| {
            let aliases = image["aliases"].as_array().into_iter().flatten();
            aliases.map(|alias| (text(&alias["name"]), text(&image["fingerprint"])))
        });
        Self {
            aliases: aliases.collect(),
            images: list
                .into_iter()
                .map(|image| (text(&image["fingerprint"]), image))
                .collect(),
        }
    }

    pub(crate) fn fingerprints(&self) -> BTreeSet<String> {
        self.images.keys().cloned().collect()
    }
}

impl Listed {
    pub(crate) fn fingerprints(&self) -> BTreeSet<String> {
        let of_family = |family| -> BTreeSet<String> {
            let view = View::of(family, &[&self.0]);
            view.images.iter().map(|image| image.fingerprint.clone()).collect()
        };
        let all: BTreeSet<_> = Family::ALL.into_iter().map(of_family).collect();
        assert_eq!(all.len(), 1, "all clients see the same images: {all:?}");
        all.into_iter().next().expect("one set")
    }

    /// Panics if a client resolves a name of Incus to another image.
    pub(crate) fn assert_names_are_of(&self, lists: &Lists) {
        let expressible = lists.aliases.iter().filter(|(name, _)| !name.contains(','));
        for (name, target) in expressible {
            for family in Family::ALL {
                let view = View::of(family, &[&self.0]);
                let found = view.resolve(name, None, simplestreams::Architecture::X86_64);
                let found = found.map(|image| image.fingerprint.as_str());
                assert_eq!(found, Some(target.as_str()), "{family}: {name}");
            }
        }
    }
}

fn connect(address: SocketAddr) -> Raw {
    TlsClient::tls13().connect(address).expect("everybody may connect")
}

/// Returns the status and the metadata of a response, in an order of its own and without what describes the server.
fn metadata(raw: &mut Raw, path: &str) -> (u16, Value) {
    let answer = raw.get(path).expect("an answer");
    let mut metadata = answer.json()["metadata"].take();
    tidy(&mut metadata);
    (answer.head.status, metadata)
}

fn tidy(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !OF_THE_SERVER.contains(&name.as_str()));
            fields.values_mut().for_each(tidy);
        }
        Value::Array(list) => {
            list.iter_mut().for_each(tidy);
            list.sort_by_key(Value::to_string);
        }
        _ => {}
    }
}
