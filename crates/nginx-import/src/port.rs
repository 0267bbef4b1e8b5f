//! The gateway's two ports.

use std::fmt;

/// One of the gateway's ports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Port {
    Admin,
    Public,
}

impl fmt::Display for Port {
    /// Formats the name of its table in `proxy.toml`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Admin => "admin",
            Self::Public => "public",
        })
    }
}
