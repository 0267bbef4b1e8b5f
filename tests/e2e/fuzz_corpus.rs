//! The properties that the fuzzers check hold for every stored input, found by the fuzzers or added by hand: `fuzz/corpus`, one
//! folder per property.

#[path = "../../fuzz/properties/mod.rs"]
#[expect(unreachable_pub, reason = "for the fuzzers it is a library")]
mod properties;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

const FUZZ: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz");

macro_rules! replayed {
    ($($property:ident)*) => {
        $(
            #[test]
            fn $property() {
                replay(stringify!($property), properties::$property::holds);
            }
        )*

        #[test]
        fn each_property_has_all_that_a_fuzzer_needs() {
            has_all_that_a_fuzzer_needs(&[$(stringify!($property)),*]);
        }
    };
}

replayed!(catalogue config filter headers import_nginx page proxy_header redact rewrite route simplestreams);

fn replay(property: &str, holds: fn(&[u8])) {
    let folder = Path::new(FUZZ).join("corpus").join(property);
    let inputs: Vec<PathBuf> = names(&folder).iter().map(|name| folder.join(name)).collect();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    for input in inputs {
        let bytes = fs::read(&input).unwrap();
        assert!(
            catch_unwind(|| holds(&bytes)).is_ok(),
            "it does not hold for {}",
            input.display()
        );
    }
}

/// `make test` does not compile the fuzzers, so it compares names.
fn has_all_that_a_fuzzer_needs(properties: &[&str]) {
    let fuzz = Path::new(FUZZ);
    for folder in ["corpus", "dictionaries"] {
        assert_eq!(names(&fuzz.join(folder)), properties, "{folder}");
    }
    let files: Vec<_> = properties.iter().map(|property| format!("{property}.rs")).collect();
    assert_eq!(names(&fuzz.join("targets")), files);
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for property in properties {
        let target = fs::read_to_string(fuzz.join(format!("targets/{property}.rs"))).unwrap();
        assert!(
            target.contains(&format!("incus_gate_fuzz::{property}::holds(data)")),
            "{target}"
        );
        let binary = format!("[[bin]]\nname = \"{property}\"\npath = \"targets/{property}.rs\"\n");
        assert!(manifest.contains(&binary), "fuzz/Cargo.toml lacks {binary}");
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}
