//! Connections on the admin port without a listed certificate, in the order of their arrival.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::Notify;

use super::per_ip::IpPrefix;

#[derive(Debug, Default)]
pub(super) struct PreauthQueue(VecDeque<(IpPrefix, Arc<Notify>)>);

impl PreauthQueue {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds a connection, and evicts another one first if `evicting` is set. The returned handle identifies the entry and
    /// is notified when the entry is evicted.
    pub(super) fn acquire(&mut self, client: IpAddr, evicting: bool) -> Arc<Notify> {
        let group = IpPrefix::of(client);
        if evicting && let Some((_, evicted)) = self.0.remove(self.eviction_candidate(group)) {
            evicted.notify_one();
        }
        let evicted = Arc::new(Notify::new());
        self.0.push_back((group, Arc::clone(&evicted)));
        evicted
    }

    /// Removes an entry. Returns `false` if it was evicted before.
    pub(super) fn release(&mut self, entry: &Arc<Notify>) -> bool {
        let found = self.0.iter().position(|(_, other)| Arc::ptr_eq(entry, other));
        found.and_then(|at| self.0.remove(at)).is_some()
    }

    /// Returns the index of the oldest connection of the address with the most connections, the new one included.
    fn eviction_candidate(&self, newcomer: IpPrefix) -> usize {
        let mut numbers = HashMap::from([(newcomer, 1_usize)]);
        for (group, _) in &self.0 {
            *numbers.entry(*group).or_default() += 1;
        }
        let most = numbers.values().max().copied();
        let has_most = |(group, _): &(IpPrefix, Arc<Notify>)| numbers.get(group).copied() == most;
        self.0.iter().position(has_most).unwrap_or_default()
    }
}
