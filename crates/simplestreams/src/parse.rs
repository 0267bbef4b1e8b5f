//! From JSON to the types: what exists in the wild is read, and what clients stumble over is recorded.

mod fields;
#[cfg(test)]
mod tests;

use crate::{Families, Family, Ftype, Hashes, Index, Item, Place, Product, Products, Source, Version};
use fields::Fields;

/// A document, and where it deviates from what clients decode.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed<T> {
    /// The document, with every value as its right type.
    pub document: T,
    /// The deviations, in the order of the format.
    pub deviations: Vec<Deviation>,
}

/// A value that stands in the document otherwise than the format says, and that has been understood nevertheless.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Deviation {
    /// The value's place.
    pub place: Place,
    /// What is odd about it.
    pub problem: String,
    /// The clients that decode nothing of the whole document because of it, and so list no image of the whole remote.
    pub stops: Families,
}

/// A document that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// It is no JSON, or a key stands twice in one object.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A value has a type from which no meaning can be guessed.
    #[error("{place}: {found} instead of {expected}")]
    Type {
        /// The value's place.
        place: Box<Place>,
        /// What the format says.
        expected: &'static str,
        /// What it is.
        found: String,
    },
}

impl<T> From<T> for Parsed<T> {
    fn from(document: T) -> Self {
        let deviations = Vec::new();
        Self { document, deviations }
    }
}

impl Index {
    /// Parses an index.
    ///
    /// # Errors
    ///
    /// Fails if it is no JSON, or if a value has a type from which no meaning can be guessed.
    pub fn parse(json: &[u8]) -> Result<Parsed<Self>, ParseError> {
        parse(json, |fields| {
            Ok(Self {
                index: fields.map("index", Place::entry, source)?,
                updated: fields.text("updated")?,
                format: fields.text("format")?.unwrap_or_default(),
                other: fields.rest(),
            })
        })
    }
}

impl Products {
    /// Parses a file with products.
    ///
    /// # Errors
    ///
    /// Fails if it is no JSON, or if a value has a type from which no meaning can be guessed.
    pub fn parse(json: &[u8]) -> Result<Parsed<Self>, ParseError> {
        parse(json, |fields| {
            Ok(Self {
                content_id: fields.text("content_id")?.unwrap_or_default(),
                datatype: fields.text("datatype")?.unwrap_or_default(),
                format: fields.text("format")?.unwrap_or_default(),
                license: fields.text("license")?,
                updated: fields.text("updated")?,
                products: fields.map("products", Place::product, product)?,
                other: fields.rest(),
            })
        })
    }
}

/// Those that read `requirements`.
const READ_REQUIREMENTS: Families = Families::of(&[
    Family::Incus6,
    Family::Incus7,
    Family::LxdTransition,
    Family::LxdDebian13,
    Family::Lxd,
]);
/// Those that read `lxd_requirements`.
const READ_LXD_REQUIREMENTS: Families =
    Families::of(&[Family::Lxd5, Family::LxdTransition, Family::LxdDebian13, Family::Lxd]);
/// Those that read `combined_type`.
const READ_COMBINED_TYPE: Families = Families::of(&[Family::Incus7]);

fn source(fields: &mut Fields<'_>) -> Result<Source, ParseError> {
    Ok(Source {
        datatype: fields.text("datatype")?.unwrap_or_default(),
        path: fields.text("path")?.unwrap_or_default(),
        updated: fields.text("updated")?,
        products: fields.texts("products")?,
        format: fields.text("format")?,
        other: fields.rest(),
    })
}

fn product(fields: &mut Fields<'_>) -> Result<Product, ParseError> {
    Ok(Product {
        aliases: fields.aliases()?,
        architecture: fields.text("arch")?.unwrap_or_default(),
        os: fields.text("os")?.unwrap_or_default(),
        release: fields.text("release")?.unwrap_or_default(),
        release_codename: fields.text("release_codename")?,
        release_title: fields.text("release_title")?.unwrap_or_default(),
        supported: fields.boolean("supported")?,
        end_of_life: fields.text("support_eol")?,
        version: fields.text("version")?,
        variant: fields.text("variant")?,
        requirements: fields.requirements("requirements", READ_REQUIREMENTS)?,
        lxd_requirements: fields.requirements("lxd_requirements", READ_LXD_REQUIREMENTS)?,
        versions: fields.map("versions", Place::version, version)?,
        other: fields.rest(),
    })
}

fn version(fields: &mut Fields<'_>) -> Result<Version, ParseError> {
    Ok(Version {
        items: fields.map("items", Place::item, item)?,
        label: fields.text("label")?,
        public_name: fields.text("pubname")?,
        other: fields.rest(),
    })
}

fn item(fields: &mut Fields<'_>) -> Result<Item, ParseError> {
    Ok(Item {
        ftype: Ftype::from(fields.text("ftype")?.unwrap_or_default()),
        path: fields.text("path")?.unwrap_or_default(),
        sha256: fields.text("sha256")?,
        size: fields.size("size")?,
        combined: Hashes {
            any: fields.text("combined_sha256")?,
            root_tar: fields.text("combined_rootxz_sha256")?,
            squashfs: fields.text("combined_squashfs_sha256")?,
            disk_kvm: fields.text("combined_disk-kvm-img_sha256")?,
            disk_uefi1: fields.text("combined_uefi1-img_sha256")?,
            disk1: fields.text("combined_disk1-img_sha256")?,
        },
        combined_type: fields.text_read_by("combined_type", READ_COMBINED_TYPE)?,
        delta_base: fields.text("delta_base")?,
        md5: fields.text("md5")?,
        other: fields.rest(),
    })
}

fn parse<T>(json: &[u8], read: impl FnOnce(&mut Fields<'_>) -> Result<T, ParseError>) -> Result<Parsed<T>, ParseError> {
    let mut deviations = Vec::new();
    let value = serde_json::from_slice(json)?;
    let document = read(&mut Fields::of(value, Place::default(), &mut deviations)?)?;
    Ok(Parsed { document, deviations })
}
