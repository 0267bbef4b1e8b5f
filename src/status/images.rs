//! Output of `incus-gate images`: Incus's JSON, or a table that fits into 100 columns.

use serde::Deserialize;
use serde_json::Value;

use super::table::{bytes, cut, plain, rows};
use crate::public::image::Image;

/// Length of a fingerprint as `incus image list` displays it.
const FINGERPRINT: usize = 12;
const NAME: usize = 32;
const DESCRIPTION: usize = 30;

/// Incus's response envelope.
#[derive(Deserialize)]
struct Envelope<T> {
    metadata: T,
}

/// Formats the list as `incus image list --format json` does.
pub(super) fn json(answer: &[u8]) -> serde_json::Result<String> {
    let Envelope::<Value> { metadata } = serde_json::from_slice(answer)?;
    Ok(format!("{metadata}\n"))
}

/// Formats the list as a table.
pub(super) fn table(answer: &[u8]) -> serde_json::Result<String> {
    let Envelope::<Vec<Image>> { metadata: mut images } = serde_json::from_slice(answer)?;
    if images.is_empty() {
        return Ok("No images are public.\n".to_owned());
    }
    images.sort_by(|one, other| one.name().cmp(other.name()));
    let heading = ["NAME", "FINGERPRINT", "TYPE", "ARCH", "SIZE", "DATE", "DESCRIPTION"];
    let mut table = vec![heading.map(str::to_owned).to_vec()];
    table.extend(images.iter().flat_map(lines));
    Ok(rows(&table, &[4]))
}

/// Returns the row of an image, followed by one row for each further alias.
fn lines(image: &Image) -> impl Iterator<Item = Vec<String>> {
    let mut aliases = image.alias_names().map(|name| cut(&plain(name), NAME));
    let kind = match image.kind.as_str() {
        "virtual-machine" => "vm".to_owned(),
        kind => plain(kind),
    };
    let first = vec![
        aliases.next().unwrap_or_else(|| "-".to_owned()),
        image.fingerprint.chars().take(FINGERPRINT).collect(),
        kind,
        plain(&image.architecture),
        bytes(u64::try_from(image.size).unwrap_or_default()),
        plain(image.uploaded_on().unwrap_or("-")),
        cut(&plain(image.description().unwrap_or_default()), DESCRIPTION),
    ];
    let further: Vec<_> = aliases.map(|name| vec![name]).collect();
    std::iter::once(first).chain(further)
}
