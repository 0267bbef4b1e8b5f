//! A strict parser for `multipart/form-data` as Go's `mime/multipart` writes it: no preamble, no padding, nothing behind the end
//! but the closing delimiter once more, which Incus sends twice.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem::Finder;

use super::{Event, parameters};
use crate::error::{BadExport, MAX_HEADER};
use crate::part::{Extension, PartHead, PartKind};

#[derive(Debug)]
pub(crate) struct Multipart {
    /// `\r\n--boundary`.
    delimiter: Finder<'static>,
    state: State,
    /// Bytes that need more bytes to be understood.
    held: Bytes,
    /// The parts so far, at most two.
    parts: Vec<PartKind>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Before the first delimiter.
    Start,
    Header,
    Content,
    /// Behind a delimiter, which either starts a part or closes the whole.
    Delimiter,
    /// Behind the closing delimiter.
    End,
}

/// Whether a step needs more bytes before the parser can go on.
enum Step {
    Go,
    More,
}

impl Multipart {
    /// # Errors
    /// [`BadExport::Malformed`] if RFC 2046 §5.1.1 does not allow the boundary.
    pub(super) fn new(boundary: &str) -> Result<Self, BadExport> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
        if !(1..=70).contains(&boundary.len()) || !boundary.bytes().all(is_allowed) || boundary.ends_with(' ') {
            return Err(BadExport::Malformed("its boundary is not allowed"));
        }
        Ok(Self {
            delimiter: Finder::new(format!("\r\n--{boundary}").as_bytes()).into_owned(),
            state: State::Start,
            held: Bytes::new(),
            parts: Vec::with_capacity(2),
        })
    }

    pub(super) fn push<E: From<BadExport>>(
        &mut self,
        chunk: Bytes,
        each: &mut impl FnMut(Event) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut input = self.join_held(chunk);
        while let Step::Go = self.step(&mut input, each)? {}
        self.held = input;
        Ok(())
    }

    pub(super) fn finish(&self) -> Result<(), BadExport> {
        let is_end = self.held.as_ref() == b"\r\n" || self.held.len() == self.end().len();
        match self.state == State::End && is_end {
            true => Ok(()),
            false => Err(BadExport::Torn),
        }
    }

    /// Puts the held bytes before the new ones. Nothing is held inside of content, except for what may be a delimiter.
    fn join_held(&self, chunk: Bytes) -> Bytes {
        if self.held.is_empty() {
            return chunk;
        }
        let mut joined = BytesMut::with_capacity(self.held.len() + chunk.len());
        joined.extend_from_slice(&self.held);
        joined.extend_from_slice(&chunk);
        joined.freeze()
    }

    fn step<E: From<BadExport>>(
        &mut self,
        input: &mut Bytes,
        each: &mut impl FnMut(Event) -> Result<(), E>,
    ) -> Result<Step, E> {
        match self.state {
            State::Start => Ok(self.start(input)?),
            State::Header => self.header(input, each),
            State::Content => self.content(input, each),
            State::Delimiter => Ok(self.behind_delimiter(input)?),
            State::End => {
                let is_end = self.end().starts_with(input);
                is_end
                    .then_some(Step::More)
                    .ok_or_else(|| BadExport::Malformed("bytes after its end").into())
            }
        }
    }

    /// The first delimiter has no line break before it.
    fn start(&mut self, input: &mut Bytes) -> Result<Step, BadExport> {
        let first = &self.delimiter.needle()[2..];
        let known = input.len().min(first.len());
        if input[..known] != first[..known] {
            return Err(BadExport::Malformed("it does not start with its boundary"));
        }
        if input.len() < first.len() {
            return Ok(Step::More);
        }
        input.advance(first.len());
        self.state = State::Delimiter;
        Ok(Step::Go)
    }

    fn behind_delimiter(&mut self, input: &mut Bytes) -> Result<Step, BadExport> {
        if input.len() < 2 {
            return Ok(Step::More);
        }
        self.state = match &input.split_to(2)[..] {
            b"\r\n" => State::Header,
            b"--" if self.parts.len() == 2 => State::End,
            b"--" => return Err(BadExport::Malformed("a part is missing")),
            _ => return Err(BadExport::Malformed("bytes behind a boundary")),
        };
        Ok(Step::Go)
    }

    fn header<E: From<BadExport>>(
        &mut self,
        input: &mut Bytes,
        each: &mut impl FnMut(Event) -> Result<(), E>,
    ) -> Result<Step, E> {
        let window = &input[..input.len().min(MAX_HEADER)];
        let Some(end) = memchr::memmem::find(window, b"\r\n\r\n") else {
            return match input.len() < MAX_HEADER {
                true => Ok(Step::More),
                false => Err(BadExport::HeaderTooLarge.into()),
            };
        };
        let head = self.parse_header(&input.split_to(end))?;
        input.advance(4);
        self.parts.push(head.kind);
        self.state = State::Content;
        each(Event::Part(head))?;
        Ok(Step::Go)
    }

    fn content<E: From<BadExport>>(
        &mut self,
        input: &mut Bytes,
        each: &mut impl FnMut(Event) -> Result<(), E>,
    ) -> Result<Step, E> {
        let found = self.delimiter.find(input);
        let end = found.unwrap_or_else(|| input.len() - self.partial_delimiter(input));
        if end > 0 {
            each(Event::Data(input.split_to(end)))?;
        }
        if found.is_none() {
            return Ok(Step::More);
        }
        input.advance(self.delimiter.needle().len());
        self.state = State::Delimiter;
        Ok(Step::Go)
    }

    /// How many of the last bytes may be the beginning of a delimiter.
    fn partial_delimiter(&self, input: &[u8]) -> usize {
        let delimiter = self.delimiter.needle();
        let longest = input.len().min(delimiter.len() - 1);
        let tail = &input[input.len() - longest..];
        // The delimiter contains only one carriage return, its first byte.
        memchr::memrchr(b'\r', tail)
            .map(|at| &tail[at..])
            .filter(|start| delimiter.starts_with(start))
            .map_or(0, <[u8]>::len)
    }

    /// What may follow the closing delimiter: a line break, and the closing delimiter once more.
    fn end(&self) -> Vec<u8> {
        [b"\r\n", self.delimiter.needle(), b"--\r\n"].concat()
    }

    fn parse_header(&self, header: &[u8]) -> Result<PartHead, BadExport> {
        let header = str::from_utf8(header).map_err(|_| BadExport::Malformed("a header is not UTF-8"))?;
        let mut disposition = None;
        for line in header.split("\r\n") {
            let (name, value) = line
                .split_once(':')
                .ok_or(BadExport::Malformed("a header line without a colon"))?;
            if value.chars().any(|c| c.is_control() && c != '\t') {
                return Err(BadExport::Malformed("a control character in a header"));
            }
            match name.to_ascii_lowercase().as_str() {
                "content-disposition" if disposition.is_none() => disposition = Some(value),
                "content-type" => {}
                _ => return Err(BadExport::Malformed("an unexpected header field")),
            }
        }
        let disposition = disposition.ok_or(BadExport::Malformed("a part without Content-Disposition"))?;
        self.parse_disposition(disposition)
    }

    fn parse_disposition(&self, value: &str) -> Result<PartHead, BadExport> {
        let malformed = BadExport::Malformed("its Content-Disposition");
        let rest = value
            .trim()
            .strip_prefix("form-data;")
            .ok_or_else(|| malformed.clone())?;
        let parameters = parameters::all(rest).ok_or_else(|| malformed.clone())?;
        let [(name_key, name), (file_key, file_name)] = &parameters[..] else {
            return Err(malformed);
        };
        if (name_key.as_str(), file_key.as_str()) != ("name", "filename") {
            return Err(malformed);
        }
        let kind = self.next_kind(name)?;
        Ok(PartHead {
            kind,
            extension: Extension::of(file_name)?,
        })
    }

    /// Which part has this name, provided that it may come now.
    fn next_kind(&self, name: &str) -> Result<PartKind, BadExport> {
        let known = [PartKind::Metadata, PartKind::Rootfs, PartKind::Disk];
        let kind = known.into_iter().find(|kind| kind.form_name() == Some(name));
        match (&self.parts[..], kind) {
            ([], Some(kind @ PartKind::Metadata)) => Ok(kind),
            ([PartKind::Metadata], Some(kind @ (PartKind::Rootfs | PartKind::Disk))) => Ok(kind),
            (parts, Some(kind)) if parts.contains(&kind) => Err(BadExport::PartTwice(name.to_owned())),
            _ => Err(BadExport::UnexpectedPart(name.chars().take(80).collect())),
        }
    }
}
