//! The beginning of an image's fingerprint, by which clients request the image.

/// 1 to 64 digits of `0-9a-f`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FingerprintPrefix(String);

impl FingerprintPrefix {
    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::is(text).then(|| Self(text.to_owned()))
    }

    /// Whether it is one.
    pub(super) fn is(text: &str) -> bool {
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (1..=64).contains(&text.len()) && digits
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
