//! The text of a configuration file, and the error messages about it. A message states file, line, key, the error and
//! its solution.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use edge::file;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::model::DEFAULT_PATHS;
use super::watched_files::Files;

/// Why a configuration cannot be loaded.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// No path was given, and none of the default paths exists.
    #[error("found no configuration at {} or {}; specify one with --config, or create one with `incus-gate init`", DEFAULT_PATHS[0], DEFAULT_PATHS[1])]
    NotFound,
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}; {}", path.display(), remedy(source))]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A value in the file, or a file that it names, is invalid.
    #[error("{place}: {problem}")]
    Wrong {
        /// `file:line`, or only the file if no line applies.
        place: String,
        /// Key, error and solution.
        problem: String,
    },
}

pub(super) struct Source {
    path: PathBuf,
    text: String,
    files: RefCell<Files>,
}

impl Source {
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8");
        match file::read(path).and_then(|bytes| String::from_utf8(bytes).map_err(not_text)) {
            Ok(text) => Ok(Self::new(path, text)),
            Err(source) => Err(ConfigError::Unreadable {
                path: path.to_owned(),
                source,
            }),
        }
    }

    pub(super) fn new(path: &Path, text: String) -> Self {
        Self {
            path: path.to_owned(),
            text,
            files: RefCell::default(),
        }
    }

    /// The absolute path of the configuration.
    pub(super) fn path(&self) -> PathBuf {
        std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone())
    }

    /// Resolves the path of a file that is about to be read, and adds it to the watched files.
    pub(super) fn resolve(&self, path: &Path) -> PathBuf {
        let path = self.beside(path);
        self.files.borrow_mut().note(path.clone());
        path
    }

    /// Resolves a path without watching the file. Relative paths start at the configuration's directory. The result is
    /// always absolute: the parent of plain `proxy.toml` is "", which is not a directory.
    pub(super) fn beside(&self, path: &Path) -> PathBuf {
        let path = self.path.parent().unwrap_or_else(|| Path::new("")).join(path);
        std::path::absolute(&path).unwrap_or(path)
    }

    /// The files that were resolved to be watched.
    pub(super) fn files(&self) -> Files {
        self.files.borrow().clone()
    }

    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(&self.text).map_err(|error| self.malformed(&error))
    }

    pub(super) fn wrong(&self, key: &str, span: Range<usize>, problem: String) -> ConfigError {
        ConfigError::Wrong {
            place: self.place(Some(span)),
            problem: format!("{key}: {problem}"),
        }
    }

    pub(super) fn missing(&self, key: &str, remedy: &str) -> ConfigError {
        ConfigError::Wrong {
            place: self.place(None),
            problem: format!("{key}: missing; {remedy}"),
        }
    }

    fn malformed(&self, error: &toml::de::Error) -> ConfigError {
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        let problem = match unknown_key(&message) {
            Some((key, known)) => match nearest(key, &known) {
                Some(nearest) => format!("unknown key `{key}`; did you mean `{nearest}`?"),
                None => format!("unknown key `{key}`; remove it"),
            },
            None => match message.strip_prefix("missing field ") {
                Some(field) => format!("the key {field} is missing; add it"),
                None => {
                    let key = self.key_of(error.span());
                    let colon = if key.is_empty() { "" } else { ": " };
                    let (fault, remedy) = wrong_type(&message).unwrap_or((&message, "correct it"));
                    format!("{key}{colon}{fault}; {remedy}")
                }
            },
        };
        ConfigError::Wrong {
            place: self.place(error.span()),
            problem,
        }
    }

    /// Finds the key at a position. serde does not name the key if a value has the wrong type, so it is taken from the
    /// line and the preceding table header.
    fn key_of(&self, span: Option<Range<usize>>) -> String {
        let until_there = span.map_or(0, |span| self.line_number(span.start));
        let lines: Vec<&str> = self.text.lines().take(until_there).collect();
        let Some((line, before)) = lines.split_last() else {
            return String::new();
        };
        match (table(line), line.split_once('=')) {
            (Some(table), _) => table.to_owned(),
            (None, Some((key, _))) => {
                let within = before.iter().rev().find_map(|line| table(line));
                let within = within.map_or_else(String::new, |table| format!("{table}."));
                within + key.trim()
            }
            (None, None) => String::new(),
        }
    }

    fn place(&self, span: Option<Range<usize>>) -> String {
        match span {
            // Defaults and the whole file have an empty span at the start.
            Some(span) if span.end > 0 => format!("{}:{}", self.path.display(), self.line_number(span.start)),
            _ => self.path.display().to_string(),
        }
    }

    fn line_number(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run this as root, or give the current user read permission",
        io::ErrorKind::InvalidData => "specify a text file",
        _ => "correct the path or its permissions",
    }
}

/// Returns the name in a table header.
fn table(line: &str) -> Option<&str> {
    let name = line.trim().strip_prefix('[')?.trim_start_matches('[');
    name.split(']').next()
}

/// Parses serde's message: unknown field `a`, expected `b` or `c` (or: expected one of `b`, `c`, `d`).
fn unknown_key(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let key = quoted.next()?;
    Some((key, quoted.collect()))
}

/// Other programs' names for keys. Their spelling is too different to find the key by edit distance.
const SYNONYMS: [(&str, &str); 4] = [
    ("download_rate", "min_send_rate"),
    ("every", "interval"),
    ("refresh", "max_age"),
    ("stall", "send_grace"),
];

/// Returns the most likely intended key: a synonym, else the shortest key that contains the unknown one, else the one
/// with the smallest edit distance.
fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let synonym = SYNONYMS.iter().find(|(synonym, _)| *synonym == key);
    let is_meant = |name: &&&str| synonym.is_some_and(|(_, meant)| *name == meant);
    let longer = known.iter().filter(|name| name.contains(key));
    let nearest = known.iter().find(is_meant);
    let nearest = nearest.or_else(|| longer.min_by_key(|name| name.len()));
    let distance = |name: &&&str| strsim::damerau_levenshtein(name, key);
    nearest.or_else(|| known.iter().min_by_key(distance)).copied()
}

/// Splits serde's message (invalid type: string "60", expected u64) into the error and its solution.
fn wrong_type(message: &str) -> Option<(&str, &'static str)> {
    let (fault, expected) = message.split_once(", expected ")?;
    let remedy = match expected {
        "a string" | "path string" => "write it in quotes",
        "a boolean" => "write true or false, without quotes",
        "a sequence" => "write [[admin.clients]], one table for each administrator",
        "u64" if fault.starts_with("invalid value") => "it must be 0 or more",
        "u64" => "write a whole number, without quotes",
        _ => return None,
    };
    fault.starts_with("invalid ").then_some((fault, remedy))
}
