//! `incus-gate status` and `incus-gate images`: show the state of the running gateway.
//!
//! The gateway serves them over a Unix [`socket`] that only root and its own user may access; [`owner`] handles the
//! requests. [`report`] defines the JSON report, whose field names are stable, and [`report_builder`] fills it.
//! [`last_seen`] records each administrator's last request. The commands query the socket; `text` and `images` format
//! the result for a terminal.

mod images;
pub mod last_seen;
pub mod owner;
pub mod report;
pub mod report_builder;
pub mod simplestreams;
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

/// Path of the status report.
pub const STATUS_PATH: &str = "/status";
/// Path of the list of public images, in Incus's format.
pub const IMAGES_PATH: &str = "/images";

/// Request timeout. It is longer than the gateway's own timeout for a response.
const PATIENCE: Duration = Duration::from_secs(15);

/// The fields of a [`Report`] that every version of the gateway sends.
#[derive(Deserialize)]
struct Verdict {
    state: State,
    problem: Option<String>,
}

/// Errors of `incus-gate status` and `incus-gate images`.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum StatusError {
    #[error("the program at {} is not this version of incus-gate ({why}); restart the gateway if it was upgraded, or use --json", socket.display())]
    Foreign { socket: PathBuf, why: String },
    #[error("no gateway responds at {}: {source}; {}", socket.display(), remedy(source))]
    NoAnswer { socket: PathBuf, source: LocalError },
    #[error("the gateway is not ready: {0}")]
    NotReady(String),
    #[error("status.socket is disabled; set it in {}, and restart the gateway", .0.display())]
    Off(PathBuf),
    #[error("cannot list the images: {0}")]
    Refused(String),
}

/// Prints the status report, as JSON or as text.
///
/// # Errors
///
/// Fails if no gateway responds. If the gateway is not ready, prints the report and then fails with
/// [`StatusError::NotReady`].
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

/// Prints the public images, as JSON or as a table.
///
/// # Errors
///
/// Fails if no gateway responds, or if it has no current image list.
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

/// Ignores errors: if stdout is closed, the exit code still counts.
fn print(text: &[u8]) {
    let _ = io::stdout().write_all(text);
}

fn remedy(error: &LocalError) -> &'static str {
    match error {
        LocalError::Connect(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                "start it with `systemctl start incus-gate` or `incus-gate run`, or specify its configuration with --config"
            }
            io::ErrorKind::PermissionDenied => "run this as root, or as the gateway's own user",
            _ => "check what this path is, or set another status.socket and restart the gateway",
        },
        LocalError::Strange(_) => {
            "only root and the gateway's own user have access; check that a gateway listens there"
        }
        LocalError::Timeout(_) => "it hangs, or another program listens there; see its log",
    }
}
