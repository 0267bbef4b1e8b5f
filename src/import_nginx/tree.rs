//! Nginx's configuration as a tree. Every directive has its file and line, and every `include` is replaced by its files.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use glob::{MatchOptions, Pattern};

use super::ImportError;
use super::lexer::{Fault, Lexer, Statement};

/// Maximum nesting of blocks and files. No real configuration comes close.
const DEPTH: usize = 32;
/// Maximum number of files. A file that is included twice counts twice.
const FILES: usize = 1_000;
/// Maximum total size of all files.
const BYTES: u64 = 8 << 20;

/// A file and a line, for messages. The path is relative to Nginx's folder if the file is below it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) file: Rc<Path>,
    pub(super) line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// One directive, with its block if it has one.
#[derive(Debug)]
pub(super) struct Directive {
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
    pub(super) place: Place,
    pub(super) block: Option<Block>,
}

#[derive(Debug)]
pub(super) struct Block {
    pub(super) directives: Vec<Directive>,
    /// The line of its `}`.
    pub(super) end: u32,
}

impl Directive {
    /// Returns the directives of its block.
    pub(super) fn children(&self) -> &[Self] {
        self.block.as_ref().map_or(&[], |block| &block.directives)
    }

    /// Returns its first argument, or an empty string.
    pub(super) fn value(&self) -> &str {
        self.arguments.first().map_or("", String::as_str)
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }
}

impl fmt::Display for Directive {
    /// Formats the directive in backquotes, truncated if it is long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 100;
        let words = [std::slice::from_ref(&self.name), &self.arguments].concat().join(" ");
        match words.char_indices().nth(LONGEST) {
            Some((end, _)) => write!(f, "`{}…`", &words[..end]),
            None => write!(f, "`{words}`"),
        }
    }
}

/// Returns the base of Nginx's relative paths: the folder of the `nginx.conf` at or above the file. If there is none, the
/// file belongs to a partial copy, and the base is inferred from the folder names that distributions use.
pub(super) fn prefix(file: &Path) -> PathBuf {
    let folder = file.parent().unwrap_or_else(|| Path::new("/"));
    let of_main = folder.ancestors().find(|folder| folder.join("nginx.conf").is_file());
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let is_within =
        name.ends_with(".d") || ["modules-enabled", "sites-available", "sites-enabled", "snippets"].contains(&&*name);
    let above = folder.parent().filter(|_| is_within);
    of_main.or(above).unwrap_or(folder).to_owned()
}

/// Reads a file and all files it includes. `file` must be absolute.
pub(super) fn read(file: &Path) -> Result<Vec<Directive>, ImportError> {
    let mut reader = Reader {
        prefix: prefix(file),
        files: FILES,
        bytes: BYTES,
        open: Vec::new(),
    };
    reader.file(file, None, 0)
}

struct Reader {
    prefix: PathBuf,
    /// How many more files may be read.
    files: usize,
    bytes: u64,
    /// The chain of files that include the current one, to detect cycles.
    open: Vec<PathBuf>,
}

impl Reader {
    fn file(&mut self, path: &Path, named: Option<&Place>, depth: usize) -> Result<Vec<Directive>, ImportError> {
        let unreadable = |source| ImportError::Unreadable {
            path: path.to_owned(),
            named: named.map(ToString::to_string),
            source,
        };
        let file: Rc<Path> = path.strip_prefix(&self.prefix).unwrap_or(path).into();
        let prefix = self.prefix.clone();
        let wrong = |Fault { line, problem }| {
            malformed(
                &prefix,
                &Place {
                    file: Rc::clone(&file),
                    line,
                },
                problem,
            )
        };
        let identity = path.canonicalize().map_err(unreadable)?;
        if self.open.contains(&identity) {
            let fault = format!("it includes {}, which includes it in turn", path.display());
            return Err(malformed(
                &self.prefix,
                named.unwrap_or(&Place { file, line: 1 }),
                fault,
            ));
        }
        let text = self.text(path).map_err(unreadable)?;
        if text.starts_with(b"\xEF\xBB\xBF") {
            let problem = "the file begins with a byte order mark, which Nginx refuses; remove it".to_owned();
            return Err(wrong(Fault { line: 1, problem }));
        }
        self.open.push(identity);
        let mut lexer = Lexer::new(&text);
        let directives = self.block(&mut lexer, &file, false, depth, &wrong)?;
        self.open.pop();
        Ok(directives)
    }

    fn block(
        &mut self,
        lexer: &mut Lexer<'_>,
        file: &Rc<Path>,
        is_within: bool,
        depth: usize,
        wrong: &dyn Fn(Fault) -> ImportError,
    ) -> Result<Vec<Directive>, ImportError> {
        let mut directives = Vec::new();
        loop {
            let (words, line, opens) = match lexer.next().map_err(wrong)? {
                None if is_within => return Err(wrong(lexer.ended("`}`"))),
                Some(Statement::Close { line }) if !is_within => {
                    let problem = "`}` closes nothing".to_owned();
                    return Err(wrong(Fault { line, problem }));
                }
                None | Some(Statement::Close { .. }) => return Ok(directives),
                Some(Statement::Open { words, line }) => (words, line, true),
                Some(Statement::Simple { words, line }) => (words, line, false),
            };
            let place = Place {
                file: Rc::clone(file),
                line,
            };
            let mut words = words.into_iter();
            let name = words.next().unwrap_or_default();
            let arguments: Vec<String> = words.collect();
            if depth == DEPTH {
                return Err(malformed(
                    &self.prefix,
                    &place,
                    format!("more than {DEPTH} blocks and files within each other"),
                ));
            }
            if name == "include" && !opens {
                directives.append(&mut self.include(&place, &arguments, depth + 1)?);
                continue;
            }
            if opens && name.ends_with("_by_lua_block") {
                let as_file = name.trim_end_matches("_block");
                let problem = format!(
                    "`{name}` holds Lua, which cannot be read here and may be what keeps people out. Import a copy of the file that has `{as_file}_file x;` in its place, which holds the port back; a copy without it would open what the Lua guards"
                );
                return Err(malformed(&self.prefix, &place, problem));
            }
            let block = if opens {
                let directives = self.block(lexer, file, true, depth + 1, wrong)?;
                let end = lexer.line();
                Some(Block { directives, end })
            } else {
                None
            };
            directives.push(Directive {
                name,
                arguments,
                place,
                block,
            });
        }
    }

    /// Reads the included files. A pattern may match no file; a plain name must exist.
    fn include(&mut self, place: &Place, arguments: &[String], depth: usize) -> Result<Vec<Directive>, ImportError> {
        let [pattern] = arguments else {
            return Err(malformed(
                &self.prefix,
                place,
                "`include` takes one file or pattern".to_owned(),
            ));
        };
        if !pattern.contains(['*', '?', '[']) {
            return self.file(&self.prefix.join(pattern), Some(place), depth);
        }
        let mut text = pattern.clone();
        if !text.starts_with('/') {
            text = format!("{}/{text}", Pattern::escape(&self.prefix.to_string_lossy()));
        }
        // glob(3) treats `**` as `*`; the `glob` crate treats it as any depth of folders.
        while text.contains("**") {
            text = text.replace("**", "*");
        }
        let options = MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let found = glob::glob_with(&text, options).map_err(|error| {
            malformed(
                &self.prefix,
                place,
                format!("`{text}` is no pattern of file names ({error})"),
            )
        })?;
        let mut directives = Vec::new();
        for path in found.take(FILES + 1) {
            let path = path.map_err(|error| ImportError::Unreadable {
                path: error.path().to_owned(),
                named: Some(place.to_string()),
                source: error.into(),
            })?;
            directives.append(&mut self.file(&path, Some(place), depth)?);
        }
        Ok(directives)
    }

    fn text(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        // Checked before the file is opened, because opening a named pipe blocks.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        self.files = self
            .files
            .checked_sub(1)
            .ok_or_else(|| io::Error::other(format!("more than {FILES} files are included")))?;
        let mut text = Vec::new();
        File::open(path)?.take(self.bytes + 1).read_to_end(&mut text)?;
        self.bytes = self
            .bytes
            .checked_sub(text.len() as u64)
            .ok_or_else(|| io::Error::other(format!("all files together are longer than {} MiB", BYTES >> 20)))?;
        Ok(text)
    }
}

fn malformed(prefix: &Path, place: &Place, problem: String) -> ImportError {
    ImportError::Malformed {
        place: prefix.join(&place.file).display().to_string() + &format!(":{}", place.line),
        problem,
    }
}
