//! HTTP/1.1 responses, read exactly from a [`Raw`] connection.

use super::{End, Raw};

/// The status line and fields of a response.
#[derive(Clone, Debug)]
pub struct Head {
    /// The complete status line.
    pub line: String,
    /// The status code.
    pub status: u16,
    /// Fields in their order, with names in lower case.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// Parses a complete head.
    pub fn parse(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let fields = lines.filter(|line| !line.is_empty()).map(|line| {
            let (name, value) = line.split_once(':').expect("a field has a colon");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Self {
            status: status.unwrap_or_else(|| panic!("no status line: {line:?}")),
            fields: fields.collect(),
            line,
        }
    }

    /// Returns the value of a field; the first one of several.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields.find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// A response, with the received part of its body.
#[derive(Clone, Debug)]
pub struct Answer {
    pub head: Head,
    pub body: Vec<u8>,
    /// `Err` if the stream ended before the end of the body according to its framing.
    pub whole: Result<(), End>,
}

impl Answer {
    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }
}

impl Raw {
    /// Sends a request unchanged, and reads the response.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Result<Answer, End> {
        self.send(request)?;
        self.read_answer()
    }

    /// Sends a minimal `GET` request, and reads the response.
    pub fn get(&mut self, target: &str) -> Result<Answer, End> {
        self.ask(format!("GET {target} HTTP/1.1\r\nHost: gate.test:8555\r\n\r\n"))
    }

    /// Requests an upgrade to `tcp`, and reads the head of the response.
    pub fn upgrade(&mut self, target: &str) -> Result<Head, End> {
        self.send(format!(
            "GET {target} HTTP/1.1\r\nHost: gate.test\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        ))?;
        self.read_head()
    }

    /// Reads a head, and not a byte more.
    pub fn read_head(&mut self) -> Result<Head, End> {
        const END: &[u8] = b"\r\n\r\n";
        let mut bytes = self.read_record()?;
        loop {
            if let Some(at) = bytes.windows(END.len()).position(|window| window == END) {
                let rest = bytes.split_off(at + END.len());
                self.unread(rest);
                return Ok(Head::parse(&String::from_utf8_lossy(&bytes)));
            }
            bytes.extend(self.read_record()?);
        }
    }

    /// Reads a head, and the body that follows it.
    pub fn read_answer(&mut self) -> Result<Answer, End> {
        let head = self.read_head()?;
        let mut body = Vec::new();
        let whole = self.read_body(&head, &mut body);
        Ok(Answer { head, body, whole })
    }

    /// Reads the body that belongs to a head.
    pub fn read_body_of(&mut self, head: &Head) -> Result<Vec<u8>, End> {
        let mut body = Vec::new();
        self.read_body(head, &mut body).map(|()| body)
    }

    fn read_body(&mut self, head: &Head, body: &mut Vec<u8>) -> Result<(), End> {
        let is_empty = matches!(head.status, 100..=199 | 204 | 304);
        let length = head
            .field("content-length")
            .map(|length| length.parse().expect("a length"));
        if is_empty {
            Ok(())
        } else if head.field("transfer-encoding") == Some("chunked") {
            self.read_chunks(body)
        } else if let Some(length) = length {
            self.read_into(body, length)
        } else {
            match self.read_to_end() {
                (rest, End::CloseNotify) => {
                    body.extend(rest);
                    Ok(())
                }
                (rest, end) => {
                    body.extend(rest);
                    Err(end)
                }
            }
        }
    }

    fn read_chunks(&mut self, body: &mut Vec<u8>) -> Result<(), End> {
        loop {
            let line = self.read_line()?;
            let length = line.split(';').next().unwrap_or_default();
            match usize::from_str_radix(length, 16).expect("a chunk's length") {
                0 => {
                    while !self.read_line()?.is_empty() {}
                    return Ok(());
                }
                length => self.read_into(body, length)?,
            }
            self.read_line()?;
        }
    }

    fn read_line(&mut self) -> Result<String, End> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(self.read_exactly(1)?);
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Like `read_exactly`, but keeps the received part if the stream ends early.
    fn read_into(&mut self, body: &mut Vec<u8>, mut count: usize) -> Result<(), End> {
        while count > 0 {
            let mut bytes = self.read_record()?;
            if bytes.len() > count {
                let rest = bytes.split_off(count);
                self.unread(rest);
            }
            count -= bytes.len();
            body.extend(bytes);
        }
        Ok(())
    }
}
