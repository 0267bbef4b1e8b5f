//! Fields of a certificate, read without trusting it: its fingerprint, names, validity and public key.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use data_encoding::HEXLOWER;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::time::ASN1Time;

/// SHA-256 of a certificate's DER, as in `incus config trust list --format json`.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Fingerprint([u8; SHA256_OUTPUT_LEN]);

impl Fingerprint {
    /// Computes the fingerprint of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Self(bytes)
    }

    /// Parses 64 hexadecimal digits. Accepts colons and upper case, as in the output of `openssl x509 -fingerprint`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.replace(':', "").to_ascii_lowercase();
        let bytes = HEXLOWER.decode(digits.as_bytes()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The validity period of a certificate, both ends included (RFC 5280 §4.1.2.5).
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    not_before: i64,
    not_after: i64,
}

impl Validity {
    /// Reads it from a certificate.
    ///
    /// # Errors
    /// Fails if the certificate cannot be parsed.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, Malformed> {
        let parsed = parse(certificate)?;
        let validity = parsed.validity();
        Ok(Self {
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// Returns its end, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Returns whether it includes `time`.
    pub fn contains(&self, time: SystemTime) -> bool {
        (self.not_before..=self.not_after).contains(&unix(time))
    }

    /// Returns whether it begins after `time`.
    pub fn is_ahead_of(&self, time: SystemTime) -> bool {
        unix(time) < self.not_before
    }

    /// Returns the time from `now` until it begins or has ended, whichever is next. The result is up to a second too long,
    /// because the dates are whole seconds.
    pub fn next_change(&self, now: SystemTime) -> Option<Duration> {
        let now = unix(now);
        let moments = [self.not_before, self.not_after.saturating_add(1)];
        let next = moments.into_iter().find(|moment| *moment > now)?;
        u64::try_from(next.saturating_sub(now)).ok().map(Duration::from_secs)
    }

    /// Returns the time from `now` to its end, if it has not ended.
    pub fn time_left(&self, now: SystemTime) -> Option<Duration> {
        u64::try_from(self.not_after - unix(now)).ok().map(Duration::from_secs)
    }
}

/// Returns the subject's distinguished name in human-readable form.
pub fn subject(certificate: &CertificateDer<'_>) -> Result<String, Malformed> {
    Ok(parse(certificate)?.subject().to_string())
}

/// Returns whether the issuer is the subject itself. Does not verify the signature.
pub fn is_self_signed(certificate: &CertificateDer<'_>) -> Result<bool, Malformed> {
    let parsed = parse(certificate)?;
    Ok(parsed.issuer() == parsed.subject())
}

/// Returns the subject's common name, if it has one that is text.
pub fn common_name(certificate: &CertificateDer<'_>) -> Result<Option<String>, Malformed> {
    let parsed = parse(certificate)?;
    let name = parsed.subject().iter_common_name().next();
    Ok(name.and_then(|name| name.as_str().ok()).map(ToOwned::to_owned))
}

/// Returns whether it may sign other certificates (RFC 5280 §4.2.1.9).
pub fn is_authority(certificate: &CertificateDer<'_>) -> Result<bool, Malformed> {
    Ok(parse(certificate)?.is_ca())
}

/// Returns the public key, for any version of X.509.
pub fn public_key(certificate: &CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'static>, Malformed> {
    Ok(SubjectPublicKeyInfoDer::from(
        parse(certificate)?.public_key().raw.to_vec(),
    ))
}

/// Returns the first DNS name among the subject alternative names.
pub fn first_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = parse(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    })
}

/// Returns the size of its public key in bits, if that is an RSA key.
pub fn rsa_bits(certificate: &CertificateDer<'_>) -> Option<usize> {
    match parse(certificate).ok()?.public_key().parsed().ok()? {
        PublicKey::RSA(key) => Some(key.key_size()),
        _ => None,
    }
}

/// Formats a time in seconds since 1970 for humans.
pub fn date(at: u64) -> String {
    let moment = i64::try_from(at).ok().and_then(|at| ASN1Time::from_timestamp(at).ok());
    moment.map_or_else(
        || at.to_string(),
        |moment| {
            let at = moment.to_datetime();
            let (hour, minute, second) = at.to_hms();
            format!(
                "{}-{:02}-{:02} {hour:02}:{minute:02}:{second:02} UTC",
                at.year(),
                u8::from(at.month()),
                at.day()
            )
        },
    )
}

/// The bytes are not an X.509 certificate.
#[derive(Debug, Error)]
#[error("not an X.509 certificate ({0})")]
pub struct Malformed(#[from] x509_parser::nom::Err<X509Error>);

pub(super) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Malformed> {
    Ok(X509Certificate::from_der(certificate)?.1)
}

fn unix(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    }
}
