//! Whatever Incus sends instead of the image ends in an error, and leaves nothing.

use store::{BadExport, ExportHead, FillError, Store};

use super::support::{BOUNDARY, MIB, Random, Sample, assert_empty, folder, open, read, read_all, run};

fn sample() -> Sample {
    Sample::split(1, 300, 3_000)
}

/// A part of a multipart body.
fn part(disposition: &str, content: &[u8]) -> Vec<u8> {
    let header = format!("\r\n--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n");
    [header.as_bytes(), content].concat()
}

fn body(parts: &[Vec<u8>]) -> Vec<u8> {
    let end = format!("\r\n--{BOUNDARY}--\r\n");
    // The first delimiter has no line break before it.
    [&parts.concat()[2..], end.as_bytes()].concat()
}

fn form(name: &str, file_name: &str) -> String {
    format!("form-data; name=\"{name}\"; filename=\"{file_name}\"")
}

async fn refuse(store: &Store, sample: &Sample, body: &[u8], chunk: usize) -> BadExport {
    let fill = sample.vacant(store).await;
    let followed = fill.filling().follow();
    let (filled, followed) = tokio::join!(sample.send(fill, body, chunk), read(followed));
    let (bytes, _) = followed.expect_err("a follower took it for complete");
    assert!(bytes.len() < sample.export().len());
    match filled {
        Err(FillError::Export(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn bodies_that_are_not_the_image_are_refused() {
    let sample = sample();
    let [meta, root] = [&sample.parts[0][..], &sample.parts[1][..]];
    let good = sample.body();
    let metadata = part(&form("metadata", "meta-0.tar.xz"), meta);
    let rootfs = part(&form("rootfs", "0.squashfs"), root);
    let with_name = |disposition: &str| body(&[part(disposition, meta), part(&form("rootfs", "0.squashfs"), root)]);
    let unexpected = |name: &str| BadExport::UnexpectedPart(name.to_owned());
    let bad_name = |name: &str| BadExport::FileName(name.to_owned());
    let malformed = BadExport::Malformed;
    let endless = [&good[..good.len() - 100], &[0; 100_000]].concat();
    let cases: Vec<(&str, Vec<u8>, BadExport)> = vec![
        ("nothing", Vec::new(), BadExport::Torn),
        ("torn", good[..good.len() / 2].to_vec(), BadExport::Torn),
        (
            "without its last byte",
            good[..good.len() - 1].to_vec(),
            BadExport::Torn,
        ),
        ("without an end", good[..good.len() - 140].to_vec(), BadExport::Torn),
        ("endless", endless, BadExport::TooLong(3_300)),
        (
            "bytes behind it",
            [&good[..], b"x"].concat(),
            malformed("bytes after its end"),
        ),
        (
            "bytes before it",
            [b"\r\n", &good[..]].concat(),
            malformed("it does not start with its boundary"),
        ),
        (
            "another body",
            vec![0; 3_000],
            malformed("it does not start with its boundary"),
        ),
        (
            "one part",
            body(std::slice::from_ref(&metadata)),
            malformed("a part is missing"),
        ),
        (
            "three parts",
            body(&[metadata.clone(), rootfs.clone(), part(&form("more", "0"), b"")]),
            unexpected("more"),
        ),
        (
            "a root and a disk",
            body(&[metadata.clone(), rootfs.clone(), part(&form("rootfs.img", "0"), b"")]),
            unexpected("rootfs.img"),
        ),
        (
            "a part twice",
            body(&[metadata.clone(), metadata.clone()]),
            BadExport::PartTwice("metadata".into()),
        ),
        (
            "the wrong order",
            body(&[rootfs.clone(), metadata.clone()]),
            unexpected("rootfs"),
        ),
        (
            "an unknown part",
            body(&[part(&form("meta", "0"), meta), rootfs.clone()]),
            unexpected("meta"),
        ),
        ("a slash", with_name(&form("metadata", "a/b.xz")), bad_name("a/b.xz")),
        (
            "a backslash",
            with_name("form-data; name=\"metadata\"; filename=\"a\\\\b.xz\""),
            bad_name("a\\b.xz"),
        ),
        ("dots", with_name(&form("metadata", "..")), bad_name("..")),
        (
            "a null",
            with_name(&form("metadata", "a\0.xz")),
            malformed("a control character in a header"),
        ),
        (
            "no name",
            with_name("form-data; filename=\"a\""),
            malformed("its Content-Disposition"),
        ),
        (
            "two names",
            with_name("form-data; name=\"metadata\"; name=\"rootfs\""),
            malformed("its Content-Disposition"),
        ),
        (
            "another encoding of the name",
            with_name("form-data; name=\"metadata\"; filename*=\"a\""),
            malformed("its Content-Disposition"),
        ),
        (
            "two dispositions",
            with_name(&format!("{0}\r\nContent-Disposition: {0}", form("metadata", "a"))),
            malformed("an unexpected header field"),
        ),
        (
            "an encoding",
            with_name(&format!(
                "{}\r\nContent-Transfer-Encoding: base64",
                form("metadata", "a")
            )),
            malformed("an unexpected header field"),
        ),
        (
            "a large header",
            with_name(&form("metadata", &"a".repeat(5_000))),
            BadExport::HeaderTooLarge,
        ),
        (
            "bytes behind a boundary",
            body(&[
                part(&form("metadata", "0"), format!("\r\n--{BOUNDARY}junk").as_bytes()),
                rootfs,
            ]),
            malformed("bytes behind a boundary"),
        ),
    ];
    let folder = folder();
    run(async {
        let store = open(folder.path(), MIB);
        let count = cases.len() as u64 * 3;
        for (what, body, expected) in cases {
            for chunk in [1, 1_000, usize::MAX] {
                assert_eq!(
                    refuse(&store, &sample, &body, chunk).await,
                    expected,
                    "{what}, {chunk} bytes at a time"
                );
                assert_empty(&store, folder.path()).await;
            }
        }
        assert_eq!(store.counts().bad_exports, count);
        assert_eq!(read_all(&sample.fill(&store).await).await, sample.export());
    });
}

#[test]
fn headers_that_are_not_of_an_image_are_refused() {
    let octets = Some("application/octet-stream");
    let disposition = Some("inline;filename=0f.tar.gz");
    let bad_type = |text: &str| BadExport::ContentType(text.to_owned());
    let cases = [
        (
            Some("application/json"),
            Some(10),
            disposition,
            bad_type("application/json"),
        ),
        (None, None, None, bad_type("")),
        (Some("multipart/form-data"), None, None, bad_type("multipart/form-data")),
        (
            Some("multipart/form-data; boundary=a; boundary=b"),
            None,
            None,
            bad_type("multipart/form-data; boundary=a; boundary=b"),
        ),
        (
            Some("multipart/form-data; boundary=\"\""),
            None,
            None,
            BadExport::Malformed("its boundary is not allowed"),
        ),
        (octets, None, disposition, BadExport::NoLength),
        (octets, Some(0), disposition, BadExport::NoLength),
        (octets, Some(3_301), disposition, BadExport::TooLong(3_300)),
        (octets, Some(10), None, BadExport::FileName(String::new())),
        (
            octets,
            Some(10),
            Some("inline;filename=../../x"),
            BadExport::FileName("../../x".to_owned()),
        ),
    ];
    let folder = folder();
    run(async {
        let store = open(folder.path(), MIB);
        for (content_type, content_length, content_disposition, expected) in cases {
            let content_type = content_type.unwrap_or_default();
            let head = ExportHead {
                content_type,
                content_length,
                content_disposition,
            };
            let fill = sample().vacant(&store).await;
            let filling = fill.filling();
            let error = fill.begin(&head).expect_err("a good header");
            assert!(
                matches!(&error, FillError::Export(bad) if *bad == expected),
                "{error:?}, not {expected:?}"
            );
            assert!(matches!(filling.head().await, Err(FillError::Export(bad)) if bad == expected));
            assert_empty(&store, folder.path()).await;
        }
    });
}

#[test]
fn a_unified_image_must_have_its_length() {
    let folder = folder();
    let sample = Sample::unified(2, 5_000);
    run(async {
        let store = open(folder.path(), MIB);
        let body = sample.body();
        assert_eq!(refuse(&store, &sample, &body[..4_999], 700).await, BadExport::Torn);
        let long = [&body[..], b"x"].concat();
        assert_eq!(refuse(&store, &sample, &long, 700).await, BadExport::TooLong(5_000));
        assert_empty(&store, folder.path()).await;
    });
}

/// Whatever happens to the bytes, the store has the right image or nothing.
#[test]
fn a_changed_export_is_the_same_image_or_none() {
    let folder = folder();
    let sample = Sample::split(3, 200, 1_500);
    let mut random = Random(0x5eed);
    let (mut accepted, mut refused) = (0, 0);
    run(async {
        let store = open(folder.path(), MIB);
        for round in 0..600 {
            let mut body = sample.body();
            let (at, length) = (random.below(body.len()), random.below(40));
            let end = body.len().min(at + length);
            match random.below(5) {
                0 => body[at] = u8::try_from(random.below(256)).expect("a byte"),
                1 => drop(body.drain(at..end)),
                2 => body.truncate(at),
                // A stretch of it once more, somewhere else.
                3 => {
                    let stretch = body[at..end].to_vec();
                    let to = random.below(body.len());
                    drop(body.splice(to..to, stretch));
                }
                _ => drop(body.splice(at..at, *b"\r\n--")),
            }
            let chunk = 1 + random.below(500);
            let fill = sample.vacant(&store).await;
            match sample.send(fill, &body, chunk).await {
                Ok(image) => {
                    let image = image.expect("nobody removed it");
                    image.verify().await.expect("its hash");
                    assert_eq!(
                        read(image.part(1, 0..u64::MAX)).await.expect("readable"),
                        sample.parts[1],
                        "{round}"
                    );
                    store.remove(&sample.fingerprint);
                    accepted += 1;
                }
                Err(FillError::Export(_)) => refused += 1,
                Err(error) => panic!("{round}: {error}"),
            }
            assert_empty(&store, folder.path()).await;
        }
    });
    // An export with another extension is still the image.
    assert!(accepted > 0 && refused > 300, "{accepted} accepted, {refused} refused");
}
