//! From JSON to the types: what exists in the wild is read, and what clients stumble over is recorded.

use std::mem;

use indexmap::IndexMap;

use crate::{
    Families, Family, Ftype, Hashes, Index, Item, Number, Object, Place, Product, Products, Requirements, Source,
    Value, Version,
};

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

/// The fields of an object that have not been taken yet. Like clients, it ignores the case of keys and takes `null` for nothing.
struct Fields<'a> {
    object: Object,
    place: Place,
    deviations: &'a mut Vec<Deviation>,
}

impl<'a> Fields<'a> {
    fn of(value: Value, place: Place, deviations: &'a mut Vec<Deviation>) -> Result<Self, ParseError> {
        let object = match value {
            Value::Object(object) => object,
            Value::Null => Object::new(),
            other => return Err(wrong(place, "an object", &other)),
        };
        Ok(Self {
            object,
            place,
            deviations,
        })
    }

    /// Returns what is left, in its order.
    fn rest(&mut self) -> Object {
        mem::take(&mut self.object)
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        let mut taken = None;
        let Self {
            object,
            place,
            deviations,
        } = self;
        object.retain(|name, value| {
            if !name.eq_ignore_ascii_case(key) {
                return true;
            }
            if name != key {
                deviations.push(Deviation {
                    place: place.key(name),
                    problem: format!("clients read it as {key:?}"),
                    stops: Families::NONE,
                });
            }
            match mem::replace(value, Value::Null) {
                Value::Null => {}
                value => taken = Some(value),
            }
            false
        });
        taken
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, ParseError> {
        self.text_read_by(key, Families::ALL)
    }

    fn text_read_by(&mut self, key: &str, stops: Families) -> Result<Option<String>, ParseError> {
        let value = self.take(key);
        value
            .map(|value| self.as_text(self.place.key(key), value, stops))
            .transpose()
    }

    fn as_text(&mut self, place: Place, value: Value, stops: Families) -> Result<String, ParseError> {
        let text = match value {
            Value::String(text) => return Ok(text),
            Value::Bool(value) => value.to_string(),
            Value::Number(ref value) => value.to_string(),
            other => return Err(wrong(place, "a string", &other)),
        };
        self.deviates(place, &value, "a string", stops);
        Ok(text)
    }

    fn texts(&mut self, key: &str) -> Result<Vec<String>, ParseError> {
        let place = self.place.key(key);
        match self.take(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => {
                let texts = values.into_iter().map(|value| match value {
                    Value::Null => Ok(String::new()),
                    value => self.as_text(place.clone(), value, Families::ALL),
                });
                texts.collect()
            }
            Some(other) => Err(wrong(place, "a list", &other)),
        }
    }

    fn aliases(&mut self) -> Result<Vec<String>, ParseError> {
        const KEY: &str = "aliases";
        let place = self.place.key(KEY);
        let text = match self.take(KEY) {
            None => return Ok(Vec::new()),
            Some(value @ Value::Array(_)) => {
                self.deviates(place, &value, "a string with commas", Families::ALL);
                self.object.insert(KEY.to_owned(), value);
                self.texts(KEY)?.join(",")
            }
            Some(other) => self.as_text(place, other, Families::ALL)?,
        };
        // Not trimmed: clients do not either.
        Ok(match text.as_str() {
            "" => Vec::new(),
            text => text.split(',').map(str::to_owned).collect(),
        })
    }

    fn boolean(&mut self, key: &str) -> Result<Option<bool>, ParseError> {
        let place = self.place.key(key);
        let value = match self.take(key) {
            None => return Ok(None),
            Some(Value::Bool(value)) => return Ok(Some(value)),
            Some(value) => value,
        };
        let meant = match &value {
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        if meant.is_none() {
            return Err(wrong(place, "a boolean", &value));
        }
        self.deviates(place, &value, "a boolean", Families::ALL);
        Ok(meant)
    }

    fn size(&mut self, key: &str) -> Result<Option<u64>, ParseError> {
        let place = self.place.key(key);
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        let readable = |size: &u64| i64::try_from(*size).is_ok();
        let meant = match &value {
            Value::Number(number) => match number.as_u64().filter(readable) {
                Some(size) => return Ok(Some(size)),
                None => whole(number),
            },
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let meant = meant.filter(readable);
        if meant.is_none() {
            return Err(wrong(place, "a number of bytes", &value));
        }
        self.deviates(place, &value, "a number of bytes", Families::ALL);
        Ok(meant)
    }

    fn requirements(&mut self, key: &str, stops: Families) -> Result<Option<Requirements>, ParseError> {
        let place = self.place.key(key);
        let object = match self.take(key) {
            None => return Ok(None),
            Some(Value::Object(object)) => object,
            Some(other) => return Err(wrong(place, "an object", &other)),
        };
        let mut requirements = Requirements::new();
        for (name, value) in object {
            let value = match value {
                Value::Null => String::new(),
                value => self.as_text(self.place.key(&format!("{key}.{name}")), value, stops)?,
            };
            requirements.insert(name, value);
        }
        Ok(Some(requirements))
    }

    fn map<T>(
        &mut self,
        key: &str,
        at: fn(&Place, &str) -> Place,
        read: fn(&mut Fields<'_>) -> Result<T, ParseError>,
    ) -> Result<IndexMap<String, T>, ParseError> {
        let object = match self.take(key) {
            None => Object::new(),
            Some(Value::Object(object)) => object,
            Some(other) => return Err(wrong(self.place.key(key), "an object", &other)),
        };
        let mut map = IndexMap::with_capacity(object.len());
        for (name, value) in object {
            let mut fields = Fields::of(value, at(&self.place, &name), self.deviations)?;
            let value = read(&mut fields)?;
            map.insert(name, value);
        }
        Ok(map)
    }

    fn deviates(&mut self, place: Place, found: &Value, expected: &'static str, stops: Families) {
        let problem = format!("{} instead of {expected}", described(found));
        self.deviations.push(Deviation { place, problem, stops });
    }
}

/// Returns the number if it is a whole one, such as `672.0`.
fn whole(number: &Number) -> Option<u64> {
    let value = number.as_f64()?;
    let text = format!("{value:.0}");
    let exact: u64 = text.parse().ok()?;
    (text.parse() == Ok(value)).then_some(exact)
}

fn wrong(place: Place, expected: &'static str, found: &Value) -> ParseError {
    ParseError::Type {
        place: Box::new(place),
        expected,
        found: described(found),
    }
}

fn described(value: &Value) -> String {
    match value {
        Value::String(text) if text.len() <= 40 => format!("the string {text:?}"),
        Value::Number(number) => format!("the number {number}"),
        other => other.type_name().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product_with(field: &str) -> Result<Parsed<Products>, ParseError> {
        Products::parse(format!(r#"{{"products":{{"p":{{{field}}}}}}}"#).as_bytes())
    }

    fn item_with(field: &str) -> Result<Parsed<Products>, ParseError> {
        product_with(&format!(r#""versions":{{"20240101":{{"items":{{"i":{{{field}}}}}}}}}"#))
    }

    /// The product, and the only deviation as text.
    fn deviating(parsed: Result<Parsed<Products>, ParseError>) -> (Product, String, Families) {
        let Parsed { document, deviations } = parsed.unwrap();
        let [deviation] = &deviations[..] else {
            panic!("{deviations:?}")
        };
        let text = format!("{}: {}", deviation.place, deviation.problem);
        (document.products["p"].clone(), text, deviation.stops)
    }

    #[test]
    fn wrong_types_are_understood_and_recorded() {
        let (product, text, stops) = deviating(product_with(r#""aliases":["a","b/c"]"#));
        assert_eq!(product.aliases, ["a", "b/c"]);
        assert_eq!(
            text,
            r#"product "p", key "aliases": a list instead of a string with commas"#
        );
        assert_eq!(stops, Families::ALL);

        let (product, text, _) = deviating(item_with(r#""size":"672""#));
        assert_eq!(product.versions[0].items[0].size, Some(672));
        let place = r#"product "p", version "20240101", item "i", key "size": "#;
        assert_eq!(text, format!(r#"{place}the string "672" instead of a number of bytes"#));

        let (product, _, _) = deviating(item_with(r#""size":672.0"#));
        assert_eq!(product.versions[0].items[0].size, Some(672));

        let (product, text, stops) = deviating(product_with(r#""requirements":{"secureboot":false}"#));
        assert_eq!(product.requirements.unwrap()["secureboot"], "false");
        assert_eq!(
            text,
            r#"product "p", key "requirements.secureboot": a boolean instead of a string"#
        );
        assert!(!stops.contains(Family::Lxd5), "it does not read that key");
        assert!(stops.contains(Family::Incus6) && stops.contains(Family::Lxd));

        let (_, _, stops) = deviating(product_with(r#""lxd_requirements":{"secureboot":false}"#));
        assert!(stops.contains(Family::Lxd5) && !stops.contains(Family::Incus6));
        let (_, _, stops) = deviating(item_with(r#""combined_type":1"#));
        assert_eq!(stops, Families::from(Family::Incus7));

        let (product, _, _) = deviating(product_with(r#""release":12.04"#));
        assert_eq!(product.release, "12.04");
        let (product, _, _) = deviating(product_with(r#""supported":"true""#));
        assert_eq!(product.supported, Some(true));
    }

    #[test]
    fn keys_are_found_whatever_their_case_and_null_is_nothing() {
        let (product, text, stops) = deviating(product_with(r#""Arch":"amd64""#));
        assert_eq!(product.architecture, "amd64");
        assert_eq!(product.other, Object::new());
        assert_eq!(text, r#"product "p", key "Arch": clients read it as "arch""#);
        assert_eq!(stops, Families::NONE);

        let parsed =
            product_with(r#""arch":"amd64","aliases":null,"variant":null,"requirements":null,"versions":null"#);
        let parsed = parsed.unwrap();
        assert_eq!(parsed.deviations, []);
        let expected = Product {
            architecture: "amd64".to_owned(),
            ..Product::default()
        };
        assert_eq!(parsed.document.products["p"], expected);
        assert_eq!(
            Products::parse(br#"{"products":{"p":null}}"#)
                .unwrap()
                .document
                .products["p"],
            Product::default()
        );
    }

    #[test]
    fn errors_name_the_place() {
        let error = |parsed: Result<Parsed<Products>, ParseError>| parsed.unwrap_err().to_string();
        let place = r#"product "p", version "20240101", item "i", key "size": "#;
        assert_eq!(
            error(item_with(r#""size":{}"#)),
            format!("{place}an object instead of a number of bytes")
        );
        for size in ["-1", "1.5", "1e300", "9223372036854775808", r#""0x10""#, "true"] {
            let message = error(item_with(&format!(r#""size":{size}"#)));
            assert!(message.starts_with(place), "{message}");
        }
        assert_eq!(
            error(product_with(r#""os":["x"]"#)),
            r#"product "p", key "os": a list instead of a string"#
        );
        assert_eq!(
            error(product_with(r#""versions":[]"#)),
            r#"product "p", key "versions": a list instead of an object"#
        );
        assert_eq!(error(Products::parse(b"[]")), "document: a list instead of an object");
        let twice = error(product_with(r#""os":"a","os":"b""#));
        assert!(
            twice.starts_with(r#"the key "os" stands twice in one object at line 1 column "#),
            "{twice}"
        );
        assert_eq!(
            error(Products::parse(b"")),
            "EOF while parsing a value at line 1 column 0"
        );
        let index = Index::parse(br#"{"index":{"e":{"products":"p"}}}"#)
            .unwrap_err()
            .to_string();
        assert_eq!(
            index,
            r#"index entry "e", key "products": the string "p" instead of a list"#
        );
    }

    #[test]
    fn spaces_and_empty_names_in_aliases_are_kept() {
        let aliases = |text: &str| {
            product_with(&format!(r#""aliases":"{text}""#))
                .unwrap()
                .document
                .products["p"]
                .aliases
                .clone()
        };
        assert_eq!(aliases("a, b"), ["a", " b"]);
        assert_eq!(aliases("a,,b,"), ["a", "", "b", ""]);
        assert!(aliases("").is_empty());
    }
}
