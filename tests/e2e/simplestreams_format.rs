//! The crate `simplestreams` sees in a tree what the real clients see: `incus`, and LXD's `lxc`, pull from an Nginx over TLS.

mod client;
mod random_products;
mod site;
mod wild_products;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use simplestreams::{Blob, Content, Entry, Kind, Layout, Parsed, Products, RootFormat, View, check};
use testing::images::{Image, Images, sha256_of};

use client::NATIVE;
use random_products::random_products;
use site::Site;
use wild_products::wild_products;

/// Both clients list and download what `build` makes of images that Incus has.
#[test]
fn incus_and_lxd_pull_what_is_built() {
    let site = Site::start();
    let images = Images::new();
    let split = images.split("in two files");
    let unified = images.unified("in one file");
    let mut other = entry(&images.split("for another architecture"), Kind::Container);
    other.architecture = "aarch64".to_owned();
    other.aliases = vec!["tool/arm64".to_owned(), "left,out".to_owned()];
    let mut machine = entry(&images.split("a virtual machine"), Kind::VirtualMachine);
    if let Content::Split { format, .. } = &mut machine.content {
        *format = RootFormat::Qcow2;
    }
    let mut entries = vec![
        entry(&split, Kind::Container),
        entry(&unified, Kind::Container),
        other,
        machine,
    ];
    entries[0].aliases = vec!["tool/amd64".to_owned(), "crynux-node:v2.6.0".to_owned()];
    entries[0].expires_at = 1_900_000_000;
    entries[1].aliases = vec!["whole".to_owned()];
    entries[3].aliases = vec!["whole".to_owned()];
    let properties = &mut entries[0].properties;
    properties.insert("requirements.secureboot".to_owned(), "false".to_owned());
    properties.insert("os".to_owned(), "Debian".to_owned());
    let built = simplestreams::build(&entries);
    let omitted: Vec<_> = built.omitted.iter().map(|omitted| omitted.alias.as_deref()).collect();
    assert_eq!(omitted, [Some("left,out")]);
    assert_eq!(check(&[&built.products.clone().into()]), []);

    let tree = site.tree("built", &built.products.to_json(Layout::Pretty).unwrap());
    for entry in [&entries[0], &entries[1]] {
        publish(&tree, entry, if entry == &entries[0] { &split } else { &unified });
    }
    let parsed = Parsed::from(built.products);
    for (family, client) in site.clients() {
        client.agrees(family, "built", &parsed);
        let view = View::of(family, &[&parsed]);
        assert_eq!(view.images.len(), 4, "{family}");
        for (alias, image) in [("tool", &split), ("crynux-node:v2.6.0", &split), ("whole", &unified)] {
            let found = view.resolve(alias, None, NATIVE).unwrap();
            assert_eq!(found.fingerprint, image.fingerprint, "{family}: {alias}");
            let folder = client.home.path().join(format!("export {alias}"));
            fs::create_dir(&folder).unwrap();
            let target = folder.join("image");
            client
                .run(&["image", "export", &format!("built:{alias}"), &target.to_string_lossy()])
                .ok();
            let mut files: Vec<PathBuf> = fs::read_dir(&folder)
                .unwrap()
                .map(|file| file.unwrap().path())
                .collect();
            files.sort_by_key(|file| file.extension() == Some("root".as_ref()));
            assert_eq!(sha256_of(&files), image.fingerprint, "{family}: {alias}: {files:?}");
        }
    }
}

/// Trees that exist in the wild, and their like.
#[test]
fn clients_and_the_view_agree_on_what_exists_in_the_wild() {
    let site = Site::start();
    let trees = wild_products();
    for (name, product) in &trees {
        let document = format!(r#"{{"products":{{"p":{product}}}}}"#);
        site.tree(name, &document);
        let parsed = Products::parse(document.as_bytes()).unwrap();
        for (family, client) in site.clients() {
            client.agrees(family, name, &parsed);
        }
    }
    // Read without what other programs left, and written again, a document is the same to clients.
    let all: Vec<String> = trees
        .iter()
        .map(|(name, product)| format!(r#""{name}":{product}"#))
        .collect();
    let all = format!(r#"{{"products":{{{}}}}}"#, all.join(","));
    let repaired = Products::parse(all.as_bytes()).unwrap().document;
    let again = Products::parse(repaired.to_json(Layout::Compact).unwrap().as_bytes()).unwrap();
    assert_eq!((&again.document, &again.deviations[..]), (&repaired, &[][..]));
    site.tree("repaired", &again.document.to_json(Layout::Compact).unwrap());
    for (family, client) in site.clients() {
        assert_ne!(client.agrees(family, "repaired", &again), Some(0), "{family}");
    }
}

/// Which image owns a name, and in which order images come, is the same for clients and for the view, in random trees.
#[test]
fn clients_and_the_view_agree_on_random_trees() {
    let site = Site::start();
    let mut listed = BTreeMap::new();
    for seed in 0..40 {
        let products = random_products(seed);
        let name = format!("t{seed}");
        site.tree(&name, &products.to_json(Layout::Compact).unwrap());
        let parsed = Parsed::from(products);
        for (family, client) in site.clients() {
            *listed.entry(family).or_insert(0) += client.agrees(family, &name, &parsed).unwrap_or_default();
        }
    }
    assert!(listed.values().all(|&images| images > 50), "{listed:?}");
}

/// Describes an image of one or two files as Incus does.
fn entry(image: &Image, kind: Kind) -> Entry {
    let blob = |file: &PathBuf| Blob {
        sha256: sha256_of(std::slice::from_ref(file)),
        size: fs::metadata(file).unwrap().len(),
        extension: "tar".to_owned(),
    };
    let content = match &image.files[..] {
        [metadata, root] => Content::Split {
            metadata: blob(metadata),
            root: blob(root),
            format: RootFormat::Tar,
        },
        files => Content::Unified(blob(&files[0])),
    };
    Entry {
        fingerprint: image.fingerprint.clone(),
        kind,
        architecture: "x86_64".to_owned(),
        properties: BTreeMap::new(),
        created_at: 1_700_000_000,
        uploaded_at: 1_700_000_001,
        expires_at: 0,
        aliases: Vec::new(),
        content,
    }
}

/// Copies the files of an image to where its entry says they are.
fn publish(tree: &Path, entry: &Entry, image: &Image) {
    let blobs = match &entry.content {
        Content::Split { metadata, root, .. } => vec![metadata, root],
        Content::Unified(file) => vec![file],
        Content::Oci => Vec::new(),
    };
    fs::create_dir_all(tree.join("images")).unwrap();
    for (blob, file) in blobs.into_iter().zip(&image.files) {
        fs::copy(file, tree.join(blob.path())).unwrap();
    }
}
