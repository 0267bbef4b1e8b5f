//! The fingerprints of an image.

use crate::Ftype;

/// The fingerprints of an image for each root file that its metadata can be combined with: the SHA-256 of the metadata file
/// followed by the root file, in lower-case hexadecimal.
#[derive(Clone, Debug, Default, Eq, PartialEq, serde::Serialize)]
pub struct Hashes {
    /// With [`Ftype::RootTar`], for clients that do not know the next one.
    #[serde(rename = "combined_sha256", skip_serializing_if = "Option::is_none")]
    pub any: Option<String>,
    /// With [`Ftype::RootTar`].
    #[serde(rename = "combined_rootxz_sha256", skip_serializing_if = "Option::is_none")]
    pub root_tar: Option<String>,
    /// With [`Ftype::Squashfs`].
    #[serde(rename = "combined_squashfs_sha256", skip_serializing_if = "Option::is_none")]
    pub squashfs: Option<String>,
    /// With [`Ftype::DiskKvm`].
    #[serde(rename = "combined_disk-kvm-img_sha256", skip_serializing_if = "Option::is_none")]
    pub disk_kvm: Option<String>,
    /// With [`Ftype::DiskUefi1`].
    #[serde(rename = "combined_uefi1-img_sha256", skip_serializing_if = "Option::is_none")]
    pub disk_uefi1: Option<String>,
    /// With [`Ftype::Disk1`].
    #[serde(rename = "combined_disk1-img_sha256", skip_serializing_if = "Option::is_none")]
    pub disk1: Option<String>,
}

impl Hashes {
    /// Returns the fingerprint that clients take for an image with a root of this type.
    pub fn fingerprint(&self, root: &Ftype) -> Option<&str> {
        fn set(hash: &Option<String>) -> Option<&str> {
            hash.as_deref().filter(|hash| !hash.is_empty())
        }
        match root {
            Ftype::Squashfs => set(&self.squashfs),
            Ftype::RootTar => set(&self.root_tar).or_else(|| set(&self.any)),
            Ftype::DiskKvm => set(&self.disk_kvm),
            Ftype::DiskUefi1 => set(&self.disk_uefi1),
            Ftype::Disk1 => set(&self.disk1),
            _ => None,
        }
    }

    /// Sets the fingerprint of an image with a root of this type. Does nothing for what is not a root.
    pub fn set_fingerprint(&mut self, root: &Ftype, fingerprint: impl Into<String>) {
        let fingerprint = fingerprint.into();
        match root {
            Ftype::Squashfs => self.squashfs = Some(fingerprint),
            Ftype::RootTar => {
                self.any = Some(fingerprint.clone());
                self.root_tar = Some(fingerprint);
            }
            Ftype::DiskKvm => self.disk_kvm = Some(fingerprint),
            Ftype::DiskUefi1 => self.disk_uefi1 = Some(fingerprint),
            Ftype::Disk1 => self.disk1 = Some(fingerprint),
            _ => {}
        }
    }

    /// Returns the key in the document that holds the fingerprint of an image with a root of this type.
    pub fn key(root: &Ftype) -> Option<&'static str> {
        Some(match root {
            Ftype::Squashfs => "combined_squashfs_sha256",
            Ftype::RootTar => "combined_rootxz_sha256",
            Ftype::DiskKvm => "combined_disk-kvm-img_sha256",
            Ftype::DiskUefi1 => "combined_uefi1-img_sha256",
            Ftype::Disk1 => "combined_disk1-img_sha256",
            _ => return None,
        })
    }
}
