//! x
mod architecture;
mod date;
mod family;
mod model;
mod parse;
mod place;
mod value;

pub use architecture::Architecture;
pub use family::{Families, Family};
pub use indexmap::IndexMap;
pub use model::{Ftype, Hashes, Index, Item, Layout, Product, Products, Requirements, Source, Version, WriteError};
pub use parse::{Deviation, ParseError, Parsed};
pub use place::Place;
pub use value::{Number, Object, Value};
