//! The two ports.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

use edge::counters::label::label;

/// Which of the two ports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Port {
    /// For those who hold the very certificate.
    Admin,
    /// For everybody.
    Public,
}

impl Port {
    /// The table of the configuration that it is from, and what logs and figures call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Public => "public",
        }
    }

    /// Where it listens if nobody says otherwise, as the units of systemd have it too.
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
