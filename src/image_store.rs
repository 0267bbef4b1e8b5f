//! The files of published images on disk, filled from Incus. The crate [`store`] keeps them; this module knows where they come
//! from and which of them may stay.
//!
//! - `fill` reads an image from Incus, once for all clients that wait for it.
//! - `keeper` removes the images that are no longer published, and verifies the others.
//! - `trouble` logs what fails, once for any number of requests.

mod fill;
mod keeper;
mod trouble;

use std::collections::HashSet;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use edge::upstream::Target;
use store::{Claim, ClaimError, Digest, Fill, FillError, Filling, Image, OpenError, Options, Part, Store};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use self::trouble::Troubles;
use crate::config::StoreConfig;
use crate::public::catalogue::Catalogue;

/// Number of images that clients can make the gateway fetch at the same time. Each of them costs Incus a download at full speed,
/// however slowly the client reads. Further ones are streamed from Incus at the client's speed.
const FILLS: usize = 4;

/// The store, and what fills it. All clones are the same.
#[derive(Clone, Debug)]
pub struct ImageStore {
    config: StoreConfig,
    store: Store,
    orders: mpsc::UnboundedSender<Order>,
    slots: Arc<Semaphore>,
    /// Images without a content hash, which the store cannot verify.
    unverifiable: Arc<Mutex<HashSet<Digest>>>,
    troubles: Arc<Troubles>,
}

/// Where a download comes from.
#[derive(Debug)]
pub enum Source {
    /// The store has the image.
    Stored(Image),
    /// The store is being filled with it.
    Filling(Filling),
    /// The store cannot help.
    Incus,
}

/// Why the store does not have an image.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum NotFetched {
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Fill(#[from] FillError),
    #[error("it is no longer published")]
    Removed,
    #[error("its fingerprint is not the hash of its files, as with every OCI image")]
    Unverifiable,
}

/// An image to fetch.
#[derive(Debug)]
struct Order {
    target: Arc<Target>,
    fill: Fill,
    /// Held until the image is fetched.
    _slot: Option<OwnedSemaphorePermit>,
}

/// Creates the directory of the store, so that the sandbox can allow writing there.
///
/// # Errors
/// Fails if it does not exist and cannot be created.
pub fn create_directory(config: &StoreConfig) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(&config.directory)
}

impl ImageStore {
    /// Opens the store and starts the tasks that fill and verify it on the current local task set.
    ///
    /// # Errors
    /// Without a usable directory, there is no store.
    pub fn open(config: &StoreConfig) -> Result<Self, OpenError> {
        let store = Store::open(&Options::new(&config.directory, config.size))?;
        let (orders, receiver) = mpsc::unbounded_channel();
        let this = Self {
            config: config.clone(),
            store,
            orders,
            slots: Arc::new(Semaphore::new(FILLS)),
            unverifiable: Arc::default(),
            troubles: Arc::default(),
        };
        tokio::task::spawn_local(fill::run(
            receiver,
            Arc::clone(&this.unverifiable),
            Arc::clone(&this.troubles),
        ));
        tokio::task::spawn_local(keeper::verify(this.clone()));
        Ok(this)
    }

    /// Where it is and how large it may become.
    pub fn config(&self) -> &StoreConfig {
        &self.config
    }

    /// The files, with their counters.
    pub fn files(&self) -> &Store {
        &self.store
    }

    /// Returns where the client of a download gets the image from. `size` is what Incus says the image has, in bytes.
    pub async fn source(&self, target: &Arc<Target>, fingerprint: &str, size: i64) -> Source {
        let Some((fingerprint, size)) = self.verifiable(fingerprint, size) else {
            return Source::Incus;
        };
        self.claim(target, &fingerprint, size).await.unwrap_or_else(|error| {
            tracing::debug!(%fingerprint, "{error}");
            Source::Incus
        })
    }

    async fn claim(&self, target: &Arc<Target>, fingerprint: &Digest, size: u64) -> Result<Source, ClaimError> {
        let (claim, slot) = match self.store.join(fingerprint).await? {
            Some(found) => (found, None),
            // Without a slot, nothing may be displaced to make room.
            None => match Arc::clone(&self.slots).try_acquire_owned() {
                Ok(slot) => (self.store.claim(fingerprint, size).await?, Some(slot)),
                Err(_) => return Ok(Source::Incus),
            },
        };
        Ok(match claim {
            Claim::Stored(image) => Source::Stored(image),
            Claim::Filling(filling) => Source::Filling(filling),
            Claim::Vacant(fill) => Source::Filling(self.order(target, fill, slot)),
        })
    }

    /// Returns the files of an image, fetched from Incus if the store does not have it.
    ///
    /// # Errors
    /// Fails if Incus does not send it, or the store cannot take it.
    pub async fn fetch(&self, target: &Arc<Target>, fingerprint: &str, size: i64) -> Result<Arc<[Part]>, NotFetched> {
        let (fingerprint, size) = self.verifiable(fingerprint, size).ok_or(NotFetched::Unverifiable)?;
        let filling = match self.store.claim(&fingerprint, size).await? {
            Claim::Stored(image) => return Ok(image.parts().into()),
            Claim::Filling(filling) => filling,
            Claim::Vacant(fill) => self.order(target, fill, None),
        };
        match filling.done().await {
            Ok(Some(image)) => Ok(image.parts().into()),
            Ok(None) => Err(NotFetched::Removed),
            Err(_) if self.unverifiable().contains(&fingerprint) => Err(NotFetched::Unverifiable),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps the store to what the catalogue lists, as long as that exists, on the current local task set.
    pub fn follow(&self, catalogue: &Catalogue) {
        tokio::task::spawn_local(keeper::run(self.clone(), catalogue.latest()));
    }

    /// Removes an image. Returns whether it was there.
    fn remove(&self, fingerprint: &Digest) -> bool {
        self.unverifiable().remove(fingerprint);
        self.store.remove(fingerprint)
    }

    fn unverifiable(&self) -> MutexGuard<'_, HashSet<Digest>> {
        // Nothing that is done with the lock can panic halfway.
        self.unverifiable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Orders a fill, and returns what its followers use.
    fn order(&self, target: &Arc<Target>, fill: Fill, slot: Option<OwnedSemaphorePermit>) -> Filling {
        // Before the order, so that the fill has a follower from the start.
        let filling = fill.filling();
        let order = Order {
            target: Arc::clone(target),
            fill,
            _slot: slot,
        };
        // The task ends with the process only. Then the fill is dropped here, which its followers see.
        let _ = self.orders.send(order);
        filling
    }

    /// Returns the key and the size of an image that the store can verify.
    fn verifiable(&self, fingerprint: &str, size: i64) -> Option<(Digest, u64)> {
        let fingerprint = fingerprint.parse().ok()?;
        let is_verifiable = !self.unverifiable().contains(&fingerprint);
        is_verifiable.then_some((fingerprint, u64::try_from(size).ok()?))
    }
}
