//! The tree of Nginx's directives. Every directive has its file and line.

use std::fmt;
use std::path::Path;
use std::rc::Rc;

/// A file and a line, for messages. The path is relative to Nginx's folder if the file is below it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Position {
    pub(crate) file: Rc<Path>,
    pub(crate) line: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// One directive, with its block if it has one.
#[derive(Debug)]
pub(crate) struct Directive {
    pub(crate) name: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) position: Position,
    pub(crate) block: Option<Block>,
}

#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) directives: Vec<Directive>,
    /// The line of its `}`.
    pub(crate) end: u32,
}

impl Directive {
    /// Returns the directives of its block.
    pub(crate) fn children(&self) -> &[Self] {
        self.block.as_ref().map_or(&[], |block| &block.directives)
    }

    /// Returns its first argument, or an empty string.
    pub(crate) fn value(&self) -> &str {
        self.arguments.first().map_or("", String::as_str)
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// Returns the lines of its block, such as `a.conf:3-17`.
    pub(crate) fn line_range(&self) -> String {
        let Position { file, line } = &self.position;
        let end = self.block.as_ref().map_or(*line, |block| block.end);
        format!("{}:{line}-{end}", file.display())
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

/// Formats positions as `a.conf:3, 4, 5; b.conf:1`.
pub(crate) fn format_positions(positions: &[Position]) -> String {
    let mut by_file: Vec<(Rc<Path>, Vec<u32>)> = Vec::new();
    for position in positions {
        match by_file.iter_mut().find(|(file, _)| *file == position.file) {
            Some((_, lines)) => lines.push(position.line),
            None => by_file.push((Rc::clone(&position.file), vec![position.line])),
        }
    }
    let list = |(file, lines): &(Rc<Path>, Vec<u32>)| {
        let mut lines = lines.clone();
        lines.sort_unstable();
        lines.dedup();
        let lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
        format!("{}:{}", file.display(), lines.join(", "))
    };
    by_file.iter().map(list).collect::<Vec<_>>().join("; ")
}

/// Formats the positions of several directives, for a message about all of them.
pub(crate) fn positions_of<'a>(directives: impl IntoIterator<Item = &'a Directive>) -> String {
    let positions: Vec<_> = directives
        .into_iter()
        .map(|directive| directive.position.clone())
        .collect();
    format_positions(&positions)
}
