//! The two ports.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

use edge::counters::label::label;

/// Which of the two ports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Port {
    /// The admin port, for clients with a listed certificate.
    Admin,
    /// The public port, for anyone.
    Public,
}

impl Port {
    /// Returns its name: that of the configuration table, and in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Public => "public",
        }
    }

    /// Returns the default address. The systemd units have the same one.
    pub fn usual_address(self) -> SocketAddr {
        let number = match self {
            Self::Admin => 8555,
            Self::Public => 8554,
        };
        (Ipv6Addr::UNSPECIFIED, number).into()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

label!(Port {
    Admin = "admin",
    Public = "public",
});
