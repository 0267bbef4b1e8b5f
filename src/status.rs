//! `incus-gate status` and `incus-gate images`: how the running gateway is, by its own word.
//!
//! The gateway answers its [`owner`] on a unix [`socket`] that is for root and its own user alone. [`report`] is what it says,
//! as an object with names that stay; [`collect`] makes it of the figures, in which [`seen`] is when each admin was here last.
//! The commands ask there, and [`text`] and `images` show it to people.

mod images;
pub mod last_seen;
pub mod owner;
pub mod report;
pub mod report_builder;
pub mod socket;
mod table;
mod text;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use thiserror::Error;

use self::report::{Report, State};
use crate::unix_http::{self, LocalError};

/// Where the gateway tells how it is.
pub const STATUS_PATH: &str = "/status";
/// Where it tells what strangers see, as Incus would.
pub const IMAGES_PATH: &str = "/images";

/// More than the gateway gives itself for an answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// The part of a [`Report`] that a gateway of any version has.
#[derive(Deserialize)]
struct Verdict {
    state: State,
    problem: Option<String>,
}

/// Why it cannot be told that all is well.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum StatusError {
    #[error("what answers at {} is no incus-gate of this version ({why}); if it was upgraded, restart it, or ask with --json", socket.display())]
    Foreign { socket: PathBuf, why: String },
    #[error("no gateway answers at {}: {source}; {}", socket.display(), remedy(source))]
    NoAnswer { socket: PathBuf, source: LocalError },
    #[error("the gateway is not ready: {0}")]
    NotReady(String),
    #[error("status.socket is turned off, so that the gateway tells nobody; set it in {}, and restart the gateway", .0.display())]
    Off(PathBuf),
    #[error("the gateway cannot say: {0}")]
    Refused(String),
}

/// Prints how it is. That it is not ready is an error, told once the rest is told.
pub fn status(socket: &Path, is_json: bool) -> Result<(), StatusError> {
    let (_, body) = ask(socket, STATUS_PATH)?;
    if is_json {
        print(&body);
    }
    let foreign = |error| foreign(socket, &error);
    if !is_json {
        let report: Report = serde_json::from_slice(&body).map_err(foreign)?;
        print(text::text(&report, SystemTime::now()).as_bytes());
    }
    let verdict: Verdict = serde_json::from_slice(&body).map_err(foreign)?;
    match verdict.state {
        State::Ready => Ok(()),
        _ => Err(StatusError::NotReady(table::plain(
            &verdict.problem.unwrap_or_default(),
        ))),
    }
}

/// Prints what strangers see.
pub fn images(socket: &Path, is_json: bool) -> Result<(), StatusError> {
    let (status, body) = ask(socket, IMAGES_PATH)?;
    if status != StatusCode::OK {
        return Err(StatusError::Refused(table::plain(&String::from_utf8_lossy(&body))));
    }
    let text = match is_json {
        true => images::json(&body),
        false => images::table(&body),
    };
    print(text.map_err(|error| foreign(socket, &error))?.as_bytes());
    Ok(())
}

fn ask(socket: &Path, path: &str) -> Result<(StatusCode, Bytes), StatusError> {
    let no_answer = |source| StatusError::NoAnswer {
        socket: socket.to_owned(),
        source,
    };
    let request = unix_http::request(Method::GET, path, Bytes::new());
    let request = request.map_err(|error| no_answer(LocalError::Strange(error.into())))?;
    unix_http::ask(socket, request, PATIENCE).map_err(no_answer)
}

fn foreign(socket: &Path, error: &serde_json::Error) -> StatusError {
    StatusError::Foreign {
        socket: socket.to_owned(),
        why: error.to_string(),
    }
}

/// Who has closed stdout still gets the exit code.
fn print(text: &[u8]) {
    let _ = io::stdout().write_all(text);
}

fn remedy(error: &LocalError) -> &'static str {
    match error {
        LocalError::Connect(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                "start it with `systemctl start incus-gate` or `incus-gate run`, or name its configuration with --config"
            }
            io::ErrorKind::PermissionDenied => "run this as root, or as the gateway's own user",
            _ => "see what stands there, or set another status.socket and restart the gateway",
        },
        LocalError::Strange(_) => {
            "only root and the gateway's own user are answered; see whether a gateway listens there"
        }
        LocalError::Timeout(_) => "it hangs, or something else listens there; see its log",
    }
}
