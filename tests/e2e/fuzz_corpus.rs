//! The properties that the fuzzers check hold for every stored input, found by the fuzzers or added by hand: `fuzz/corpus`, one
//! folder per property.

#[path = "../../fuzz/properties/mod.rs"]
#[expect(unreachable_pub, reason = "for the fuzzers it is a library")]
mod properties;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus");

macro_rules! replayed {
    ($($property:ident)*) => {
        $(
            #[test]
            fn $property() {
                replay(stringify!($property), properties::$property::holds);
            }
        )*

        #[test]
        fn each_property_has_a_corpus_and_a_target() {
            let mut properties = vec![$(stringify!($property)),*];
            properties.sort_unstable();
            assert_eq!(names(Path::new(CORPUS)), properties);
            let targets = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/targets");
            let targets = names(Path::new(targets));
            assert_eq!(targets.iter().map(|name| name.trim_end_matches(".rs")).collect::<Vec<_>>(), properties);
        }
    };
}

replayed!(catalogue config filter headers import_nginx page proxy_header redact route);

fn replay(property: &str, holds: fn(&[u8])) {
    let folder = Path::new(CORPUS).join(property);
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

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}
