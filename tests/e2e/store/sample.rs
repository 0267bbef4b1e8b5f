//! Published images of a scripted upstream, and the exports that Incus would send of them.

use serde_json::{Value, json};
use testing::images::sha256;
use testing::scripted::{Request, Then, Wire, catalogue};

const BOUNDARY: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2";

/// An image of pseudo-random bytes.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// One unified file, or metadata and root.
    pub(super) parts: Vec<Vec<u8>>,
    pub(super) fingerprint: String,
}

impl Sample {
    pub(super) fn split(seed: u64, size: usize) -> Self {
        Self::new(vec![noise(seed, 700), noise(seed + 1_000, size)])
    }

    pub(super) fn unified(seed: u64, size: usize) -> Self {
        Self::new(vec![noise(seed, size)])
    }

    fn new(parts: Vec<Vec<u8>>) -> Self {
        let fingerprint = sha256(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
        Self { parts, fingerprint }
    }

    pub(super) fn size(&self) -> usize {
        self.parts.iter().map(Vec::len).sum()
    }

    /// The header section with which Incus begins.
    pub(super) fn head(&self) -> String {
        let framing = match self.parts.len() {
            1 => format!(
                "Content-Type: application/octet-stream\r\nContent-Length: {}\r\nContent-Disposition: inline;filename={}.tar.xz",
                self.size(),
                self.fingerprint
            ),
            _ => format!("Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nTransfer-Encoding: chunked"),
        };
        format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n")
    }

    /// The body with its framing.
    pub(super) fn body(&self) -> Vec<u8> {
        match &self.parts[..] {
            [metadata, root] => {
                let fingerprint = &self.fingerprint;
                chunked(&multipart(&[
                    ("metadata", &format!("meta-{fingerprint}.tar.xz"), metadata),
                    ("rootfs", &format!("{fingerprint}.squashfs"), root),
                ]))
            }
            _ => self.parts.concat(),
        }
    }

    /// The body that the gateway sends to clients, without framing.
    pub(super) fn export(&self) -> Vec<u8> {
        match &self.parts[..] {
            [metadata, root] => {
                let fingerprint = &self.fingerprint;
                let parts: [(&str, &str, &[u8]); 2] = [
                    ("metadata", &format!("meta-{fingerprint}.tar.xz"), metadata),
                    ("rootfs", &format!("{fingerprint}.squashfs"), root),
                ];
                multipart_with(&format!("image-{fingerprint}"), &parts)
            }
            _ => self.parts.concat(),
        }
    }

    fn json(&self) -> Value {
        json!({
            "aliases": [],
            "architecture": "x86_64",
            "auto_update": false,
            "cached": false,
            "created_at": "2023-11-14T22:13:20Z",
            "expires_at": "0001-01-01T00:00:00Z",
            "filename": "scripted.tar.xz",
            "fingerprint": self.fingerprint,
            "last_used_at": "0001-01-01T00:00:00Z",
            "profiles": ["default"],
            "project": "default",
            "properties": {},
            "public": true,
            "size": self.size(),
            "type": "container",
            "uploaded_at": "2023-11-14T22:13:20Z",
        })
    }
}

/// Answers everything but exports.
pub(super) fn list(request: &Request, wire: &mut Wire, images: &[&Sample]) -> Option<Then> {
    if request.line() != "GET /1.0/images?recursion=1 HTTP/1.1" {
        return catalogue::answer(request, wire);
    }
    let images: Vec<_> = images.iter().map(|image| image.json()).collect();
    let answer = json!({
        "type": "sync",
        "status": "Success",
        "status_code": 200,
        "operation": "",
        "error_code": 0,
        "error": "",
        "metadata": images,
    });
    Some(wire.answer("200 OK", "application/json", answer.to_string().as_bytes()))
}

/// Whether a request is for the export of this image.
pub(super) fn is_export(request: &Request, image: &Sample) -> bool {
    request.target() == super::path_of(&image.fingerprint)
}

/// Parts with name, file name and content, as Incus sends them: with the closing delimiter twice.
pub(super) fn multipart(parts: &[(&str, &str, &[u8])]) -> Vec<u8> {
    let mut body = multipart_with(BOUNDARY, parts);
    body.extend(format!("\r\n--{BOUNDARY}--\r\n").bytes());
    body
}

fn multipart_with(boundary: &str, parts: &[(&str, &str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (number, (name, file, content)) in parts.iter().enumerate() {
        let line_break = if number == 0 { "" } else { "\r\n" };
        let header = format!(
            "{line_break}--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        body.extend(header.bytes());
        body.extend_from_slice(content);
    }
    body.extend(format!("\r\n--{boundary}--\r\n").bytes());
    body
}

/// Frames a body as chunks.
pub(super) fn chunked(body: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(body.len() + 1024);
    for chunk in body.chunks(16 << 10) {
        framed.extend(format!("{:x}\r\n", chunk.len()).bytes());
        framed.extend_from_slice(chunk);
        framed.extend(b"\r\n");
    }
    framed.extend(b"0\r\n\r\n");
    framed
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend((mixed ^ (mixed >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
