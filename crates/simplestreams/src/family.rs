//! Clients that read the format in the same way.

use std::fmt;
use std::ops::BitOr;

use crate::Ftype;

/// Releases of Incus and LXD that read the format in the same way. Where a family's releases differ in a detail, it does what
/// the least able of them does.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Family {
    /// Incus 6.0 to 7.0.1
    Incus6,
    /// Incus 7.0.2, 7.1 and later, which also read `combined_type`
    Incus7,
    /// LXD up to 5.0.2, and 5.1 to 5.17: no `requirements`
    Lxd5,
    /// LXD 5.0.3, and 5.18 to 5.20, which take the items of Incus too, but only one item with metadata of each version
    LxdTransition,
    /// LXD of Debian 13, `5.0.2+git20231211`, which takes only one item with metadata of each version
    LxdDebian13,
    /// LXD 5.0.4 to 5.0.x, 5.21 and later
    Lxd,
}

impl Family {
    /// All families, in order.
    pub const ALL: [Self; 6] = [
        Self::Incus6,
        Self::Incus7,
        Self::Lxd5,
        Self::LxdTransition,
        Self::LxdDebian13,
        Self::Lxd,
    ];

    /// Returns whether it is a family of Incus.
    pub fn is_incus(self) -> bool {
        matches!(self, Self::Incus6 | Self::Incus7)
    }

    /// Returns whether the clients take only one item with metadata of each version, and chance decides which.
    pub fn takes_one_metadata(self) -> bool {
        matches!(self, Self::LxdTransition | Self::LxdDebian13)
    }

    /// Returns whether the clients take an item of this type for the metadata of a split image.
    pub fn takes_metadata(self, ftype: &Ftype) -> bool {
        match ftype {
            Ftype::IncusMetadata => self.is_incus() || self == Self::LxdTransition,
            Ftype::LxdMetadata => !self.is_incus(),
            _ => false,
        }
    }

    /// Returns whether the clients take an item of this type for a unified image.
    pub fn takes_unified(self, ftype: &Ftype) -> bool {
        match ftype {
            Ftype::IncusUnified => self.is_incus() || self == Self::LxdTransition,
            Ftype::LxdUnified => !self.is_incus(),
            _ => false,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Incus6 => "Incus 6.0–7.0.1",
            Self::Incus7 => "Incus ≥ 7.0.2",
            Self::Lxd5 => "LXD ≤ 5.0.2, 5.1–5.17",
            Self::LxdTransition => "LXD 5.0.3, 5.18–5.20",
            Self::LxdDebian13 => "LXD of Debian 13",
            Self::Lxd => "LXD ≥ 5.0.4, ≥ 5.21",
        })
    }
}

/// A set of families.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Families(u8);

impl Families {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// All families.
    pub const ALL: Self = Self((1 << Family::ALL.len()) - 1);

    /// Returns the set of these families.
    pub const fn of(families: &[Family]) -> Self {
        let mut set = 0;
        let mut at = 0;
        while at < families.len() {
            set |= 1 << families[at] as u8;
            at += 1;
        }
        Self(set)
    }

    /// Returns whether the set contains this family.
    pub fn contains(self, family: Family) -> bool {
        self.0 & 1 << family as u8 != 0
    }

    /// Returns whether the set is empty.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// Returns the families of the set, in order.
    pub fn iter(self) -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(move |&family| self.contains(family))
    }
}

impl From<Family> for Families {
    fn from(family: Family) -> Self {
        Self::of(&[family])
    }
}

impl BitOr for Families {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ALL => return f.write_str("all clients"),
            Self::NONE => return f.write_str("no client"),
            _ => {}
        }
        for (nth, family) in self.iter().enumerate() {
            let comma = if nth == 0 { "" } else { "; " };
            write!(f, "{comma}{family}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
