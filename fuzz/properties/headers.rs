//! An administrator's header fields, one per line, on their way to Incus and back.
//!
//! The forwarded fields are those that RFC 9110 §7.6.1 leaves, none of them asserts an identity except the gateway's own, and
//! no field is duplicated.

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderName, HeaderValue};
use incus_gate::forward::headers::{drop_hop_by_hop, to_incus};

const CLIENT: &str = "192.0.2.7";
const ONE_HOP: [&str; 10] = [
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

type Field = (String, Vec<u8>);

pub fn holds(data: &[u8]) {
    let Some(fields) = data.split(|byte| *byte == b'\n').map(field).collect::<Option<Vec<_>>>() else {
        return;
    };
    let sent: HeaderMap = fields.into_iter().collect();
    let before = list(&sent);

    let mut down = sent.clone();
    drop_hop_by_hop(&mut down);
    assert_eq!(list(&down), beyond_one_hop(&before));

    let mut up = sent;
    to_incus(&mut up, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));
    let up = list(&up);
    assert_eq!(up, for_incus(&before));
    for (name, value) in up {
        assert!(!value.iter().any(|byte| b"\r\n\0".contains(byte)), "{name}: {value:?}");
    }
}

fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
}

/// Returns the fields sorted by name. Fields with the same name keep their order.
fn list(headers: &HeaderMap) -> Vec<Field> {
    let field = |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.as_bytes().to_vec());
    let mut fields: Vec<_> = headers.iter().map(field).collect();
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    fields
}

fn beyond_one_hop(fields: &[Field]) -> Vec<Field> {
    let mut named: Vec<String> = ONE_HOP.map(str::to_owned).into();
    for (_, value) in fields.iter().filter(|(name, _)| name == "connection") {
        // A value that is not text names no fields.
        if value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
            let names = String::from_utf8_lossy(value).to_ascii_lowercase();
            named.extend(names.split(',').map(|name| name.trim().to_owned()));
        }
    }
    let goes_on = |(name, _): &&Field| ["host", "content-length"].contains(&name.as_str()) || !named.contains(name);
    fields.iter().filter(goes_on).cloned().collect()
}

fn for_incus(fields: &[Field]) -> Vec<Field> {
    let mut left = beyond_one_hop(fields);
    left.retain(|(name, _)| !name.starts_with("x-incus-forwarded-") && !name.starts_with("ssl-client-"));
    let mut take = |name: &str| -> Vec<Vec<u8>> {
        let (taken, rest) = std::mem::take(&mut left)
            .into_iter()
            .partition(|field: &Field| field.0 == name);
        left = rest;
        Vec::into_iter(taken).map(|(_, value)| value).collect()
    };
    let cookies = take("cookie");
    let mut chain = take("x-forwarded-for");
    chain.push(CLIENT.into());
    take("x-forwarded-proto");
    take("x-real-ip");
    let mut own = |name: &str, value: Vec<u8>| left.push((name.to_owned(), value));
    own("x-forwarded-for", chain.join(&b", "[..]));
    own("x-forwarded-proto", b"https".to_vec());
    own("x-real-ip", CLIENT.into());
    if !cookies.is_empty() {
        own("cookie", cookies.join(&b"; "[..]));
    }
    left.sort_by(|one, other| one.0.cmp(&other.0));
    left
}
