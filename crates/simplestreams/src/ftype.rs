//! The types of files.

use std::fmt;

use serde::ser::{Serialize, Serializer};

/// What an [`Item`](crate::Item) is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Ftype {
    /// `incus.tar.xz`: metadata of a split image, for Incus. The file may be compressed in another way.
    IncusMetadata,
    /// `lxd.tar.xz`: metadata of a split image, for LXD
    LxdMetadata,
    /// `incus_combined.tar.gz`: a unified image, for Incus
    IncusUnified,
    /// `lxd_combined.tar.gz`: a unified image, for LXD
    LxdUnified,
    /// `squashfs`: root file system of a container
    Squashfs,
    /// `root.tar.xz`: root file system of a container. The file may be compressed in another way.
    RootTar,
    /// `disk-kvm.img`: qcow2 disk of a virtual machine
    DiskKvm,
    /// `uefi1.img`: qcow2 disk of a virtual machine
    DiskUefi1,
    /// `disk1.img`: qcow2 disk of a virtual machine
    Disk1,
    /// `squashfs.vcdiff`: the difference to another version's root file system
    SquashfsDelta,
    /// `disk-kvm.img.vcdiff`: the difference to another version's disk
    DiskKvmDelta,
    /// Anything else. Clients ignore it.
    Other(String),
}

impl Ftype {
    /// Those with a meaning, in the order in which clients prefer the roots.
    pub const KNOWN: [Self; 11] = [
        Self::IncusMetadata,
        Self::LxdMetadata,
        Self::IncusUnified,
        Self::LxdUnified,
        Self::Squashfs,
        Self::RootTar,
        Self::DiskKvm,
        Self::DiskUefi1,
        Self::Disk1,
        Self::SquashfsDelta,
        Self::DiskKvmDelta,
    ];

    /// Returns the name in the document.
    pub fn as_str(&self) -> &str {
        match self {
            Self::IncusMetadata => "incus.tar.xz",
            Self::LxdMetadata => "lxd.tar.xz",
            Self::IncusUnified => "incus_combined.tar.gz",
            Self::LxdUnified => "lxd_combined.tar.gz",
            Self::Squashfs => "squashfs",
            Self::RootTar => "root.tar.xz",
            Self::DiskKvm => "disk-kvm.img",
            Self::DiskUefi1 => "uefi1.img",
            Self::Disk1 => "disk1.img",
            Self::SquashfsDelta => "squashfs.vcdiff",
            Self::DiskKvmDelta => "disk-kvm.img.vcdiff",
            Self::Other(name) => name,
        }
    }

    /// Returns whether it is metadata of a split image.
    pub fn is_metadata(&self) -> bool {
        matches!(self, Self::IncusMetadata | Self::LxdMetadata)
    }

    /// Returns whether it is a unified image.
    pub fn is_unified(&self) -> bool {
        matches!(self, Self::IncusUnified | Self::LxdUnified)
    }

    /// Returns whether it is the disk of a virtual machine.
    pub fn is_disk(&self) -> bool {
        matches!(self, Self::DiskKvm | Self::DiskUefi1 | Self::Disk1)
    }

    /// Returns whether it is a root file system or a disk.
    pub fn is_root(&self) -> bool {
        self.is_disk() || matches!(self, Self::Squashfs | Self::RootTar)
    }

    /// Returns the type of a difference between two roots of this type.
    pub fn delta(&self) -> Option<Self> {
        match self {
            Self::Squashfs => Some(Self::SquashfsDelta),
            Self::DiskKvm => Some(Self::DiskKvmDelta),
            _ => None,
        }
    }
}

impl From<String> for Ftype {
    fn from(name: String) -> Self {
        let known = Self::KNOWN.into_iter().find(|known| known.as_str() == name);
        known.unwrap_or(Self::Other(name))
    }
}

impl Default for Ftype {
    fn default() -> Self {
        Self::Other(String::new())
    }
}

impl fmt::Display for Ftype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Ftype {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
