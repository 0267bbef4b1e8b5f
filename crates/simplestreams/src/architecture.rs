//! Architectures and their spellings.

use std::fmt;

use crate::Family;

/// A processor architecture that Incus knows.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[allow(missing_docs, reason = "these are the architectures' own names")]
pub enum Architecture {
    I686,
    X86_64,
    Armv6l,
    Armv7l,
    Armv8l,
    Aarch64,
    Ppc,
    Ppc64,
    Ppc64le,
    S390x,
    Mips,
    Mips64,
    Riscv32,
    Riscv64,
    Loongarch64,
}

/// The name that clients show, and the other spellings, each architecture on one line. The spellings that the oldest clients do
/// not know are in [`Architecture::read_by`].
const SPELLINGS: &[(Architecture, &[&str])] = &[
    (
        Architecture::I686,
        &["i686", "i386", "i586", "386", "x86", "generic_32"],
    ),
    (
        Architecture::X86_64,
        &[
            "x86_64",
            "amd64",
            "generic_64",
            "x86_64_v1",
            "x86_64_v2",
            "x86_64_v3",
            "x86_64_v4",
        ],
    ),
    (Architecture::Armv6l, &["armv6l", "armel", "arm"]),
    (
        Architecture::Armv7l,
        &[
            "armv7l",
            "armhf",
            "armhfp",
            "armv7a_hardfp",
            "armv7",
            "armv7a_vfpv3_hardfp",
        ],
    ),
    (Architecture::Armv8l, &["armv8l"]),
    (Architecture::Aarch64, &["aarch64", "arm64", "arm64_generic"]),
    (Architecture::Ppc, &["ppc", "powerpc"]),
    (Architecture::Ppc64, &["ppc64", "powerpc64"]),
    (Architecture::Ppc64le, &["ppc64le", "ppc64el"]),
    (Architecture::S390x, &["s390x"]),
    (Architecture::Mips, &["mips", "mipsel", "mipsle"]),
    (Architecture::Mips64, &["mips64", "mips64el", "mips64le"]),
    (Architecture::Riscv32, &["riscv32"]),
    (Architecture::Riscv64, &["riscv64"]),
    (Architecture::Loongarch64, &["loongarch64", "loong64"]),
];

impl Architecture {
    /// Returns all architectures.
    pub fn all() -> impl Iterator<Item = Self> {
        SPELLINGS.iter().map(|&(architecture, _)| architecture)
    }

    /// Returns the architecture that this name or alias stands for to any client.
    pub fn parse(text: &str) -> Option<Self> {
        let found = SPELLINGS.iter().find(|(_, spellings)| spellings.contains(&text));
        found.map(|&(architecture, _)| architecture)
    }

    /// Returns the architecture that this name or alias stands for to the clients of a family.
    pub fn read_by(family: Family, text: &str) -> Option<Self> {
        let known = match text {
            "x86_64_v1" | "x86_64_v2" | "x86_64_v3" | "x86_64_v4" => family == Family::Incus7,
            "mipsle" | "mips64le" => family != Family::Lxd5,
            "loongarch64" | "loong64" => !matches!(family, Family::Lxd5 | Family::LxdTransition),
            _ => true,
        };
        Self::parse(text).filter(|_| known)
    }

    /// Returns the name that clients show.
    pub fn name(self) -> &'static str {
        self.spellings()[0]
    }

    /// Returns the name and its aliases, without those that only some clients know.
    pub fn common_spellings(self) -> impl Iterator<Item = &'static str> {
        let all = self.spellings().iter().copied();
        all.filter(move |text| {
            // No spelling of some architectures is known to all; their own name is known to most.
            *text == self.name() || Family::ALL.iter().all(|&family| Self::read_by(family, text).is_some())
        })
    }

    /// Returns the architectures whose programs this one's kernel also runs. Clients prefer them to foreign ones.
    pub(crate) fn personalities(self) -> &'static [Self] {
        match self {
            Self::X86_64 => &[Self::I686],
            Self::Armv7l => &[Self::Armv6l],
            Self::Armv8l => &[Self::Armv6l, Self::Armv7l],
            Self::Aarch64 => &[Self::Armv6l, Self::Armv7l, Self::Armv8l],
            Self::Ppc64 => &[Self::Ppc],
            Self::Mips64 => &[Self::Mips],
            _ => &[],
        }
    }

    fn spellings(self) -> &'static [&'static str] {
        let found = SPELLINGS.iter().find(|(architecture, _)| *architecture == self);
        found.map_or(&["unknown"], |&(_, spellings)| spellings)
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
