//! What goes wrong with the store. Any client can make it go wrong again and again, so the log has one line when it begins.

use edge::telemetry::episode::Episode;
use edge::upstream;
use store::{Digest, FillError, ReadError};
use thiserror::Error;

/// Why the store was not filled with an image.
#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Fill(#[from] FillError),
    /// All clients that waited for the image have gone.
    #[error("nobody waits for it")]
    Unfollowed,
    #[error("its fingerprint is not the hash of its files")]
    Unverifiable,
    #[error(transparent)]
    Upstream(#[from] upstream::Error),
}

/// Knows which kinds of trouble have been logged.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    disk: Episode,
    export: Episode,
    transfer: Episode,
    changed: Episode,
}

impl Troubles {
    /// Logs why an image was not stored, if that is a fault.
    pub(super) fn failed(&self, fingerprint: &Digest, failure: &Failure) {
        let (episode, consequence) = match failure {
            Failure::Unfollowed | Failure::Unverifiable => return,
            // Logged when it happened.
            Failure::Upstream(error) if !error.is_of_an_answer() => return,
            Failure::Fill(FillError::Disk(_)) => (&self.disk, "images are streamed from Incus while this lasts"),
            Failure::Fill(FillError::Export(_)) => (&self.export, "its downloads are aborted"),
            Failure::Fill(FillError::Abandoned) | Failure::Upstream(_) => {
                (&self.transfer, "the next download tries again")
            }
        };
        match episode.begins() {
            true => tracing::warn!("cannot store the image {fingerprint}: {failure}; {consequence}"),
            false => tracing::debug!("cannot store the image {fingerprint}: {failure}"),
        }
    }

    /// Logs that an image in the store was damaged.
    pub(super) fn damaged(&self, error: &ReadError) {
        match self.changed.begins() {
            true => tracing::warn!("{error}; the next download fetches it again; check the disk"),
            false => tracing::debug!("{error}"),
        }
    }
}
