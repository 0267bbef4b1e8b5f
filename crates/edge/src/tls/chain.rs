//! Faults of a certificate chain that clients reject although its first certificate and the private key match.

use std::fmt;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;

use super::certificate::{self, Malformed, Validity};
use super::signature;

/// A fault of a chain. Certificates are numbered from 1.
#[derive(Debug, Eq, PartialEq)]
pub enum ChainFault {
    /// The first certificate is the only one, and not self-signed.
    Alone,
    /// A certificate after the first has expired.
    Expired(usize, String),
    /// A certificate after the first cannot be parsed.
    Malformed(usize),
    /// A certificate did not issue the one before it.
    NotIssuer(usize, String),
    /// The validity of a certificate after the first has not begun.
    NotYetValid(usize, String),
}

impl fmt::Display for ChainFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone => f.write_str(
                "the file contains only the certificate, without that of its issuer: clients that do not know the \
                 issuer reject it; use the file with the full chain (certbot: fullchain.pem)",
            ),
            Self::Expired(number, subject) => {
                write!(
                    f,
                    "certificate {number} of the chain ({subject}) has expired; get a new chain"
                )
            }
            Self::Malformed(number) => {
                write!(
                    f,
                    "certificate {number} of the chain is not an X.509 certificate; get a new chain"
                )
            }
            Self::NotIssuer(number, subject) => write!(
                f,
                "certificate {number} of the chain ({subject}) did not issue the one before it: clients reject the \
                 chain; put each issuer after the certificate that it issued"
            ),
            Self::NotYetValid(number, subject) => write!(
                f,
                "certificate {number} of the chain ({subject}) is not valid yet; check its dates and this machine's clock"
            ),
        }
    }
}

/// Returns all faults of a chain at `now`, except the validity of its first certificate.
pub fn faults(chain: &[CertificateDer<'_>], now: SystemTime) -> Vec<ChainFault> {
    if let [only] = chain {
        let is_self_signed = certificate::is_self_signed(only).unwrap_or(true);
        return if is_self_signed {
            Vec::new()
        } else {
            vec![ChainFault::Alone]
        };
    }
    let pairs = (2..).zip(chain.iter().zip(chain.iter().skip(1)));
    pairs
        .flat_map(|(number, (issued, issuer))| faults_of(number, issuer, issued, now))
        .collect()
}

fn faults_of(
    number: usize,
    issuer: &CertificateDer<'_>,
    issued: &CertificateDer<'_>,
    now: SystemTime,
) -> Vec<ChainFault> {
    let (Ok(subject), Ok(validity)) = (certificate::subject(issuer), Validity::of(issuer)) else {
        return vec![ChainFault::Malformed(number)];
    };
    let mut faults = Vec::new();
    // A certificate that cannot be parsed is reported in its role as the issuer.
    if !is_issued_by(issued, issuer).unwrap_or(true) {
        faults.push(ChainFault::NotIssuer(number, subject.clone()));
    }
    if validity.is_ahead_of(now) {
        faults.push(ChainFault::NotYetValid(number, subject));
    } else if !validity.contains(now) {
        faults.push(ChainFault::Expired(number, subject));
    }
    faults
}

/// Returns whether each certificate has issued the one before it.
pub fn is_chain(certificates: &[CertificateDer<'_>]) -> bool {
    let mut pairs = certificates.iter().zip(certificates.iter().skip(1));
    pairs.all(|(issued, issuer)| is_issued_by(issued, issuer).unwrap_or_default())
}

/// Returns whether `issuer` has issued it: the names match, and the issuer's key verifies the signature.
fn is_issued_by(certificate: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> Result<bool, Malformed> {
    let (issued, issuing) = (certificate::parse(certificate)?, certificate::parse(issuer)?);
    Ok(issued.issuer().as_raw() == issuing.subject().as_raw()
        && signature::is_by(
            &certificate::public_key(issuer)?,
            issued.tbs_certificate.as_ref(),
            &issued.signature_value.data,
        ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ED25519, PKCS_RSA_SHA256};

    use super::*;

    fn params(name: &str, now: SystemTime) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (now.into(), (now + Duration::from_hours(1)).into());
        params
    }

    #[test]
    fn each_fault_of_a_chain_is_reported() {
        let now = SystemTime::now();
        let within = now + Duration::from_mins(30);
        let keys = [
            KeyPair::generate().expect("an ECDSA key"),
            KeyPair::generate_for(&PKCS_RSA_SHA256).expect("an RSA key"),
            KeyPair::generate_for(&PKCS_ED25519).expect("an Ed25519 key"),
        ];
        let [leaf, middle, root] = ["leaf", "middle", "root"].map(|name| params(name, now));
        let root_itself = root.self_signed(&keys[2]).expect("a certificate");
        let root_der = root_itself.der().clone();
        let by_root = Issuer::from_params(&root, &keys[2]);
        let by_middle = Issuer::from_params(&middle, &keys[1]);
        let middle_der = middle
            .signed_by(&keys[1], &by_root)
            .expect("a certificate")
            .der()
            .clone();
        let leaf_der = leaf
            .signed_by(&keys[0], &by_middle)
            .expect("a certificate")
            .der()
            .clone();
        let issuer = |number, name: &str| ChainFault::NotIssuer(number, format!("CN={name}"));

        let whole = [leaf_der.clone(), middle_der.clone(), root_der.clone()];
        assert_eq!(faults(&whole, within), []);
        assert_eq!(faults(&whole[..2], within), []);
        assert!(is_chain(&whole) && is_chain(&whole[..1]));
        assert_eq!(faults(&whole[..1], within), [ChainFault::Alone]);
        assert_eq!(faults(std::slice::from_ref(&root_der), within), []);
        let mixed = [leaf_der.clone(), root_der.clone(), middle_der.clone()];
        assert_eq!(faults(&mixed, within), [issuer(2, "root"), issuer(3, "middle")]);
        assert!(!is_chain(&mixed));
        // A matching name alone is not enough: an intermediate that was renewed with another key.
        let impostor = middle.self_signed(&keys[0]).expect("a certificate").der().clone();
        assert_eq!(faults(&[leaf_der.clone(), impostor], within), [issuer(2, "middle")]);
        // Nor is a matching key alone.
        let renamed = params("other", now)
            .self_signed(&keys[1])
            .expect("a certificate")
            .der()
            .clone();
        assert_eq!(faults(&[leaf_der.clone(), renamed], within), [issuer(2, "other")]);
        let named = |number, name: &str| (number, format!("CN={name}"));
        let (number, name) = named(2, "middle");
        let later = now + Duration::from_hours(2);
        assert_eq!(faults(&whole[..2], later), [ChainFault::Expired(number, name.clone())]);
        let earlier = now - Duration::from_hours(2);
        assert_eq!(faults(&whole[..2], earlier), [ChainFault::NotYetValid(number, name)]);
        let broken = [leaf_der, CertificateDer::from(vec![1, 2, 3]), root_der];
        assert_eq!(faults(&broken, within)[0], ChainFault::Malformed(2));
    }
}
