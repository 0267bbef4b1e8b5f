//! An export from Incus: lines with its `Content-Type`, `Content-Disposition` and `Content-Length`, then its body.
//!
//! However the body is split into chunks, and whatever is left out at the beginning, the result is the export that the store
//! serves of the same files, if a second parser in this file accepts the input. Nothing else is accepted; neither are other
//! files than those of the fingerprint, nor more bytes than the announced size. The end is sent last.

use std::sync::LazyLock;

use bytes::Bytes;
use regex::Regex;
use store::{BadExport, Digest, ExportHead, Rewrite};

const MAX_HEADER: usize = 4096;

static PARAMETER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"(?s)\A[ \t]*([!#$%&'*+.^_`|~A-Za-z0-9-]+)=(?:"((?:[^"\\]|\\.)*)"|([^"; \t][^; \t]*)?)[ \t]*(?:;[ \t]*|\z)"#,
    )
    .expect("a pattern")
});
static ESCAPED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?s)\\(.)").expect("a pattern"));
static BOUNDARY: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"\A[A-Za-z0-9'()+_,./:=? -]{0,69}[A-Za-z0-9'()+_,./:=?-]\z";
    Regex::new(pattern).expect("a pattern")
});
static FILE_NAME: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"\A(?:[^./\\\p{Cc}]+|[^./\\\p{Cc}]*((?:\.[a-z0-9]+)+))\z";
    Regex::new(pattern).expect("a pattern")
});

pub fn holds(data: &[u8]) {
    let mut lines = data.splitn(4, |byte| *byte == b'\n');
    let mut line = || str::from_utf8(lines.next()?).ok();
    let (Some(content_type), Some(disposition), Some(length)) = (line(), line(), line()) else {
        return;
    };
    let Some(body) = lines.next() else { return };
    let head = ExportHead {
        content_type,
        content_length: length.parse().ok(),
        content_disposition: Some(disposition).filter(|text| !text.is_empty()),
    };
    let lengths = [1, 2, 7, 64, body.len().max(1)];
    let Some(files) = files(&head, body) else {
        for length in lengths {
            let result = rewrite(Digest::of(b""), body.len() as u64, &head, body, 0, length);
            let is_rejected = result
                .as_ref()
                .is_err_and(|error| !matches!(error, BadExport::WrongHash { .. }));
            assert!(is_rejected, "{result:?} in chunks of {length}");
        }
        return;
    };
    let whole: Vec<u8> = files.iter().flat_map(|file| file.content.to_vec()).collect();
    let (fingerprint, size) = (Digest::of(&whole), whole.len() as u64);
    let export = export(fingerprint, &files);
    for length in lengths {
        for skip in [0, 1, export.len() / 2, export.len() - 1, export.len(), export.len() + 1] {
            let result = rewrite(fingerprint, size, &head, body, skip as u64, length);
            let expected = export.get(skip..).unwrap_or_default();
            assert_eq!(result.as_deref(), Ok(expected), "from {skip} on, in chunks of {length}");
        }
        let other = Digest::of(fingerprint.to_string().as_bytes());
        let result = rewrite(other, size, &head, body, 0, length);
        assert!(matches!(result, Err(BadExport::WrongHash { .. })), "{result:?}");
        if size > 0 {
            let result = rewrite(fingerprint, size - 1, &head, body, 0, length);
            assert_eq!(result, Err(BadExport::TooLong(size - 1)));
        }
    }
}

fn rewrite(
    fingerprint: Digest,
    size: u64,
    head: &ExportHead<'_>,
    body: &[u8],
    skip: u64,
    length: usize,
) -> Result<Vec<u8>, BadExport> {
    let mut rewrite = Rewrite::new(fingerprint, size, head, skip)?;
    let mut sent = Vec::new();
    for chunk in body.chunks(length) {
        sent.extend(rewrite.push(Bytes::copy_from_slice(chunk))?.concat());
    }
    let end = rewrite.finish()?.concat();
    assert!(
        skip > 0 || !end.is_empty(),
        "the end was sent before the fingerprint was checked"
    );
    sent.extend(end);
    Ok(sent)
}

struct File<'a> {
    /// Name of its part; none for a unified image.
    name: Option<String>,
    extension: String,
    content: &'a [u8],
}

fn export(fingerprint: Digest, files: &[File<'_>]) -> Vec<u8> {
    let mut export = Vec::new();
    for File {
        name,
        extension,
        content,
    } in files
    {
        if let Some(name) = name {
            let (before, prefix) = if name == "metadata" {
                ("", "meta-")
            } else {
                ("\r\n", "")
            };
            let header = format!(
                "{before}--image-{fingerprint}\r\nContent-Disposition: form-data; name=\"{name}\"; \
                 filename=\"{prefix}{fingerprint}{extension}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
            );
            export.extend(header.into_bytes());
        }
        export.extend_from_slice(content);
    }
    if files.len() == 2 {
        export.extend(format!("\r\n--image-{fingerprint}--\r\n").into_bytes());
    }
    export
}

/// Parses an export as a whole.
fn files<'a>(head: &ExportHead<'_>, body: &'a [u8]) -> Option<Vec<File<'a>>> {
    let (media_type, rest) = head.content_type.split_once(';').unwrap_or((head.content_type, ""));
    if media_type.trim().eq_ignore_ascii_case("application/octet-stream") {
        let (_, rest) = head.content_disposition.unwrap_or_default().split_once(';')?;
        let is_whole = head.content_length == Some(body.len() as u64) && !body.is_empty();
        let file = File {
            name: None,
            extension: extension(&parameter(rest, "filename")?)?,
            content: body,
        };
        return is_whole.then(|| vec![file]);
    }
    if !media_type.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(rest, "boundary").filter(|boundary| BOUNDARY.is_match(boundary))?;
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = body.strip_prefix(&delimiter.as_bytes()[2..])?;
    let mut files = Vec::new();
    for names in [&["metadata"][..], &["rootfs", "rootfs.img"]] {
        let (header, content) = split_at(rest.strip_prefix(b"\r\n")?, b"\r\n\r\n")?;
        let (name, extension) = part(header)?;
        if header.len() + 4 > MAX_HEADER || !names.contains(&name.as_str()) {
            return None;
        }
        let (content, behind) = split_at(content, delimiter.as_bytes())?;
        files.push(File {
            name: Some(name),
            extension,
            content,
        });
        rest = behind;
    }
    let ends = ["--\r\n".to_owned(), format!("--\r\n{delimiter}--\r\n")];
    ends.iter().any(|end| rest == end.as_bytes()).then_some(files)
}

fn split_at<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(separator.len()).position(|window| window == separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}

/// Returns the name and the extension of a part.
fn part(header: &[u8]) -> Option<(String, String)> {
    let mut dispositions = Vec::new();
    for line in str::from_utf8(header).ok()?.split("\r\n") {
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            _ if value.contains(|c: char| c != '\t' && c.is_control()) => return None,
            "content-disposition" => dispositions.push(value.trim()),
            "content-type" => {}
            _ => return None,
        }
    }
    let [disposition] = dispositions[..] else { return None };
    let parameters = parameters(disposition.strip_prefix("form-data;")?)?;
    let [(name_key, name), (file_key, file)] = &parameters[..] else {
        return None;
    };
    (name_key == "name" && file_key == "filename").then_some((name.clone(), extension(file)?))
}

fn extension(file_name: &str) -> Option<String> {
    let found = FILE_NAME.captures(file_name)?;
    let extension = found.get(1).map_or("", |extension| extension.as_str());
    (extension.len() <= 16).then(|| extension.to_owned())
}

fn parameter(rest: &str, name: &str) -> Option<String> {
    let mut found = parameters(rest)?;
    found.retain(|(key, _)| key == name);
    let [(_, value)] = &found[..] else { return None };
    Some(value.clone())
}

fn parameters(mut rest: &str) -> Option<Vec<(String, String)>> {
    let mut parameters = Vec::new();
    while !rest.trim_matches([' ', '\t']).is_empty() {
        let found = PARAMETER.captures(rest)?;
        let value = match (found.get(2), found.get(3)) {
            (Some(quoted), _) => ESCAPED.replace_all(quoted.as_str(), "$1").into_owned(),
            (None, plain) => plain.map_or(String::new(), |plain| plain.as_str().to_owned()),
        };
        parameters.push((found[1].to_ascii_lowercase(), value));
        rest = &rest[found[0].len()..];
    }
    Some(parameters)
}
