//! Lexer for Nginx's configuration. It splits a file into statements exactly as `ngx_conf_read_token` does: words, quotes,
//! escapes and comments follow the same rules, including the unusual ones.

/// A statement: it ends with `;`, opens a block, or closes one.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Statement {
    /// `}`
    Close { line: u32 },
    /// `words {`
    Open { words: Vec<String>, line: u32 },
    /// `words;`
    Simple { words: Vec<String>, line: u32 },
}

/// A syntax error and its line.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct SyntaxError {
    pub(crate) line: u32,
    pub(crate) problem: String,
}

pub(crate) struct Lexer<'a> {
    rest: &'a [u8],
    line: u32,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { rest: text, line: 1 }
    }

    /// Returns the next statement; `None` at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<Statement>, SyntaxError> {
        let mut words = Vec::new();
        let mut line = self.line;
        loop {
            self.skip_blank();
            if words.is_empty() {
                line = self.line;
            }
            match self.rest.first() {
                None if words.is_empty() => return Ok(None),
                None => return Err(self.unexpected_end("`;` or `{`")),
                Some(b'}') if words.is_empty() => {
                    self.advance();
                    return Ok(Some(Statement::Close { line }));
                }
                Some(byte @ (b';' | b'{')) if !words.is_empty() => {
                    let opens = *byte == b'{';
                    self.advance();
                    return Ok(Some(if opens {
                        Statement::Open { words, line }
                    } else {
                        Statement::Simple { words, line }
                    }));
                }
                Some(byte @ (b';' | b'{' | b'}')) => return Err(self.unexpected(*byte)),
                Some(quote @ (b'"' | b'\'')) => words.push(self.quoted(*quote)?),
                Some(_) => words.push(self.bare_word()?),
            }
        }
    }

    /// Returns the current line.
    pub(crate) fn line(&self) -> u32 {
        self.line
    }

    pub(crate) fn unexpected_end(&self, expected: &str) -> SyntaxError {
        SyntaxError {
            line: self.line,
            problem: format!("the file ends where {expected} should follow"),
        }
    }

    /// Skips white space and comments. A comment starts only where a word could start, not within one.
    fn skip_blank(&mut self) {
        let mut in_comment = false;
        while let Some(&byte) = self.rest.first() {
            match byte {
                b'\n' => in_comment = false,
                b'#' => in_comment = true,
                _ if in_comment || is_space(byte) => {}
                _ => return,
            }
            self.advance();
        }
    }

    fn quoted(&mut self, quote: u8) -> Result<String, SyntaxError> {
        let opened = self.line;
        self.advance();
        let text = self.rest;
        let mut length = 0;
        loop {
            match self.advance() {
                None => {
                    return Err(SyntaxError {
                        line: opened,
                        problem: format!("the quote {} that begins here is never closed", char::from(quote)),
                    });
                }
                Some(byte) if byte == quote => break,
                Some(b'\\') => length += 1 + usize::from(self.advance().is_some()),
                Some(_) => length += 1,
            }
        }
        match self.rest.first() {
            None | Some(b';' | b'{' | b')') => {}
            Some(byte) if is_space(*byte) => {}
            Some(byte) => return Err(self.unexpected(*byte)),
        }
        Ok(unescape(&text[..length]))
    }

    fn bare_word(&mut self) -> Result<String, SyntaxError> {
        let text = self.rest;
        let mut length = 0;
        // The brace in `${name}` does not open a block.
        let mut after_dollar = false;
        loop {
            match self.rest.first() {
                None => return Err(self.unexpected_end("`;` or `{`")),
                Some(b'{') if after_dollar => {}
                Some(b';' | b'{') => break,
                Some(byte) if is_space(*byte) => break,
                Some(b'\\') => {
                    self.advance();
                    length += usize::from(!self.rest.is_empty());
                    after_dollar = false;
                }
                Some(byte) => after_dollar = *byte == b'$',
            }
            self.advance();
            length += 1;
        }
        Ok(unescape(&text[..length]))
    }

    fn unexpected(&self, byte: u8) -> SyntaxError {
        SyntaxError {
            line: self.line,
            problem: format!("`{}` is not expected here", char::from(byte).escape_debug()),
        }
    }

    fn advance(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        self.line += u32::from(byte == b'\n');
        Some(byte)
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Resolves escape sequences. Only these few have a meaning; other backslashes stay, for regular expressions.
fn unescape(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        let meant = match (byte, rest.as_slice().first()) {
            (b'\\', Some(quoted @ (b'"' | b'\'' | b'\\'))) => Some(*quoted),
            (b'\\', Some(b't')) => Some(b'\t'),
            (b'\\', Some(b'r')) => Some(b'\r'),
            (b'\\', Some(b'n')) => Some(b'\n'),
            _ => None,
        };
        if meant.is_some() {
            rest.next();
        }
        bytes.push(meant.unwrap_or(byte));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statements(text: &str) -> Result<Vec<Statement>, SyntaxError> {
        let mut lexer = Lexer::new(text.as_bytes());
        std::iter::from_fn(|| lexer.next().transpose()).collect()
    }

    /// Returns the words of each statement. Panics if one is not a simple statement.
    fn words(text: &str) -> Vec<Vec<String>> {
        let statements = statements(text).expect("valid input");
        statements
            .into_iter()
            .map(|statement| match statement {
                Statement::Simple { words, .. } => words,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn words_are_split_as_nginx_splits_them() {
        for (text, expected) in [
            ("a b  c;", &["a", "b", "c"][..]),
            ("a\tb\r\n c ;", &["a", "b", "c"]),
            ("a # b ; {\n c;", &["a", "c"]),
            ("a b#c;", &["a", "b#c"]),
            ("a 'b ; { # } c';", &["a", "b ; { # } c"]),
            (r#"a "b\"c" 'd\'e';"#, &["a", "b\"c", "d'e"]),
            (r"a ^/1\.0/images;", &["a", r"^/1\.0/images"]),
            (r"a \t\n\\ b\;c;", &["a", "\t\n\\", r"b\;c"]),
            ("a ${b}c $d;", &["a", "${b}c", "$d"]),
            ("a b}c;", &["a", "b}c"]),
            ("if ($a = \"b\") c;", &["if", "($a", "=", "b", ")", "c"]),
            ("a '';", &["a", ""]),
            ("a b\"c d;", &["a", "b\"c", "d"]),
        ] {
            assert_eq!(words(text), [expected], "{text}");
        }
    }

    #[test]
    fn each_syntax_error_has_its_line() {
        for (text, line, problem) in [
            ("a;\n;", 2, "`;` is not expected here"),
            ("{", 1, "`{` is not expected here"),
            ("a }", 1, "`}` is not expected here"),
            ("a\n\"b\nc", 2, "the quote \" that begins here is never closed"),
            ("\na 'b'c;", 2, "`c` is not expected here"),
            ("a\nb", 2, "the file ends where `;` or `{` should follow"),
            ("a \\", 1, "the file ends where `;` or `{` should follow"),
            ("a 'b\\", 1, "the quote ' that begins here is never closed"),
        ] {
            let problem = problem.to_owned();
            assert_eq!(statements(text), Err(SyntaxError { line, problem }), "{text}");
        }
    }
}
