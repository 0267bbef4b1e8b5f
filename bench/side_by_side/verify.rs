//! Verification of the responses: every request is sent to every contender once before anything is timed.

use std::io::Read;

use flate2::read::GzDecoder;
use http::header::CONTENT_ENCODING;
use http_body_util::BodyExt;
use serde_json::Value;

use crate::contenders::{Contender, Kind};
use crate::plan::item::{Item, Port};
use crate::rounds::Field;
use crate::site::Site;
use crate::{Result, give_up_if_interrupted};
use testing::images::sha256;

/// Fails on the first wrong response.
pub(crate) async fn all(field: &Field, items: &[Item]) -> Result<()> {
    for item in items {
        for contender in field.contenders.iter().filter(|contender| contender.takes_part(item)) {
            verify(&field.site, contender, item).await?;
        }
    }
    Ok(())
}

async fn verify(site: &Site, contender: &Contender, item: &Item) -> Result<()> {
    give_up_if_interrupted()?;
    let address = match item.port {
        Port::Admin => contender.admin.ok_or("it has no admin port")?,
        Port::Public(images) => contender.public(images),
    };
    let wrong = |what: &str| format!("{} answers wrongly ({}): {what}", contender.kind, item.name);
    let load = &item.load;
    let mut connection = load.client.connect(address).await?;
    let answer = connection
        .send(load.request.request(address, load.client.is_h2())?)
        .await?;
    if !answer.status().is_success() {
        return Err(wrong(answer.status().as_str()).into());
    }
    let is_compressed = answer.headers().contains_key(CONTENT_ENCODING);
    let mut body = answer.into_body().collect().await?.to_bytes().to_vec();
    if is_compressed {
        let compressed = std::mem::take(&mut body);
        GzDecoder::new(compressed.as_slice()).read_to_end(&mut body)?;
    }
    let is_right = match (&contender.kind, item.port) {
        (_, Port::Admin) => arrived(site, load.request.upload)?,
        _ if load.request.path.ends_with("/export") => sha256(&[&body]) == site.fingerprint,
        // The gateway shows strangers only a part of what Incus shows to a proxy, in documents of its own. Incus itself does
        // not keep the order between responses.
        (Kind::Gateway(_), Port::Public(images)) => says_the_same(&body, &site.document(images, &load.request.path)?)?,
        (_, Port::Public(images)) if site.is_real() => {
            says_the_same(&body, &site.document(images, &load.request.path)?)?
        }
        (_, Port::Public(images)) => sha256(&[&body]) == sha256(&[&site.document(images, &load.request.path)?]),
    };
    match is_right {
        true => Ok(()),
        false => Err(wrong("the body is another one").into()),
    }
}

/// Returns whether both documents contain the same images, or the same API.
fn says_the_same(ours: &[u8], original: &[u8]) -> Result<bool> {
    let told = |text: &[u8]| -> Result<Vec<Value>> {
        let document: Value = serde_json::from_slice(text)?;
        let metadata = &document["metadata"];
        let Value::Array(images) = metadata else {
            return Ok(vec![metadata["api_extensions"].clone()]);
        };
        let of = |image: &Value| image["fingerprint"].clone();
        let mut fingerprints: Vec<_> = images.iter().map(of).collect();
        fingerprints.sort_by_key(Value::to_string);
        Ok(fingerprints)
    };
    Ok(told(ours)? == told(original)?)
}

/// Returns whether the upload reached the upstream, by its SHA-256. Removes it for the next one.
fn arrived(site: &Site, length: u64) -> Result<bool> {
    let path = site.upload("image");
    let arrived = std::fs::read(&path)?;
    std::fs::remove_file(path)?;
    let sent = vec![b'x'; usize::try_from(length)?];
    Ok(sha256(&[&arrived]) == sha256(&[&sent]))
}
