//! The format of the corpus files.
//!
//! ```text
//! === the name of a case
//! RFC 9112 §6.3: the requirement
//! read POST /1.0/a 5, GET /1.0/b 0; closed
//! | POST /1.0/a HTTP/1.1
//! ```
//!
//! Each line of a request ends with CR LF, unless it ends with a single `\`. `\r`, `\n`, `\t`, `\xHH` and `\\` are bytes,
//! `\(a*100)` is that letter a hundred times. HTTP/2 requests are fields, `name: value`, then an empty line and the content
//! of DATA.
//!
//! The expected result is one of:
//! - `read METHOD TARGET BYTES, …; goes on` (or `; closed`): exactly these requests, on both ports, from any client.
//! - `refused STATUS; closed`: this response, and nothing reaches Incus. `refused STATUS, public STATUS, nobody STATUS` if
//!   clients without access get another one.
//! - `torn`: the header section is valid, the body is not: Incus never gets a complete request, and the connection ends.
//! - `ended`: the connection ends without a response.
//! - `reset CODE`, `goaway CODE`: the stream or the connection ends with this HTTP/2 error. `perhaps read …` is what may have
//!   reached Incus before the error is known.

/// One case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The section and its requirement.
    pub(crate) rule: String,
    pub(crate) expected: Expected,
    /// The request's lines with their line endings.
    pub(crate) lines: Vec<Vec<u8>>,
}

/// The expected result.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    Read {
        requests: Vec<String>,
        goes_on: bool,
    },
    Refused {
        status: u16,
        public: u16,
        nobody: u16,
        goes_on: bool,
    },
    Torn,
    Ended,
    Reset {
        code: String,
        /// What may have reached Incus before the error is known.
        perhaps: Option<String>,
    },
    Goaway(String),
}

/// Parses the files for a version of HTTP. In each case, `/1.0/a` is replaced by a unique target that identifies it.
pub(crate) fn parse(version: u8, files: &[&str]) -> Vec<Case> {
    let cases = files.iter().flat_map(|text| text.split("=== ").skip(1));
    cases
        .enumerate()
        .map(|(number, case)| {
            let case = case.replace("/1.0/a", &format!("/1.0/{version}-{number:03}"));
            let mut lines = case.lines();
            let mut next = || lines.next().expect("a name, a rule, and what is expected").to_owned();
            let (name, rule, expected) = (next(), next(), next());
            let lines = lines.filter_map(|line| line.strip_prefix('|'));
            Case {
                expected: Expected::parse(&expected),
                lines: lines
                    .map(|line| bytes_of(line.strip_prefix(' ').unwrap_or(line)))
                    .collect(),
                name,
                rule,
            }
        })
        .collect()
}

impl Case {
    /// Returns the request that may have reached Incus before the error is known, perhaps only while the next case runs.
    pub(crate) fn perhaps(&self) -> Option<&str> {
        match &self.expected {
            Expected::Reset { perhaps, .. } => perhaps.as_deref(),
            _ => None,
        }
    }
}

impl Expected {
    fn parse(line: &str) -> Self {
        let (line, then) = line.split_once("; ").unwrap_or((line, "closed"));
        let goes_on = match then {
            "goes on" => true,
            "closed" => false,
            other => panic!("{other}"),
        };
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        match what {
            "read" => Self::Read {
                requests: rest.split(", ").map(str::to_owned).collect(),
                goes_on,
            },
            "refused" => {
                let mut parts = rest.split(", ");
                let number = |text: &str| text.parse::<u16>().expect("a status");
                let status = number(parts.next().expect("a status"));
                let (mut public, mut nobody) = (status, status);
                for part in parts {
                    match part.split_once(' ').expect("who, and a status") {
                        ("public", status) => public = number(status),
                        ("nobody", status) => nobody = number(status),
                        (other, _) => panic!("{other}"),
                    }
                }
                Self::Refused {
                    status,
                    public,
                    nobody,
                    goes_on,
                }
            }
            "torn" => Self::Torn,
            "ended" => Self::Ended,
            "reset" => {
                let (code, perhaps) = rest.split_once(", perhaps read ").unzip();
                Self::Reset {
                    code: code.unwrap_or(rest).to_owned(),
                    perhaps: perhaps.map(str::to_owned),
                }
            }
            "goaway" => Self::Goaway(rest.to_owned()),
            other => panic!("nothing is expected by {other:?}"),
        }
    }
}

fn bytes_of(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend(plain.as_bytes());
        let length = match escaped.as_bytes().first() {
            // At the end of the line: no line break.
            None => return bytes,
            Some(b'(') => {
                let (inner, _) = escaped[1..].split_once(')').expect("a closing bracket");
                let (letter, times) = inner.split_once('*').expect("a letter and a number");
                bytes.extend(letter.repeat(times.parse().expect("a number")).as_bytes());
                inner.len() + 2
            }
            Some(b'x') => {
                bytes.push(u8::from_str_radix(&escaped[1..3], 16).expect("two digits"));
                3
            }
            Some(letter) => {
                bytes.push(match letter {
                    b'r' => b'\r',
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'\\' => b'\\',
                    other => panic!("\\{} is nothing", char::from(*other)),
                });
                1
            }
        };
        rest = &escaped[length..];
    }
    bytes.extend(rest.as_bytes());
    bytes.extend(b"\r\n");
    bytes
}
