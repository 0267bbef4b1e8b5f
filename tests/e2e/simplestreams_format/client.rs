//! The real clients, and their agreement with the view of their family.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use simplestreams::{Architecture, Family, Parsed, Problem, Products, View, check};
use tempfile::TempDir;
use testing::certificates::Certificate;
use testing::run::{Output, run};

/// What these clients run on.
pub(super) const NATIVE: Architecture = Architecture::X86_64;

/// `incus` or `lxc`, with a home of its own and without a daemon.
pub(super) struct Client {
    program: &'static str,
    pub(super) home: TempDir,
    authority: PathBuf,
}

/// What both clients and the view say about an image.
type Listed = (String, String, String, Vec<String>, BTreeMap<String, String>, u64);

impl Client {
    pub(super) fn new(program: &'static str, authority: &Certificate) -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("config.yml"), "remotes:\n").unwrap();
        let authority = authority.certificate.clone();
        Self {
            program,
            home,
            authority,
        }
    }

    /// Returns the client's family by what it lists of [`families_apart`]. Its version does not tell: Debian 12 and 13 have an
    /// LXD 5.0.2 each.
    pub(super) fn family(&self, remote: &str) -> Family {
        let listed = listed_by_client(
            &self
                .run(&["image", "list", &format!("{remote}:"), "--format=json"])
                .ok(),
        );
        let takes = |digit| listed.iter().find(|(fingerprint, ..)| fingerprint.starts_with(digit));
        let reads = |(_, _, _, _, properties, _): &Listed| properties.contains_key("requirements.secureboot");
        match (takes('1'), takes('2')) {
            (Some((_, kind, ..)), None) if kind == "virtual-machine" => Family::Incus7,
            (Some(_), None) => Family::Incus6,
            (Some(_), Some(_)) => Family::LxdTransition,
            (None, Some(lxd)) if reads(lxd) => Family::LxdDebian13,
            (None, _) => Family::Lxd5,
        }
    }

    /// Does what `remote add --protocol=simplestreams` does, in less time.
    pub(super) fn add_remote(&self, name: &str, url: &str) {
        let mut file = OpenOptions::new()
            .append(true)
            .open(self.home.path().join("config.yml"))
            .unwrap();
        let remote = format!("  \"{name}\": {{ addr: \"{url}\", protocol: simplestreams, public: true }}\n");
        file.write_all(remote.as_bytes()).unwrap();
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Output {
        let home = self.home.path();
        let mut command = Command::new(self.program);
        for variable in ["HOME", "INCUS_CONF", "LXD_CONF"] {
            command.env(variable, home);
        }
        for variable in ["INCUS_DIR", "LXD_DIR"] {
            command.env(variable, home.join("no-daemon"));
        }
        run(command.env("SSL_CERT_FILE", &self.authority).args(arguments))
    }

    /// Compares what the client lists with what the view has, and returns how many images that are; nothing if it depends on
    /// chance.
    #[track_caller]
    pub(super) fn agrees(&self, family: Family, remote: &str, products: &Parsed<Products>) -> Option<usize> {
        let output = self.run(&["image", "list", &format!("{remote}:"), "--format=json"]);
        let view = View::of(family, &[products]);
        if products
            .deviations
            .iter()
            .any(|deviation| deviation.stops.contains(family))
        {
            assert_eq!(view.images, [], "{family}: {remote}");
            let message = output.fails();
            assert!(
                message.contains("Failed decoding products JSON"),
                "{family}: {remote}: {message}"
            );
            return Some(0);
        }
        let mut listed = listed_by_client(&output.ok());
        let mut seen: Vec<Listed> = view.images.iter().map(listed_by_view).collect();
        let findings = check(&[products]).into_iter();
        let findings: Vec<_> = findings.filter(|finding| finding.families.contains(family)).collect();
        if findings
            .iter()
            .any(|finding| matches!(finding.problem, Problem::MetadataUndecided(_)))
        {
            return None;
        }
        // Who owns these is different each time.
        for finding in findings {
            if let Problem::AliasUndecided { alias, .. } = finding.problem {
                let is_of_chance = |name: &String| {
                    name.strip_prefix(&alias)
                        .is_some_and(|rest| matches!(rest.chars().next(), None | Some('/')))
                };
                for (_, _, _, aliases, _, _) in listed.iter_mut().chain(&mut seen) {
                    aliases.retain(|name| !is_of_chance(name));
                }
            }
        }
        listed.sort();
        seen.sort();
        assert_eq!(listed, seen, "{family}: {remote}");
        Some(seen.len())
    }
}

/// Returns products of which each family lists something else.
pub(super) fn families_apart() -> String {
    let item = |ftype: &str, digit: &str| {
        let (sha256, kind) = (digit.repeat(64), "virtual-machine");
        format!(r#""{ftype}":{{"ftype":"{ftype}","path":"a.b","sha256":"{sha256}","combined_type":"{kind}"}}"#)
    };
    let (incus, lxd) = (item("incus_combined.tar.gz", "1"), item("lxd_combined.tar.gz", "2"));
    let versions = format!(r#"{{"20240101":{{"items":{{{incus}}}}},"20240102":{{"items":{{{lxd}}}}}}}"#);
    let fields = r#""arch":"amd64","requirements":{"secureboot":"false"}"#;
    format!(r#"{{"products":{{"p":{{{fields},"versions":{versions}}}}}}}"#)
}

fn listed_by_view(image: &simplestreams::Image) -> Listed {
    let aliases = image.listed_aliases(NATIVE).map(str::to_owned).collect();
    (
        image.fingerprint.clone(),
        image.kind.to_string(),
        image.architecture.to_string(),
        aliases,
        image.properties.clone(),
        image.size(),
    )
}

fn listed_by_client(json: &str) -> Vec<Listed> {
    let images: Vec<Value> = serde_json::from_str(json).unwrap();
    let listed = images.iter().map(|image| {
        let text = |key: &str| image[key].as_str().unwrap().to_owned();
        let aliases = image["aliases"].as_array().into_iter().flatten();
        let properties = image["properties"].as_object().unwrap().iter();
        let properties = properties.filter(|(name, _)| *name != "description");
        (
            text("fingerprint"),
            text("type"),
            text("architecture"),
            aliases
                .map(|alias| alias["name"].as_str().unwrap().to_owned())
                .collect(),
            properties
                .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
                .collect(),
            image["size"].as_u64().unwrap(),
        )
    });
    listed.collect()
}
