//! Which items of a version make an image, and of which kind.

use simplestreams::{Architecture, Families, Family, Finding, Kind, Severity, View, check};

use super::support::{
    INCUS, LXD, OTHER, WHOLE, another, combined, document, item, metadata, of, only, root, seen, whole, with,
};

#[test]
fn a_container_and_a_machine_of_one_minute_can_have_metadata_each() {
    let second = |ftype: &str, hashes: &str| {
        let item = item(ftype, "images/n.tar.xz", OTHER, hashes);
        item.replacen(ftype, &format!("second {ftype}"), 1)
    };
    let fingerprint = "5".repeat(64);
    let (squashfs, disk) = (
        combined("squashfs_sha256", WHOLE),
        combined("disk-kvm-img_sha256", &fingerprint),
    );
    let disk_root = item("disk-kvm.img", "images/d.qcow2", &"6".repeat(64), "");
    let apart = |incus: (&str, &str), lxd: (&str, &str)| {
        of(&[
            metadata("incus.tar.xz", incus.0),
            metadata("lxd.tar.xz", lxd.0),
            second("incus.tar.xz", incus.1),
            second("lxd.tar.xz", lxd.1),
            root("squashfs"),
            disk_root.clone(),
        ])
    };
    let products = apart((&squashfs, &disk), (&squashfs, &disk));
    for family in [Family::Incus6, Family::Incus7, Family::Lxd5, Family::Lxd] {
        let view = View::of(family, &[&products]);
        let images: Vec<_> = view
            .images
            .iter()
            .map(|image| (image.kind, image.files[0].path.as_str()))
            .collect();
        let expected = [
            (Kind::Container, "images/m.tar.xz"),
            (Kind::VirtualMachine, "images/n.tar.xz"),
        ];
        assert_eq!(images, expected, "{family}");
        assert_eq!(
            view.resolve("a", Some(Kind::VirtualMachine), Architecture::X86_64),
            Some(&view.images[1])
        );
    }
    // These take one metadata item of a version, whatever it is.
    let one = Families::of(&[Family::LxdTransition, Family::LxdDebian13]);
    assert!(
        one.iter()
            .all(|family| View::of(family, &[&products]).images.len() == 1)
    );
    let chance = |finding: &Finding| finding.problem.to_string().contains("by chance, and skip the other");
    let findings = check(&[&products]).into_iter().filter(chance);
    assert_eq!(
        findings.fold(Families::NONE, |all, finding| all | finding.families),
        one
    );
    assert!(!check(&[&with("")]).iter().any(chance), "both items are one file");

    // The machine's hash on the container's metadata: a second fingerprint for a disk that has one.
    let wrong = apart((&format!("{squashfs}{disk}"), &disk), (&squashfs, &disk));
    let twice = check(&[&wrong]);
    let has_twice = |finding: &&Finding| finding.problem.to_string().contains("has the same fingerprint");
    let families: Vec<_> = twice.iter().filter(has_twice).map(|finding| finding.families).collect();
    assert_eq!(families, [INCUS], "{twice:?}");
}

#[test]
fn a_unified_machine_is_a_container_to_most() {
    let kind = r#","combined_type":"virtual-machine""#;
    let products = of(&[
        item("incus_combined.tar.gz", "images/u.tar.gz", WHOLE, kind),
        item("lxd_combined.tar.gz", "images/u.tar.gz", WHOLE, kind),
    ]);
    for family in Family::ALL {
        let expected = if family == Family::Incus7 {
            Kind::VirtualMachine
        } else {
            Kind::Container
        };
        let view = View::of(family, &[&products]);
        assert_eq!(
            (view.images[0].kind, &*view.images[0].fingerprint),
            (expected, WHOLE),
            "{family}"
        );
    }
    let findings = check(&[&products]);
    let all = findings
        .iter()
        .fold(Families::NONE, |all, finding| all | finding.families);
    assert_eq!(all, LXD | Family::Incus6.into(), "{findings:?}");
    assert!(
        findings
            .iter()
            .all(|finding| finding.problem.severity() == Severity::Broken)
    );
}

#[test]
fn metadata_for_one_program_hides_the_image_from_the_other() {
    let hash = combined("squashfs_sha256", WHOLE);
    for (ftype, expected) in [
        ("incus.tar.xz", INCUS | Family::LxdTransition.into()),
        ("lxd.tar.xz", LXD),
    ] {
        let products = of(&[metadata(ftype, &hash), root("squashfs")]);
        assert_eq!(seen(&products, WHOLE), expected, "{ftype}");
        let finding = only(&products);
        assert_eq!(finding.problem.severity(), Severity::Hidden);
        assert_eq!(
            finding.problem.to_string(),
            "no item with metadata for these clients; they skip the version"
        );
        assert!(
            Family::ALL
                .iter()
                .all(|&family| finding.families.contains(family) != expected.contains(family))
        );
    }
    let rootless = of(&[metadata("incus.tar.xz", &hash), metadata("lxd.tar.xz", &hash)]);
    let texts: Vec<_> = check(&[&rootless])
        .iter()
        .map(|finding| finding.problem.to_string())
        .collect();
    assert_eq!(
        texts,
        ["metadata, but no root file system or disk beside it; clients skip it"; 2]
    );
}

#[test]
fn deltas_need_their_base_and_disks_have_none() {
    let base = whole(WHOLE);
    let delta = |ftype: &str, base: &str| {
        item(
            ftype,
            "images/d.vcdiff",
            &"9".repeat(64),
            &format!(r#","delta_base":"{base}""#),
        )
    };
    let newer = |delta: &str| format!("{},{delta}", another(OTHER));
    let with = |delta: &str| {
        let versions = format!(
            r#""20240101":{{"items":{{{base}}}}},"20240102":{{"items":{{{}}}}}"#,
            newer(delta)
        );
        document(&[("p", &format!(r#"{{"arch":"amd64","versions":{{{versions}}}}}"#))])
    };
    let good = with(&delta("squashfs.vcdiff", "20240101"));
    assert_eq!(check(&[&good]), []);
    for family in Family::ALL {
        let view = View::of(family, &[&good]);
        assert_eq!(
            view.images[0].files[2].role,
            simplestreams::Role::Delta(WHOLE.to_owned()),
            "{family}"
        );
    }
    let gone = only(&with(&delta("squashfs.vcdiff", "20231231")));
    assert_eq!(
        (gone.families, gone.problem.severity()),
        (Families::ALL, Severity::Doubtful)
    );

    // A disk beside a container: most clients take the container's fingerprint for the base.
    let disk = |hash: &str, digit: &str, more: &str| {
        let hashes = format!(
            "{}{}",
            combined("squashfs_sha256", hash),
            combined("disk-kvm-img_sha256", &digit.repeat(64))
        );
        let root = item("disk-kvm.img", &format!("images/{digit}.qcow2"), &digit.repeat(64), "");
        format!(
            "{},{},{root}{more}",
            metadata("incus.tar.xz", &hashes),
            metadata("lxd.tar.xz", &hashes)
        )
    };
    let versions = format!(
        r#""20240101":{{"items":{{{}}}}},"20240102":{{"items":{{{}}}}}"#,
        disk(WHOLE, "5", ""),
        disk(OTHER, "6", &format!(",{}", delta("disk-kvm.img.vcdiff", "20240101")))
    );
    let finding = only(&document(&[(
        "p",
        &format!(r#"{{"arch":"amd64","versions":{{{versions}}}}}"#),
    )]));
    let one = Families::of(&[Family::LxdTransition, Family::LxdDebian13]);
    assert_eq!(finding.families, INCUS | one);
    assert_eq!(finding.problem.severity(), Severity::Broken);
}
