//! Parser for Nginx's configuration. It builds the tree of directives, and replaces every `include` by its files.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use glob::{MatchOptions, Pattern};

use crate::directive::{Block, Directive, Position};
use crate::error::ImportError;
use crate::lexer::{Lexer, Statement, SyntaxError};

/// Maximum nesting of blocks and files. No real configuration comes close.
const MAX_DEPTH: usize = 32;
/// Maximum number of files. A file that is included twice counts twice.
const MAX_FILES: usize = 1_000;
/// Maximum total size of all files.
const MAX_BYTES: u64 = 8 << 20;

/// Returns the base of Nginx's relative paths: the folder of the `nginx.conf` at or above the file. If there is none, the
/// file belongs to a partial copy, and the base is inferred from the folder names that distributions use.
pub(crate) fn prefix(file: &Path) -> PathBuf {
    let folder = file.parent().unwrap_or_else(|| Path::new("/"));
    let of_main = folder.ancestors().find(|folder| folder.join("nginx.conf").is_file());
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let is_subfolder =
        name.ends_with(".d") || ["modules-enabled", "sites-available", "sites-enabled", "snippets"].contains(&&*name);
    let above = folder.parent().filter(|_| is_subfolder);
    of_main.or(above).unwrap_or(folder).to_owned()
}

/// Reads a file and all files it includes. `file` must be absolute.
pub(crate) fn read(file: &Path) -> Result<Vec<Directive>, ImportError> {
    let mut reader = Reader {
        prefix: prefix(file),
        files: MAX_FILES,
        bytes: MAX_BYTES,
        including: Vec::new(),
    };
    reader.file(file, None, 0)
}

struct Reader {
    prefix: PathBuf,
    /// How many more files may be read.
    files: usize,
    bytes: u64,
    /// The chain of files that include the current one, to detect cycles.
    including: Vec<PathBuf>,
}

impl Reader {
    fn file(
        &mut self,
        path: &Path,
        included_at: Option<&Position>,
        depth: usize,
    ) -> Result<Vec<Directive>, ImportError> {
        let unreadable = |source| ImportError::Unreadable {
            path: path.to_owned(),
            included_at: included_at.map(ToString::to_string),
            source,
        };
        let file: Rc<Path> = path.strip_prefix(&self.prefix).unwrap_or(path).into();
        let prefix = self.prefix.clone();
        let syntax_error = |SyntaxError { line, problem }| {
            malformed(
                &prefix,
                &Position {
                    file: Rc::clone(&file),
                    line,
                },
                problem,
            )
        };
        let canonical = path.canonicalize().map_err(unreadable)?;
        if self.including.contains(&canonical) {
            let problem = format!("it includes {}, which includes it in turn", path.display());
            return Err(malformed(
                &self.prefix,
                included_at.unwrap_or(&Position { file, line: 1 }),
                problem,
            ));
        }
        let text = self.text(path).map_err(unreadable)?;
        if text.starts_with(b"\xEF\xBB\xBF") {
            let problem = "the file begins with a byte order mark, which Nginx rejects; remove it".to_owned();
            return Err(syntax_error(SyntaxError { line: 1, problem }));
        }
        self.including.push(canonical);
        let mut lexer = Lexer::new(&text);
        let directives = self.block(&mut lexer, &file, false, depth, &syntax_error)?;
        self.including.pop();
        Ok(directives)
    }

    fn block(
        &mut self,
        lexer: &mut Lexer<'_>,
        file: &Rc<Path>,
        is_subfolder: bool,
        depth: usize,
        syntax_error: &dyn Fn(SyntaxError) -> ImportError,
    ) -> Result<Vec<Directive>, ImportError> {
        let mut directives = Vec::new();
        loop {
            let (words, line, opens) = match lexer.next().map_err(syntax_error)? {
                None if is_subfolder => return Err(syntax_error(lexer.unexpected_end("`}`"))),
                Some(Statement::Close { line }) if !is_subfolder => {
                    let problem = "`}` closes nothing".to_owned();
                    return Err(syntax_error(SyntaxError { line, problem }));
                }
                None | Some(Statement::Close { .. }) => return Ok(directives),
                Some(Statement::Open { words, line }) => (words, line, true),
                Some(Statement::Simple { words, line }) => (words, line, false),
            };
            let position = Position {
                file: Rc::clone(file),
                line,
            };
            let mut words = words.into_iter();
            let name = words.next().unwrap_or_default();
            let arguments: Vec<String> = words.collect();
            if depth == MAX_DEPTH {
                return Err(malformed(
                    &self.prefix,
                    &position,
                    format!("more than {MAX_DEPTH} nested blocks and files"),
                ));
            }
            if name == "include" && !opens {
                directives.append(&mut self.include(&position, &arguments, depth + 1)?);
                continue;
            }
            if opens && name.ends_with("_by_lua_block") {
                let as_file = name.trim_end_matches("_block");
                let problem = format!(
                    "`{name}` contains Lua, which cannot be interpreted here and may reject requests. Import a copy of the file with `{as_file}_file x;` in its place, which holds the port back; a copy without it would grant access that the Lua denies"
                );
                return Err(malformed(&self.prefix, &position, problem));
            }
            let block = if opens {
                let directives = self.block(lexer, file, true, depth + 1, syntax_error)?;
                let end = lexer.line();
                Some(Block { directives, end })
            } else {
                None
            };
            directives.push(Directive {
                name,
                arguments,
                position,
                block,
            });
        }
    }

    /// Reads the included files. A pattern may match no file; a plain name must exist.
    fn include(
        &mut self,
        position: &Position,
        arguments: &[String],
        depth: usize,
    ) -> Result<Vec<Directive>, ImportError> {
        let [pattern] = arguments else {
            return Err(malformed(
                &self.prefix,
                position,
                "`include` takes one file or pattern".to_owned(),
            ));
        };
        if !pattern.contains(['*', '?', '[']) {
            return self.file(&self.prefix.join(pattern), Some(position), depth);
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
                position,
                format!("`{text}` is not a valid pattern of file names ({error})"),
            )
        })?;
        let mut directives = Vec::new();
        for path in found.take(MAX_FILES + 1) {
            let path = path.map_err(|error| ImportError::Unreadable {
                path: error.path().to_owned(),
                included_at: Some(position.to_string()),
                source: error.into(),
            })?;
            directives.append(&mut self.file(&path, Some(position), depth)?);
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
            .ok_or_else(|| io::Error::other(format!("more than {MAX_FILES} files are included")))?;
        let mut text = Vec::new();
        File::open(path)?.take(self.bytes + 1).read_to_end(&mut text)?;
        self.bytes = self
            .bytes
            .checked_sub(text.len() as u64)
            .ok_or_else(|| io::Error::other(format!("all files together are longer than {} MiB", MAX_BYTES >> 20)))?;
        Ok(text)
    }
}

fn malformed(prefix: &Path, position: &Position, problem: String) -> ImportError {
    ImportError::Malformed {
        position: prefix.join(&position.file).display().to_string() + &format!(":{}", position.line),
        problem,
    }
}
