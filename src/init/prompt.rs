//! Prompts on the terminal.

use std::io::{self, BufRead, IsTerminal, Write};

use thiserror::Error;

use super::progress::say;

/// The reason why a prompt got no answer.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum AskError {
    #[error("cannot prompt without a terminal; run this in a terminal, or accept every default with --yes")]
    Nobody,
    #[error("cannot read the input: {0}")]
    Unreadable(#[from] io::Error),
}

/// Prompts the user, or accepts every default with `--yes`.
#[derive(Debug)]
pub(super) struct Prompter {
    yes: bool,
}

impl Prompter {
    pub(super) fn new(yes: bool) -> Result<Self, AskError> {
        match yes || io::stdin().is_terminal() {
            true => Ok(Self { yes }),
            false => Err(AskError::Nobody),
        }
    }

    /// Asks a yes-or-no question. The default is yes.
    pub(super) fn yes_or_no(&self, question: &str) -> Result<bool, AskError> {
        if self.yes {
            return Ok(true);
        }
        loop {
            match self.line(&format!("{question} [Y/n]"))?.to_lowercase().as_str() {
                "" | "y" | "yes" => return Ok(true),
                "n" | "no" => return Ok(false),
                _ => say("Please enter y or n."),
            }
        }
    }

    /// Asks for a value with a default, and repeats the prompt until `will_do` accepts it.
    pub(super) fn text(&self, question: &str, proposal: &str, will_do: fn(&str) -> bool) -> Result<String, AskError> {
        if self.yes {
            return Ok(proposal.to_owned());
        }
        loop {
            let answer = self.line(&format!("{question} [{proposal}]"))?;
            match answer.as_str() {
                "" if will_do(proposal) => return Ok(proposal.to_owned()),
                answer if will_do(answer) => return Ok(answer.to_owned()),
                _ => say("This value is not valid."),
            }
        }
    }

    /// Asks for an optional value. Returns `None` for an empty answer, and always with `--yes`.
    pub(super) fn text_if_asked(&self, question: &str, will_do: fn(&str) -> bool) -> Result<Option<String>, AskError> {
        if self.yes {
            return Ok(None);
        }
        loop {
            let answer = self.line(question)?;
            match answer.as_str() {
                "" => return Ok(None),
                answer if will_do(answer) => return Ok(Some(answer.to_owned())),
                _ => say("This value is not valid."),
            }
        }
    }

    fn line(&self, question: &str) -> Result<String, AskError> {
        write!(io::stdout(), "{question} ")?;
        io::stdout().flush()?;
        let mut line = String::new();
        match io::stdin().lock().read_line(&mut line)? {
            0 => Err(AskError::Nobody),
            _ => Ok(line.trim().to_owned()),
        }
    }
}
