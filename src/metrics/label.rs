//! Labels with a closed set of values each.

use std::fmt;
use std::marker::PhantomData;

use crate::client::Cut;
use crate::identity::NotAnAdmin;
use crate::limits::Reason;
use crate::net::Port;

/// What a figure is told apart by.
pub trait Label: Copy + 'static {
    /// Every value.
    const ALL: &'static [Self];

    /// What Prometheus calls it.
    fn name(self) -> &'static str;

    /// Where it stands in [`Self::ALL`].
    fn place(self) -> usize;
}

/// The values of an enum with their names. Whoever adds one there has to name it here.
macro_rules! label {
    ($type:ident { $($variant:ident = $name:literal),* $(,)? }) => {
        impl $crate::metrics::label::Label for $type {
            const ALL: &'static [Self] = &[$(Self::$variant),*];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }

            fn place(self) -> usize {
                enum Place {
                    $($variant),*
                }
                match self {
                    $(Self::$variant => Place::$variant as usize),*
                }
            }
        }
    };
}
pub(crate) use label;

label!(Port {
    Admin = "admin",
    Public = "public",
});

label!(Cut {
    Client = "client",
    Drain = "drain",
    Expired = "expired",
    Incus = "incus",
    Limit = "limit",
    Revoked = "revoked",
});

label!(NotAnAdmin {
    NoCertificate = "no_certificate",
    Unknown = "unknown_certificate",
    Expired = "expired_certificate",
    NotYetValid = "not_yet_valid_certificate",
});

label!(Reason {
    Address = "connections_per_address",
    Cpu = "cpu",
    Descriptors = "descriptors",
    Displaced = "displaced",
    Full = "connections",
    Network = "network",
    Requests = "requests",
    Stalled = "stalled",
    Unannounced = "unannounced",
    Unread = "unread",
});

/// One of something for each value of a label.
pub struct By<L, T> {
    each: Box<[T]>,
    label: PhantomData<fn(L)>,
}

impl<L: Label, T: Default> Default for By<L, T> {
    fn default() -> Self {
        Self {
            each: L::ALL.iter().map(|_| T::default()).collect(),
            label: PhantomData,
        }
    }
}

impl<L: Label, T> By<L, T> {
    /// That of one value.
    pub fn of(&self, label: L) -> &T {
        &self.each[label.place()]
    }
}

impl<L, T: fmt::Debug> fmt::Debug for By<L, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.each).finish()
    }
}
