//! Exports of a real Incus.

use std::fs;
use std::process::Command;

use store::{Claim, Digest, ExportHead, PartKind};
use testing::images::{Image, Images};
use testing::incus::Incus;

use super::support::{MIB, folder, open, read_all, run};

/// Returns the header, as lines in lower case, and the body.
fn export(incus: &Incus, fingerprint: &str) -> (String, Vec<u8>) {
    let files = folder();
    let (header, body) = (files.path().join("header"), files.path().join("body"));
    let status = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--unix-socket"])
        .arg(incus.variable().join("unix.socket"))
        .arg("--dump-header")
        .arg(&header)
        .arg("--output")
        .arg(&body)
        .arg(format!("http://incus/1.0/images/{fingerprint}/export"))
        .status();
    assert!(status.expect("curl runs").success());
    (
        fs::read_to_string(header).expect("a header"),
        fs::read(body).expect("a body"),
    )
}

fn field<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    header
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, v)| v)
}

#[test]
fn an_export_of_incus_is_stored_and_served_like_it() {
    let incus = Incus::start(&[]);
    let images = Images::new();
    let folder = folder();
    let [split, unified] = [images.split("split"), images.unified("unified")];
    for image in [&split, &unified] {
        let mut arguments = vec!["image".into(), "import".into()];
        arguments.extend(image.files.iter().map(|file| file.as_os_str().to_owned()));
        incus.run(&arguments).ok();
    }
    run(async {
        let store = open(folder.path(), MIB);
        for image in [&split, &unified] {
            let stored = store_export(&store, &incus, image).await;
            let contents: Vec<_> = image.files.iter().map(|file| fs::read(file).expect("a file")).collect();
            let digests: Vec<_> = stored.parts().iter().map(|part| part.sha256).collect();
            assert_eq!(
                digests,
                contents.iter().map(|content| Digest::of(content)).collect::<Vec<_>>()
            );
        }
    });
}

async fn store_export(store: &store::Store, incus: &Incus, image: &Image) -> store::Image {
    let (header, body) = export(incus, &image.fingerprint);
    let head = ExportHead {
        content_type: field(&header, "content-type").expect("a type"),
        content_length: field(&header, "content-length").map(|length| length.parse().expect("a number")),
        content_disposition: field(&header, "content-disposition"),
    };
    let fingerprint: Digest = image.fingerprint.parse().expect("a digest");
    let size = image
        .files
        .iter()
        .map(|file| fs::metadata(file).expect("a file").len())
        .sum();
    let Ok(Claim::Vacant(fill)) = store.claim(&fingerprint, size).await else {
        panic!("not vacant")
    };
    let mut writer = fill.begin(&head).expect(&header);
    writer.write(body.clone().into()).await.expect("an export");
    let stored = writer.finish().await.expect("an export").expect("nobody removed it");

    // The same but for the boundary, and the end that Incus sends twice.
    let expected = match field(&header, "content-type").and_then(|kind| kind.split_once("boundary=")) {
        None => body,
        Some((_, boundary)) => {
            assert_eq!(stored.parts()[1].kind, PartKind::Rootfs);
            let end = format!("\r\n--{boundary}--\r\n").into_bytes();
            let once = body
                .strip_suffix(&end[..])
                .filter(|body| body.ends_with(&end))
                .expect("it comes twice");
            replace(once, boundary.as_bytes(), format!("image-{fingerprint}").as_bytes())
        }
    };
    assert!(read_all(&stored).await == expected);
    let ours = stored.head();
    assert_eq!(ours.length, Some(expected.len() as u64));
    assert_eq!(
        ours.content_disposition.as_deref(),
        field(&header, "content-disposition")
    );
    stored
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::new();
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, from) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}
