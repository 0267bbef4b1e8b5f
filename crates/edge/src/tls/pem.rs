//! Finds blocks of a PEM file that the parser would silently skip.
//!
//! The parser recognizes the beginning of a block by `-----BEGIN ` at the start of a line. It treats an indented line, or one
//! with four dashes, as text, and skips the block: the second certificate of the file would become its first.

/// Byte order mark, which some editors add.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Characters that people, keyboards and word processors use as a dash.
const DASHES: [char; 6] = ['-', '\u{2010}', '\u{2011}', '\u{2013}', '\u{2014}', '\u{2212}'];

/// Returns the text without a byte order mark.
pub(super) fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// Returns the number of the first line that begins or ends a block which the parser would skip: a misspelled marker, one
/// within another block, or one of a block that may hold a certificate in an unsupported format.
///
/// Keys, parameters and revocation lists are accepted next to certificates, and certificates next to keys, as is common.
pub(super) fn unread_line(text: &[u8]) -> Option<usize> {
    let mut within: Option<&[u8]> = None;
    // Splits lines as the parser does. CRLF yields an additional empty line, which does not count.
    let lines = text.split(|byte| matches!(byte, b'\n' | b'\r'));
    let mut number = 1;
    let mut read = 0;
    for line in lines {
        let this = number;
        read += line.len() + 1;
        let is_half = text.get(read - 1) == Some(&b'\r') && text.get(read) == Some(&b'\n');
        number += usize::from(!is_half);
        match (label(line, b"-----BEGIN "), within) {
            (Some(label), None) if is_passed_over(label) => within = Some(label),
            (Some(_), _) => return Some(this),
            (None, Some(open)) => {
                if label(line, b"-----END ") == Some(open) {
                    within = None;
                }
            }
            (None, None) if is_like_a_marker(line) => return Some(this),
            (None, None) => {}
        }
    }
    None
}

fn label<'a>(line: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(word)?;
    let end = rest.windows(5).position(|dashes| dashes == b"-----")?;
    Some(&rest[..end])
}

fn is_passed_over(label: &[u8]) -> bool {
    matches!(label, b"CERTIFICATE" | b"X509 CRL") || label.ends_with(b"KEY") || label.ends_with(b" PARAMETERS")
}

/// Returns whether the line looks like a marker of a certificate or key block: dashes, the word, and the type.
fn is_like_a_marker(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line).to_uppercase();
    let has_word = |word: &str| {
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].trim_end();
            let dashes = before.chars().rev().take_while(|c| DASHES.contains(c)).count();
            // "Front-end" is a word.
            let are_all = !before.contains(char::is_alphanumeric);
            let is_of_note = ["CERTIFICATE", "KEY"].iter().any(|what| line[at..].contains(what));
            is_of_note && (dashes > 1 || dashes == 1 && are_all)
        })
    };
    has_word("BEGIN ") || has_word("END ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    #[test]
    fn valid_pem_text_has_no_unread_block() {
        for text in [
            BLOCK.to_owned(),
            BLOCK.replace('\n', "\r\n"),
            BLOCK.replace('\n', "\r"),
            BLOCK.replace("-----\n", "-----  \n"),
            format!("Certificate:\n    Data:\n  Subject: CN=Front-End Key Team, O=We begin with the key\n{BLOCK}"),
            format!("{BLOCK}\n{}{BLOCK}", BLOCK.replace("CERTIFICATE", "EC PARAMETERS")),
            BLOCK.replace("CERTIFICATE", "ENCRYPTED PRIVATE KEY") + BLOCK,
            String::new(),
        ] {
            assert_eq!(unread_line(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn an_unread_block_is_reported_with_its_line() {
        let with = |from: &str, to: &str| BLOCK.replacen(from, to, 1);
        for (text, line) in [
            (with("-----BEGIN", " -----BEGIN"), 1),
            (with("-----BEGIN", "\t-----BEGIN"), 1),
            (with("-----BEGIN", "----BEGIN"), 1),
            (with("-----BEGIN", "------BEGIN"), 1),
            (with("-----BEGIN", "-----Begin"), 1),
            (with("-----BEGIN", "----- BEGIN"), 1),
            (with("-----BEGIN", "> -----BEGIN"), 1),
            (with("-----BEGIN", "pem: -----BEGIN"), 1),
            (with("-----BEGIN", "\u{2014}BEGIN"), 1),
            (with("-----BEGIN", "\u{feff}-----BEGIN"), 1),
            (with("-----BEGIN CERTIFICATE-----\n", ""), 2),
            (with("CERTIFICATE", "TRUSTED CERTIFICATE"), 1),
            (with("CERTIFICATE", "X509 CERTIFICATE"), 1),
            (with("-----END CERTIFICATE-----\n", BLOCK), 3),
            (with("-----BEGIN", "\r\n -----BEGIN"), 2),
        ] {
            let lines = BLOCK.lines().count();
            assert_eq!(unread_line(text.as_bytes()), Some(line), "{text:?}");
            assert_eq!(
                unread_line((BLOCK.to_owned() + &text).as_bytes()),
                Some(lines + line),
                "{text:?}"
            );
        }
    }
}
