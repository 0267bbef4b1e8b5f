//! Certificates of every kind, and near copies that differ in a bit, a date or a key.

use std::sync::{Arc, LazyLock};

use data_encoding::BASE64;
use proptest::prelude::*;
use proptest::sample::Index;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256, SerialNumber, SigningKey as _, date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::SigningKey;

/// Two of each kind.
const KEYS: usize = 10;

/// A private key, for certificates and for handshakes.
struct Key {
    pair: KeyPair,
    signing: Arc<dyn SigningKey>,
}

static RING: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let kinds = [
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_ECDSA_P521_SHA512,
        &PKCS_ED25519,
        &PKCS_RSA_SHA256,
    ];
    (0..KEYS).map(|at| Key::make(kinds[at % kinds.len()])).collect()
});

impl Key {
    fn make(kind: &'static rcgen::SignatureAlgorithm) -> Self {
        let pair = KeyPair::generate_for(kind).unwrap();
        let der = PrivateKeyDer::Pkcs8(pair.serialize_der().into());
        let signing = aws_lc_rs::sign::any_supported_type(&der).unwrap();
        Self { pair, signing }
    }
}

/// Returns the key that signs a handshake.
pub(crate) fn signing(key: usize) -> Arc<dyn SigningKey> {
    Arc::clone(&RING[key].signing)
}

/// The validity period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Dates {
    Expired,
    NotYetValid,
    Valid,
}

/// The fields of a certificate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    key: usize,
    /// The issuer's key; `None` for a self-signed certificate.
    issuer: Option<usize>,
    subject: u8,
    serial: u8,
    is_v1: bool,
    is_ca: Option<bool>,
    dates: Dates,
}

/// One of a case's certificates. `of` is an earlier one.
#[derive(Clone, Debug)]
pub(crate) enum CertificateSpec {
    Fresh(Recipe),
    /// Created like the other one, with one difference.
    Twin {
        of: Index,
        but: Difference,
    },
    /// The other one's bytes, some of them altered.
    Altered {
        of: Index,
        by: Alteration,
    },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Difference {
    /// With deterministic signatures, even the bytes are equal.
    Nothing,
    Authority,
    Dates(Dates),
    Issuer(usize),
    Key(usize),
    Serial,
    Subject,
    Version,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Alteration {
    /// One bit anywhere.
    Bit(Index),
    /// The outermost length has one byte more than needed.
    Length,
    /// One of the last bits: part of the signature, which the gateway does not verify.
    Signature(u8),
    /// One more byte at the end.
    Trailing(u8),
}

/// A certificate as presented.
#[derive(Clone)]
pub(crate) struct TestCertificate {
    pub(crate) der: CertificateDer<'static>,
    recipe: Recipe,
    /// Whether it can be parsed. If not, a handshake with it may fail.
    pub(crate) is_sound: bool,
}

impl TestCertificate {
    pub(crate) fn key(&self) -> usize {
        self.recipe.key
    }

    pub(crate) fn dates(&self) -> Dates {
        self.recipe.dates
    }

    pub(crate) fn pem(&self) -> String {
        let text = BASE64.encode(&self.der);
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(64)
            .map(|line| str::from_utf8(line).unwrap())
            .collect();
        format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            lines.join("\n")
        )
    }
}

/// Creates all certificates of a case.
pub(crate) fn make(specs: &[CertificateSpec]) -> Vec<TestCertificate> {
    let mut made: Vec<TestCertificate> = Vec::new();
    for spec in specs {
        let next = match spec {
            CertificateSpec::Fresh(recipe) => recipe.make(),
            CertificateSpec::Twin { of, but } => but.applied_to(of.get(&made).recipe).make(),
            CertificateSpec::Altered { of, by } => by.applied_to(of.get(&made)),
        };
        made.push(next);
    }
    made
}

impl Recipe {
    fn make(self) -> TestCertificate {
        let name = |number: u8| format!("holder-{number}");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name(self.subject));
        params.serial_number = Some(SerialNumber::from(u64::from(self.serial) + 1));
        params.is_ca = match self.is_ca {
            None => IsCa::NoCa,
            Some(false) => IsCa::ExplicitNoCa,
            Some(true) => IsCa::Ca(BasicConstraints::Unconstrained),
        };
        (params.not_before, params.not_after) = match self.dates {
            Dates::Expired => (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1)),
            Dates::NotYetValid => (date_time_ymd(3000, 1, 1), date_time_ymd(3001, 1, 1)),
            Dates::Valid => (date_time_ymd(2020, 1, 1), date_time_ymd(3000, 1, 1)),
        };
        let issuer = &RING[self.issuer.unwrap_or(self.key)].pair;
        let signed = params.signed_by(&RING[self.key].pair, &Issuer::from_params(&params, issuer));
        let der = signed.unwrap().der().clone();
        TestCertificate {
            der: if self.is_v1 { as_v1(&der, issuer) } else { der },
            recipe: self,
            is_sound: true,
        }
    }
}

impl Difference {
    fn applied_to(self, mut recipe: Recipe) -> Recipe {
        match self {
            Self::Nothing => {}
            Self::Authority => recipe.is_ca = Some(recipe.is_ca != Some(true)),
            Self::Dates(dates) => recipe.dates = dates,
            Self::Issuer(key) => recipe.issuer = Some(key),
            Self::Key(key) => recipe.key = key,
            Self::Serial => recipe.serial += 1,
            Self::Subject => recipe.subject += 1,
            Self::Version => recipe.is_v1 = !recipe.is_v1,
        }
        recipe
    }
}

impl Alteration {
    fn applied_to(self, made: &TestCertificate) -> TestCertificate {
        let mut der = made.der.to_vec();
        match self {
            Self::Bit(at) => {
                let bit = at.index(der.len() * 8);
                der[bit / 8] ^= 1 << (bit % 8);
            }
            Self::Length => {
                // A certificate that was altered before may have none left.
                let content = elements(&der)
                    .first()
                    .map_or_else(Vec::new, |(_, content, _)| content.to_vec());
                let length = u32::try_from(content.len()).unwrap().to_be_bytes();
                // Encodes the length in four bytes instead of one or two.
                der = [&[0x30, 0x84][..], &length, &content].concat();
            }
            Self::Signature(bit) => {
                let at = der.len() - 1 - usize::from(bit / 8);
                der[at] ^= 1 << (bit % 8);
            }
            Self::Trailing(byte) => der.push(byte),
        }
        TestCertificate {
            der: der.into(),
            recipe: made.recipe,
            is_sound: made.is_sound && matches!(self, Self::Signature(_)),
        }
    }
}

/// The same in X.509 version 1, which rcgen does not make: without the version and the extensions (RFC 5280 §4.1).
fn as_v1(v3: &[u8], issuer: &KeyPair) -> CertificateDer<'static> {
    let certificate = elements(elements(v3)[0].1);
    let [(_, content, _), algorithm, _] = certificate[..] else {
        panic!("a certificate has three parts");
    };
    let is_of_v1 = |tag: u8| !matches!(tag, 0xa0 | 0xa3);
    let content = elements(content).into_iter().filter(|(tag, ..)| is_of_v1(*tag));
    let content = wrap(
        0x30,
        &content.flat_map(|(.., whole)| whole.to_vec()).collect::<Vec<_>>(),
    );
    let signature = wrap(0x03, &[&[0], &issuer.sign(&content).unwrap()[..]].concat());
    wrap(0x30, &[&content, algorithm.2, &signature].concat()).into()
}

/// Returns the DER elements at this level: tags, contents, and both with their length. Trailing bytes are ignored.
fn elements(mut der: &[u8]) -> Vec<(u8, &[u8], &[u8])> {
    let mut found = Vec::new();
    while let [tag, first, ..] = *der {
        let more = usize::from(first.saturating_sub(0x80));
        let length = match more {
            0 => usize::from(first),
            _ => der[2..]
                .iter()
                .take(more)
                .fold(0, |length: usize, byte| length.wrapping_shl(8) | usize::from(*byte)),
        };
        let Some((whole, rest)) = der.split_at_checked(length.saturating_add(2 + more)) else {
            break;
        };
        found.push((tag, &whole[2 + more..], whole));
        der = rest;
    }
    found
}

fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    // The length has the form for a certificate's size, even if the content is short.
    match content.len() {
        ..0x80 => [&[tag, length[1]], content].concat(),
        0x80..0x100 => [&[tag, 0x81, length[1]], content].concat(),
        _ => [&[tag, 0x82], &length[..], content].concat(),
    }
}

pub(crate) fn key() -> impl Strategy<Value = usize> {
    0..KEYS
}

fn dates() -> impl Strategy<Value = Dates> {
    prop_oneof![4 => Just(Dates::Valid), 1 => Just(Dates::Expired), 1 => Just(Dates::NotYetValid)]
}

prop_compose! {
    fn recipe()(
        key in key(),
        issuer in proptest::option::weighted(0.3, key()),
        subject in 0..2_u8,
        serial in 0..2_u8,
        is_v1 in proptest::bool::weighted(0.25),
        is_ca in any::<Option<bool>>(),
        dates in dates(),
    ) -> Recipe {
        Recipe { key, issuer, subject, serial, is_v1, is_ca, dates }
    }
}

fn difference() -> impl Strategy<Value = Difference> {
    prop_oneof![
        Just(Difference::Nothing),
        Just(Difference::Authority),
        dates().prop_map(Difference::Dates),
        key().prop_map(Difference::Issuer),
        key().prop_map(Difference::Key),
        Just(Difference::Serial),
        Just(Difference::Subject),
        Just(Difference::Version),
    ]
}

fn alteration() -> impl Strategy<Value = Alteration> {
    prop_oneof![
        4 => any::<Index>().prop_map(Alteration::Bit),
        1 => Just(Alteration::Length),
        4 => (0..64_u8).prop_map(Alteration::Signature),
        1 => any::<u8>().prop_map(Alteration::Trailing),
    ]
}

/// Two to six; the first one does not refer to another.
pub(crate) fn certificate_specs() -> impl Strategy<Value = Vec<CertificateSpec>> {
    let of_another = prop_oneof![
        recipe().prop_map(CertificateSpec::Fresh),
        (any::<Index>(), difference()).prop_map(|(of, but)| CertificateSpec::Twin { of, but }),
        (any::<Index>(), alteration()).prop_map(|(of, by)| CertificateSpec::Altered { of, by }),
    ];
    let others = proptest::collection::vec(of_another, 1..6);
    (recipe(), others).prop_map(|(first, others)| {
        let first = std::iter::once(CertificateSpec::Fresh(first));
        first.chain(others).collect()
    })
}
