//! From images to products.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use simplestreams::{
    Architecture, Blob, Built, Content, Entry, Families, Family, Ftype, Kind, Layout, Omitted, Parsed, Product, Reason,
    RootFormat, View, build, check,
};

fn blob(digit: char, extension: &str) -> Blob {
    Blob {
        sha256: digit.to_string().repeat(64),
        size: 10,
        extension: extension.to_owned(),
    }
}

/// A container whose hashes consist of this digit.
fn container(digit: char, aliases: &[&str]) -> Entry {
    let root = Blob {
        sha256: format!("{digit}0").repeat(32),
        ..blob(digit, "squashfs")
    };
    Entry {
        fingerprint: format!("{digit}f").repeat(32),
        kind: Kind::Container,
        architecture: "x86_64".to_owned(),
        properties: [].into(),
        created_at: 1_700_000_000,
        uploaded_at: 1_600_000_000,
        expires_at: 0,
        aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
        content: Content::Split {
            metadata: blob(digit, "tar.xz"),
            root,
            format: RootFormat::Squashfs,
        },
    }
}

fn on(architecture: &str, entry: Entry) -> Entry {
    Entry {
        architecture: architecture.to_owned(),
        ..entry
    }
}

fn machine(entry: Entry) -> Entry {
    let Content::Split { metadata, root, .. } = entry.content else {
        panic!("{entry:?}")
    };
    let content = Content::Split {
        metadata,
        root,
        format: RootFormat::Qcow2,
    };
    Entry {
        kind: Kind::VirtualMachine,
        content,
        ..entry
    }
}

fn unified(digit: char) -> Entry {
    let file = blob(digit, "tar.gz");
    Entry {
        fingerprint: file.sha256.clone(),
        content: Content::Unified(file),
        ..container(digit, &[])
    }
}

/// Builds, and checks what holds for everything that is built.
#[track_caller]
fn built(entries: &[Entry]) -> Built {
    let built = build(entries);
    assert_eq!(built, build(entries));
    let text = built.products.to_json(Layout::Pretty).unwrap();
    let parsed = simplestreams::Products::parse(text.as_bytes()).unwrap();
    assert_eq!(parsed, Parsed::from(built.products.clone()));
    assert_eq!(check(&[&parsed]), []);
    built
}

#[track_caller]
fn product(entry: Entry) -> Product {
    let Built { products, omitted } = built(&[entry]);
    assert_eq!(omitted, []);
    products.products[0].clone()
}

#[track_caller]
fn refused(entry: Entry) -> String {
    let Built { products, omitted } = built(std::slice::from_ref(&entry));
    assert!(products.products.is_empty());
    let [
        Omitted {
            fingerprint,
            alias: None,
            reason,
        },
    ] = &omitted[..]
    else {
        panic!("{omitted:?}")
    };
    assert_eq!(*fingerprint, entry.fingerprint);
    reason.to_string()
}

/// The names that clients on x86_64 resolve to each image, of those given.
fn resolved<'a>(built: &Built, names: &[&'a str]) -> Vec<(&'a str, String)> {
    let parsed = Parsed::from(built.products.clone());
    let views = Family::ALL.map(|family| View::of(family, &[&parsed]));
    let owner = |view: &View, name| {
        let image = view.resolve(name, None, Architecture::X86_64);
        image.map_or_else(String::new, |image| image.fingerprint[..1].to_owned())
    };
    let resolved = names.iter().map(|&name| {
        let owners = views.each_ref().map(|view| owner(view, name));
        assert!(owners.iter().all(|other| *other == owners[0]), "{name}: {owners:?}");
        (name, owners[0].clone())
    });
    resolved.collect()
}

#[test]
fn an_image_in_two_files_has_items_for_both_programs() {
    let entry = container('a', &["nginx"]);
    let product = product(entry.clone());
    let (key, version) = product.versions.first().unwrap();
    assert_eq!(key, "20231114_2213");
    let items: Vec<_> = version
        .items
        .values()
        .map(|item| (item.ftype.as_str(), item.path.as_str()))
        .collect();
    let meta = format!("images/{}.tar.xz", "a".repeat(64));
    let root = format!("images/{}.squashfs", "a0".repeat(32));
    let expected = [
        ("incus.tar.xz", meta.as_str()),
        ("lxd.tar.xz", meta.as_str()),
        ("squashfs", root.as_str()),
    ];
    assert_eq!(items, expected);
    for item in version.items.values().take(2) {
        assert_eq!(item.combined.squashfs.as_ref(), Some(&entry.fingerprint));
        assert_eq!((&item.combined.any, &item.combined.root_tar), (&None, &None));
    }
}

#[test]
fn each_root_has_its_type_and_hash() {
    let with = |format, entry: Entry| {
        let Content::Split { metadata, root, .. } = entry.content else {
            panic!()
        };
        product(Entry {
            content: Content::Split { metadata, root, format },
            ..entry
        })
    };
    let tar = with(RootFormat::Tar, container('a', &[]));
    let items = &tar.versions[0].items;
    assert_eq!(items[2].ftype, Ftype::RootTar);
    let hashes = &items[0].combined;
    assert_eq!(
        (&hashes.any, &hashes.root_tar),
        (&Some("af".repeat(32)), &Some("af".repeat(32)))
    );
    let disk = product(machine(container('b', &[])));
    let items = &disk.versions[0].items;
    assert_eq!(items[2].ftype, Ftype::DiskKvm);
    assert_eq!(items[1].combined.disk_kvm, Some("bf".repeat(32)));
    let whole = product(unified('c'));
    let ftypes: Vec<_> = whole.versions[0]
        .items
        .values()
        .map(|item| item.ftype.clone())
        .collect();
    assert_eq!(ftypes, [Ftype::IncusUnified, Ftype::LxdUnified]);
}

#[test]
fn properties_become_fields_and_requirements_stand_in_both_keys() {
    let mut entry = container('a', &[]);
    let properties = [
        ("os", "Debian"),
        ("release", "bookworm"),
        ("version", "12"),
        ("variant", "cloud"),
        ("label", "beta"),
        ("description", "not this"),
        ("requirements.secureboot", "false"),
    ];
    entry.properties = properties
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    entry.expires_at = 1_900_000_000;
    let product = product(entry.clone());
    let fields = (
        product.os.as_str(),
        product.release.as_str(),
        product.release_title.as_str(),
    );
    assert_eq!(fields, ("Debian", "bookworm", "bookworm"));
    assert_eq!(
        (product.version.as_deref(), product.variant.as_deref()),
        (Some("12"), Some("cloud"))
    );
    assert_eq!(product.versions[0].label.as_deref(), Some("beta"));
    assert_eq!(product.end_of_life.as_deref(), Some("2030-03-17"));
    assert_eq!(product.requirements, product.lxd_requirements);
    assert_eq!(product.requirements.unwrap()["secureboot"], "false");

    entry.properties = [("description".to_owned(), "Crynux node".to_owned())].into();
    let product = self::product(entry);
    assert_eq!(
        (product.release.as_str(), product.release_title.as_str()),
        ("", "Crynux node")
    );
    assert_eq!(
        (product.requirements, product.lxd_requirements),
        (None, None),
        "an empty one would hide the other"
    );
}

#[test]
fn the_version_is_the_creation_in_utc_or_else_the_upload() {
    let mut entry = container('a', &[]);
    entry.created_at = 0;
    let key = |entry: &Entry| product(entry.clone()).versions.first().unwrap().0.clone();
    assert_eq!(key(&entry), "20200913_1226");
    entry.created_at = 1_719_791_999;
    assert_eq!(key(&entry), "20240630_2359");
    entry.created_at = i64::MAX;
    assert!(refused(entry).contains("has no year of four digits"));
}

#[test]
fn a_name_for_one_architecture_is_the_name_for_it() {
    let entries = [
        container('a', &["nginx/amd64"]),
        on("aarch64", container('b', &["nginx/arm64"])),
        on("armv7l", container('c', &["nginx/riscv64"])),
    ];
    let built = built(&entries);
    assert_eq!(built.omitted, []);
    let aliases: Vec<_> = built
        .products
        .products
        .values()
        .map(|product| (product.architecture.as_str(), product.aliases.join(",")))
        .collect();
    // The last suffix is another architecture: it is no more than a name.
    let expected = [("amd64", "nginx"), ("arm64", "nginx"), ("armv7l", "nginx/riscv64")];
    assert_eq!(aliases, expected.map(|(arch, alias)| (arch, alias.to_owned())));
    let names = ["nginx", "nginx/amd64", "nginx/arm64", "nginx/riscv64"];
    let expected = ["a", "a", "b", "c"];
    assert_eq!(
        resolved(&built, &names),
        names.into_iter().zip(expected.map(str::to_owned)).collect::<Vec<_>>()
    );
}

#[test]
fn a_name_of_its_own_comes_before_one_without_architecture() {
    let entries = [container('a', &["nginx/amd64"]), container('b', &["nginx"])];
    let built = built(&entries);
    assert_eq!(built.omitted, []);
    let names = ["nginx", "nginx/amd64"];
    assert_eq!(
        resolved(&built, &names),
        [("nginx", "b".to_owned()), ("nginx/amd64", "a".to_owned())]
    );
}

#[test]
fn names_that_clients_would_take_for_others_are_omitted() {
    // Whatever the architecture is called, clients would make one of these of the first image's.
    let entries = [
        container('a', &["x"]),
        container('b', &["x/amd64", "x/x86_64", "x/generic_64", "kept"]),
    ];
    let built = built(&entries);
    let reason = |name: &str| Reason::AliasTaken {
        name: name.to_owned(),
        owner: "bf".repeat(32),
    };
    let expected = Omitted {
        fingerprint: "af".repeat(32),
        alias: Some("x".to_owned()),
        reason: reason("x/x86_64"),
    };
    assert_eq!(built.omitted, [expected]);
    let names = ["x/amd64", "x/x86_64", "x/generic_64", "kept"];
    assert!(resolved(&built, &names).iter().all(|(_, owner)| owner == "b"));
}

#[test]
fn a_name_has_one_owner_for_each_kind_and_architecture() {
    let entries = [
        container('a', &["x"]),
        container('b', &["x", "y"]),
        machine(container('c', &["x"])),
        on("aarch64", container('d', &["x"])),
    ];
    let built = built(&entries);
    let taken = Reason::AliasTaken {
        name: "x".to_owned(),
        owner: "af".repeat(32),
    };
    let omitted = Omitted {
        fingerprint: "bf".repeat(32),
        alias: Some("x".to_owned()),
        reason: taken,
    };
    assert_eq!(built.omitted, [omitted]);
    let aliases: Vec<_> = built
        .products
        .products
        .values()
        .map(|product| product.aliases.join(","))
        .collect();
    assert_eq!(aliases, ["x", "y", "x", "x"]);
}

#[test]
fn one_fingerprint_is_one_product_with_the_names_of_all() {
    let built = built(&[container('a', &["x"]), container('a', &["y", "x"])]);
    assert_eq!(built.products.products.len(), 1);
    assert_eq!(built.products.products[0].aliases, ["x", "y"]);
    assert_eq!(built.omitted, []);
}

#[test]
fn the_order_of_products_is_that_of_their_keys() {
    let entries = [container('b', &[]), container('c', &[]), container('a', &[])];
    let keys: Vec<_> = built(&entries).products.products.into_keys().collect();
    assert_eq!(keys, ["af".repeat(32), "bf".repeat(32), "cf".repeat(32)]);
}

#[test]
fn what_cannot_be_expressed_is_named() {
    assert_eq!(
        refused(Entry {
            content: Content::Oci,
            ..container('a', &[])
        }),
        "simplestreams has no form for OCI images"
    );
    let whole = Entry {
        kind: Kind::VirtualMachine,
        ..unified('a')
    };
    assert!(refused(whole).contains("incus publish --format=split"));
    let with = |kind, format| {
        let Content::Split { metadata, root, .. } = container('a', &[]).content else {
            panic!()
        };
        Entry {
            kind,
            content: Content::Split { metadata, root, format },
            ..container('a', &[])
        }
    };
    let raw = refused(with(Kind::VirtualMachine, RootFormat::Other("a raw disk".to_owned())));
    assert_eq!(
        raw,
        "simplestreams has no form for a virtual-machine whose root is a raw disk"
    );
    refused(with(Kind::Container, RootFormat::Qcow2));
    refused(with(Kind::VirtualMachine, RootFormat::Squashfs));
    assert_eq!(
        refused(on("z80", container('a', &[]))),
        "no client knows the architecture \"z80\""
    );
    assert!(
        refused(Entry {
            fingerprint: "AF".repeat(32),
            ..container('a', &[])
        })
        .contains("no SHA-256")
    );
    assert!(
        refused(Entry {
            fingerprint: "b".repeat(64),
            ..unified('a')
        })
        .contains("not the fingerprint")
    );
    for extension in ["", "tar/xz", ".", "tar..xz", "../x", "tar xz"] {
        let Content::Split { root, format, .. } = container('a', &[]).content else {
            panic!()
        };
        let content = Content::Split {
            metadata: blob('a', extension),
            root,
            format,
        };
        assert_eq!(
            refused(Entry {
                content,
                ..container('a', &[])
            }),
            format!("{extension:?} is no extension of a file name")
        );
    }
    let Content::Split { metadata, root, format } = container('a', &[]).content else {
        panic!()
    };
    let content = Content::Split {
        metadata: Blob {
            size: 1 << 63,
            ..metadata
        },
        root,
        format,
    };
    assert!(
        refused(Entry {
            content,
            ..container('a', &[])
        })
        .contains("more than clients can read")
    );
}

#[test]
fn names_that_cannot_be_written_are_omitted() {
    let built = built(&[container('a', &["a,b", "", "c"])]);
    let omitted: Vec<_> = built
        .omitted
        .iter()
        .map(|omitted| (omitted.alias.as_deref(), &omitted.reason))
        .collect();
    assert_eq!(omitted, [(Some("a,b"), &Reason::Alias), (Some(""), &Reason::Alias)]);
    assert_eq!(built.products.products[0].aliases, ["c"]);
}

#[test]
fn the_architecture_is_spelt_so_that_all_clients_know_it() {
    let spelt = |architecture: &str, property: &str| {
        let mut entry = on(architecture, container('a', &[]));
        entry.properties = [("architecture".to_owned(), property.to_owned())].into();
        build(&[entry]).products.products[0].architecture.clone()
    };
    assert_eq!(spelt("x86_64", "amd64"), "amd64");
    assert_eq!(spelt("x86_64", "x86_64_v3"), "x86_64", "only the newest know the other");
    assert_eq!(spelt("x86_64", "arm64"), "x86_64", "the property is wrong");
    assert_eq!(spelt("mipsle", ""), "mips");
    let loong = Parsed::from(build(&[on("loong64", container('a', &[]))]).products);
    let seen = Family::ALL
        .iter()
        .filter(|&&family| View::of(family, &[&loong]).images.len() == 1);
    let seen = seen.fold(Families::NONE, |all, &family| all | family.into());
    assert_eq!(
        seen,
        Families::of(&[Family::Incus6, Family::Incus7, Family::LxdDebian13, Family::Lxd])
    );
}
