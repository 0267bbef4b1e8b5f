//! Whatever Incus sends instead of an image: the client gets no complete image, the log has a line, and nothing is stored.

use std::sync::Arc;

use testing::images::sha256;
use testing::scripted::{Scripted, Then, Wire};
use testing::tls::TlsClient;

use super::sample::{Sample, chunked, is_export, list, multipart};
use super::{Folder, get, path_of, status, warnings};

/// Sends something in place of an image.
type Fault = fn(&Sample, &mut Wire) -> Then;

const FAULTS: [(&str, bool, Fault); 12] = [
    ("another split image", true, |image, wire| {
        send_split(image, wire, |parts| parts[1].2[77] ^= 1)
    }),
    ("another unified image", false, |image, wire| {
        let mut body = image.parts[0].clone();
        body[77] ^= 1;
        wire.send(image.head());
        wire.send(body)
    }),
    ("a split image that ends too early", true, |image, wire| {
        let body = multipart(&[("metadata", "meta.tar.xz", &image.parts[0])]);
        wire.send(image.head());
        wire.send(chunked(&body[..body.len() / 2]))
    }),
    ("a torn split image", true, |image, wire| {
        let body = image.body();
        wire.send(image.head());
        wire.send(&body[..body.len() / 2]);
        Then::Cut
    }),
    ("a torn unified image", false, |image, wire| {
        wire.send(image.head());
        wire.send(&image.parts[0][..SIZE / 2]);
        Then::Reset
    }),
    ("three parts", true, |image, wire| {
        send_split(image, wire, |parts| {
            parts.push(("third".to_owned(), "a.tar.xz".to_owned(), vec![0; 10]));
        })
    }),
    ("a part twice", true, |image, wire| {
        send_split(image, wire, |parts| {
            let first = parts[0].clone();
            parts.insert(0, first);
        })
    }),
    ("the parts in the wrong order", true, |image, wire| {
        send_split(image, wire, |parts| parts.reverse())
    }),
    ("a name with a slash", true, |image, wire| {
        send_split(image, wire, |parts| "../../etc/passwd.xz".clone_into(&mut parts[1].1))
    }),
    ("an endless body", true, |image, wire| {
        wire.send(image.head());
        let begin = multipart(&[
            ("metadata", "meta.tar.xz", &image.parts[0]),
            ("rootfs", "a.squashfs", &[]),
        ]);
        // Without the delimiters at its end.
        let begin = &begin[..begin.len() - 2 * (BOUNDARY_AND_LINES)];
        let mut chunk = [0_u8; 16 << 10].to_vec();
        chunk[..begin.len()].copy_from_slice(begin);
        let framed = chunked(&chunk);
        // Without the last chunk.
        let framed = &framed[..framed.len() - 5];
        for _ in 0..10_000 {
            if wire.send(framed) != Then::KeepAlive {
                return Then::Cut;
            }
        }
        panic!("the gateway reads on for ever");
    }),
    ("a unified image without a length", false, |image, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        wire.send(chunked(&image.parts[0]))
    }),
    ("a page", false, |_, wire| {
        wire.answer("200 OK", "text/html", b"<p>please log in")
    }),
];

const SIZE: usize = 200_000;
/// A closing delimiter of the samples.
const BOUNDARY_AND_LINES: usize = 60 + 8;

fn send_split(image: &Sample, wire: &mut Wire, change: impl Fn(&mut Vec<(String, String, Vec<u8>)>)) -> Then {
    let named = |name: &str, file: &str, content: &Vec<u8>| (name.to_owned(), file.to_owned(), content.clone());
    let mut parts = vec![
        named("metadata", "meta-a.tar.xz", &image.parts[0]),
        named("rootfs", "a.squashfs", &image.parts[1]),
    ];
    change(&mut parts);
    let parts: Vec<(&str, &str, &[u8])> = parts
        .iter()
        .map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_slice()))
        .collect();
    wire.send(image.head());
    wire.send(chunked(&multipart(&parts)))
}

#[test]
fn whatever_is_not_the_image_is_an_error_and_not_stored() {
    let images: Arc<Vec<Sample>> = Arc::new(
        (0..)
            .zip(FAULTS)
            .map(|(seed, (_, is_split, _))| match is_split {
                true => Sample::split(seed, SIZE),
                false => Sample::unified(seed, SIZE),
            })
            .collect(),
    );
    let published = Arc::clone(&images);
    let upstream = Scripted::start_bare(move |request, wire| {
        if let Some(then) = list(request, wire, &published.iter().collect::<Vec<_>>()) {
            return then;
        }
        let number = published
            .iter()
            .position(|image| is_export(request, image))
            .expect("an export");
        FAULTS[number].2(&published[number], wire)
    });
    let folder = Folder::new();
    let scene = folder.before(&upstream);
    let gateway = &scene.gateway;
    for (image, (name, _, _)) in images.iter().zip(FAULTS) {
        let path = path_of(&image.fingerprint);
        // The reset may overtake the header section.
        if let Ok(answer) = TlsClient::tls13().connect(gateway.public()).unwrap().get(&path) {
            let is_error = answer.head.status == 502 || answer.whole.is_err();
            assert!(
                is_error,
                "{name}: {} with {} bytes",
                answer.head.status,
                answer.body.len()
            );
        }
        if let Ok(answer) = TlsClient::tls13().connect_http2(gateway.public()).unwrap().get(&path) {
            let is_error = answer.status == 502 || answer.whole.is_err();
            assert!(
                is_error,
                "{name}: {} with {} bytes over HTTP/2",
                answer.status,
                answer.body.len()
            );
        }
    }
    let told = status(gateway);
    // All but the two whose connection broke.
    assert_eq!(told["bad_exports"], 2 * (FAULTS.len() as u64 - 2), "{told}");
    assert_eq!(
        (&told["images"], &told["filling"], &told["bytes"]),
        (&0.into(), &0.into(), &0.into())
    );
    super::wait_until(|| folder.incoming().is_empty(), || format!("{:?}", folder.incoming()));
    assert!(folder.files().is_empty());
    // One line for all that Incus sends, and one for the connections that broke.
    let lines = warnings(gateway, "cannot store the image");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(
        lines[0].contains("not the fingerprint") && lines[0].contains("its downloads are aborted"),
        "{lines:?}"
    );
    assert!(
        lines[1].contains("Incus aborted a response") && lines[1].contains("the next download tries again"),
        "{lines:?}"
    );
}

#[test]
fn an_oci_image_is_streamed_and_never_stored() {
    let image = Sample::unified(50, SIZE);
    let published = image.clone();
    let upstream = Scripted::start_bare(move |request, wire| {
        if let Some(then) = list(request, wire, &[&published]) {
            return then;
        }
        // The hash is that of the registry's manifest.
        let body = [&published.parts[0][..], b"more"].concat();
        let length = body.len();
        wire.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nX-Incus-Type: oci\r\nContent-Length: {length}\r\n\r\n"
        ));
        wire.send(body)
    });
    let folder = Folder::new();
    let scene = folder.before(&upstream);
    for _ in 0..3 {
        let answer = get(&scene.gateway, &image.fingerprint, &[]);
        assert_eq!((answer.status, answer.body.len()), (200, SIZE + 4));
        assert_eq!(answer.header("x-incus-type"), Some("oci"));
        assert_ne!(sha256(&[&answer.body]), image.fingerprint);
    }
    assert!(folder.files().is_empty());
    // One to find out, and one for each client.
    assert_eq!(upstream.requests().len(), 4);
    assert!(warnings(&scene.gateway, "").is_empty(), "{:?}", scene.gateway.log());
}
