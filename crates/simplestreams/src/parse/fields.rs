//! The fields of an object, each read as its type.

use std::mem;

use indexmap::IndexMap;

use super::{Deviation, ParseError};
use crate::{Families, Number, Object, Place, Requirements, Value};

/// The fields of an object that have not been taken yet. Like clients, it ignores the case of keys and takes `null` for nothing.
pub(super) struct Fields<'a> {
    object: Object,
    place: Place,
    deviations: &'a mut Vec<Deviation>,
}

impl<'a> Fields<'a> {
    pub(super) fn of(value: Value, place: Place, deviations: &'a mut Vec<Deviation>) -> Result<Self, ParseError> {
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
    pub(super) fn rest(&mut self) -> Object {
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

    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, ParseError> {
        self.text_read_by(key, Families::ALL)
    }

    pub(super) fn text_read_by(&mut self, key: &str, stops: Families) -> Result<Option<String>, ParseError> {
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

    pub(super) fn texts(&mut self, key: &str) -> Result<Vec<String>, ParseError> {
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

    pub(super) fn aliases(&mut self) -> Result<Vec<String>, ParseError> {
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

    pub(super) fn boolean(&mut self, key: &str) -> Result<Option<bool>, ParseError> {
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

    pub(super) fn size(&mut self, key: &str) -> Result<Option<u64>, ParseError> {
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

    pub(super) fn requirements(&mut self, key: &str, stops: Families) -> Result<Option<Requirements>, ParseError> {
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

    pub(super) fn map<T>(
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
