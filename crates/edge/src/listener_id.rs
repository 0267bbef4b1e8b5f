//! What logs and metrics call a listener, and who its clients are.

use std::fmt;

/// Who the clients of a listener are. It decides which limits and timeouts apply to them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Policy {
    /// The holders of certificates that an [`Authorizer`](crate::service::Authorizer) knows. They are hardly limited; all
    /// others are rejected, and share a small part of the limits until they have shown what they hold.
    Authenticated,
    /// Everybody, within limits for each address.
    Open,
}

/// Identifies a listener. The set of listeners does not change while the process runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ListenerId {
    name: &'static str,
    index: u8,
    policy: Policy,
}

impl ListenerId {
    /// Creates the ID of the listener at `index` in
    /// [`EdgeConfig::listeners`](crate::config::EdgeConfig::listeners).
    pub const fn new(index: u8, name: &'static str, policy: Policy) -> Self {
        Self { name, index, policy }
    }

    /// Returns its name in logs and metrics.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Returns its index among all listeners.
    pub fn index(self) -> usize {
        usize::from(self.index)
    }

    /// Returns who its clients are.
    pub fn policy(self) -> Policy {
        self.policy
    }
}

impl fmt::Display for ListenerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
