//! The choice of the address at which the gateway reaches Incus.

use std::path::PathBuf;

use super::error::InitError;
use super::incus::Incus;
use super::progress::ProgressLog;
use super::prompt::Prompter;

/// The address at which Incus is assumed or configured to listen by default.
const USUAL: &str = "127.0.0.1:8553";

/// How the gateway reaches Incus.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) url: String,
    /// The file of Incus's certificate, if it is readable here.
    pub(super) pin: Option<PathBuf>,
}

/// Returns Incus's address and certificate. If Incus listens on no TCP port, offers to make it listen on loopback.
pub(super) fn reach(incus: &Incus, questions: &Prompter, done: &mut ProgressLog) -> Result<Reached, InitError> {
    let server = match incus.server() {
        Ok(server) => server,
        Err(error) => {
            // Incus may run elsewhere, or this process is not root: the configuration can still be written.
            done.note(error);
            let url = format!("https://{USUAL}");
            return Ok(Reached {
                url,
                pin: incus.pin(false),
            });
        }
    };
    if server.address.is_none() {
        let question = format!("Incus listens only on its Unix socket. Make it also listen on {USUAL}?");
        if questions.yes_or_no(&question)? {
            incus.listen(USUAL)?;
            done.step("set", &format!("Incus's core.https_address to {USUAL}"));
        }
    }
    Ok(Reached {
        url: server.url().unwrap_or_else(|| format!("https://{USUAL}")),
        pin: incus.pin(server.is_cluster),
    })
}
