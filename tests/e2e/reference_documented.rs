//! docs/REFERENCE.md has a row for each key that the code reads, with the default in the code, and no other rows.

use std::collections::BTreeMap;

use incus_gate::config::default_listen;
use regex::Regex;

const REFERENCE: &str = include_str!("../../docs/REFERENCE.md");
const CODE: &str = include_str!("../../src/config/schema.rs");

/// The default of a key.
#[derive(Clone, Debug, PartialEq)]
enum Default {
    /// Depends on another key or the machine; the row describes it in words.
    InWords,
    Needed,
    Is(String),
}

#[test]
fn rows_and_keys_match_with_their_defaults() {
    let code = keys_of("File", "");
    let rows = rows();
    let names = |keys: &mut dyn Iterator<Item = &String>| keys.cloned().collect::<Vec<_>>();
    assert_eq!(names(&mut rows.keys()), names(&mut code.keys()));
    assert!(code.len() > 40, "{code:?}");
    for (key, default) in code {
        let row = &rows[&key];
        let agrees = match &default {
            Default::InWords => !row.is_empty(),
            Default::Needed => ["needed", "those of", "one of the two"]
                .iter()
                .any(|word| row.contains(word)),
            Default::Is(value) if value == "[]" => ["`[]`", "none", "as `"].iter().any(|word| row.contains(word)),
            Default::Is(value) => row.contains(&format!("`{value}`")),
        };
        assert!(agrees, "{key}: the row says {row}, the code {default:?}");
    }
}

/// Returns the column with the default, by full name of the key.
fn rows() -> BTreeMap<String, String> {
    let code = Regex::new("`([^`]+)`").unwrap();
    let mut rows = BTreeMap::new();
    let table = REFERENCE.split_once("| key | default | meaning |").unwrap().1;
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.split(" | ").collect();
        let mut folder = String::new();
        for name in code.captures_iter(cells[0]) {
            let name = &name[1];
            let full = match (name.strip_prefix('.'), name.strip_prefix('…')) {
                (Some(sibling), _) => format!("{folder}.{sibling}"),
                (_, Some(of_client)) => format!("admin.clients.{of_client}"),
                // A list of tables has keys, and is itself no key.
                _ if name.starts_with('[') => continue,
                _ => name.to_owned(),
            };
            folder = full.rsplit_once('.').unwrap().0.to_owned();
            assert!(
                rows.insert(full.clone(), cells[1].to_owned()).is_none(),
                "two rows for {full}"
            );
        }
    }
    rows
}

/// Returns the keys of a table and of the tables in it.
fn keys_of(table: &str, folder: &str) -> BTreeMap<String, Default> {
    let body = between(&format!("struct {table} {{"), "\n}");
    let implied = CODE
        .split_once(&format!("impl Default for {table} {{"))
        .map(|(_, rest)| rest.split_once("\n}").unwrap().0);
    let field = Regex::new(r"((?: +#\[.*\]\n)*) +pub\(super\) (\w+): (.*),\n").unwrap();
    let inner = Regex::new(r"\w+Table").unwrap();
    let mut keys = BTreeMap::new();
    for found in field.captures_iter(&format!("{body}\n")) {
        let (attributes, name, kind) = (&found[1], &found[2], &found[3]);
        let full = format!("{folder}{name}");
        if let Some(table) = inner.find(kind) {
            keys.extend(keys_of(table.as_str(), &format!("{full}.")));
            continue;
        }
        let default = match implied {
            Some(implied) => implied_by(implied, name),
            None if kind.starts_with("Option") => Default::InWords,
            None => match attributes
                .split_once("default = \"")
                .map(|(_, rest)| rest.split('"').next().unwrap())
            {
                Some(function) => literal(&between(&format!("fn {function}() -> Spanned<String> {{"), "}")),
                None if attributes.contains("serde(default)") => Default::Is("false".to_owned()),
                None => Default::Needed,
            },
        };
        keys.insert(full, default);
    }
    keys
}

fn implied_by(implied: &str, name: &str) -> Default {
    let value = Regex::new(&format!(r"\b{name}: (.*?),\n")).unwrap();
    match value.captures(&format!("{implied}\n")).map(|found| found[1].to_owned()) {
        Some(value) => literal(&value),
        // `Self { every: … }` in one line.
        None => literal(implied.split_once(&format!("{name}: ")).unwrap().1),
    }
}

fn literal(code: &str) -> Default {
    let text = Regex::new(r#"(?:default|PathBuf::from)\((".*?")\)"#).unwrap();
    let number = Regex::new(r"default\((\d+)_u64\)").unwrap();
    let code = code.trim();
    let word = code.strip_prefix("default(").and_then(|rest| rest.strip_suffix(')'));
    match word.filter(|word| ["false", "true"].contains(word)).unwrap_or(code) {
        "None" => Default::InWords,
        "default(default_listen::PUBLIC)" => Default::Is(format!("\"{}\"", default_listen::PUBLIC)),
        "default(default_listen::ADMIN)" => Default::Is(format!("\"{}\"", default_listen::ADMIN)),
        "nobody()" => Default::Is("[]".to_owned()),
        word @ ("false" | "true") => Default::Is(word.to_owned()),
        code => {
            let found = text.captures(code).or_else(|| number.captures(code));
            Default::Is(found.unwrap_or_else(|| panic!("no default: {code}"))[1].to_owned())
        }
    }
}

fn between(start: &str, end: &str) -> String {
    let (_, rest) = CODE
        .split_once(start)
        .unwrap_or_else(|| panic!("no {start} in src/config/schema.rs"));
    rest.split_once(end).unwrap().0.to_owned()
}
