//! The end of a fill: its files get their names, and the index the image. Runs on the thread for chores.

use std::io;
use std::sync::Arc;

use super::sink::Sink;
use crate::error::FillError;
use crate::open::OpenImage;

impl Sink {
    /// Gives the files of a complete fill their names and enters the image. `None` if it was removed in the meantime.
    pub(super) fn commit(&self) -> Result<Option<Arc<OpenImage>>, FillError> {
        let (store, fill) = (&self.store, &self.shared);
        if !store.lock().is_current(fill) {
            return Ok(None);
        }
        let entry = self.entry();
        let written = self.publish().and_then(|()| store.directory.write_entry(&entry));
        let entered = match written {
            Ok(()) => {
                let mut index = store.lock();
                index.end_fill(fill).then(|| index.insert(entry, &store.usage))
            }
            Err(_) => None,
        };
        if entered.is_none() {
            let _ = store.directory.delete_entry(&fill.fingerprint);
            self.files().for_each(|(digest, _)| store.delete_unknown(&digest));
        } else {
            store.counters.filled.add(1);
        }
        written?;
        Ok(entered)
    }

    fn publish(&self) -> io::Result<()> {
        for (digest, incoming) in self.files() {
            self.store.directory.publish(incoming, &digest)?;
        }
        self.store.directory.sync_files()
    }
}
