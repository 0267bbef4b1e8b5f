//! Certificates of every kind that a test shows or expects, made by rcgen; those that rcgen cannot make, by openssl.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use data_encoding::BASE64URL_NOPAD;
use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P384_SHA384, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;
use x509_parser::x509::X509Version;

use super::images::sha256;

/// Makes certificates into a folder of its own, as `NAME.crt` and `NAME.key`.
#[derive(Debug)]
pub struct Certificates(TempDir);

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// What stands in the certificate, and what follows it in a chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Certificates {
    /// A new, empty folder.
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Self-signed, for `localhost`, `127.0.0.1` and `::1`.
    pub fn server(&self, name: &str) -> Certificate {
        self.server_for(name, &["localhost", "127.0.0.1", "::1"])
    }

    /// Self-signed, for these names and addresses.
    pub fn server_for(&self, name: &str, names: &[&str]) -> Certificate {
        self.self_signed(name, server(name, names), &key())
    }

    /// For `localhost`, `127.0.0.1` and `::1`, issued by `issuer`, which must be an [`authority`](Self::authority).
    pub fn server_issued_by(&self, issuer: &Certificate, name: &str) -> Certificate {
        self.issued(name, &server(name, &["localhost", "127.0.0.1", "::1"]), issuer)
    }

    /// For `localhost` and `127.0.0.1`, with all that Let's Encrypt puts into its certificates, and for as long.
    pub fn server_as_of_lets_encrypt(&self, issuer: &Certificate, name: &str) -> Certificate {
        let mut params = server(name, &["localhost", "127.0.0.1"]);
        let now = SystemTime::now();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.not_before = (now - Duration::from_hours(1)).into();
        params.not_after = (now + Duration::from_hours(90 * 24 - 1)).into();
        params.use_authority_key_identifier_extension = true;
        params.crl_distribution_points = vec![CrlDistributionPoint {
            uris: vec!["http://crl.invalid/crl".to_owned()],
        }];
        self.issued(name, &params, issuer)
    }

    /// What `incus` makes for itself: v3, ECDSA P-384, CA:FALSE, for client authentication, signed by itself.
    pub fn client(&self, name: &str) -> Certificate {
        self.self_signed(name, client(name), &key())
    }

    /// What `openssl req -x509` makes: CA:TRUE, signed by itself. It can issue others.
    pub fn authority(&self, name: &str) -> Certificate {
        self.self_signed(name, authority(name), &key())
    }

    /// A client certificate that `issuer` has signed.
    pub fn client_issued_by(&self, issuer: &Certificate, name: &str) -> Certificate {
        self.issued(name, &client(name), issuer)
    }

    /// A client certificate whose dates are over.
    pub fn expired(&self, name: &str) -> Certificate {
        let mut params = client(name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        self.self_signed(name, params, &key())
    }

    /// A server's that has this many days left, and half a day.
    pub fn server_for_days(&self, name: &str, days: u64) -> Certificate {
        let mut params = server(name, &["localhost", "127.0.0.1", "::1"]);
        params.not_after = (SystemTime::now() + Duration::from_hours(24 * days + 12)).into();
        self.self_signed(name, params, &key())
    }

    /// A client certificate that begins only in a far future.
    pub fn not_yet_valid(&self, name: &str) -> Certificate {
        let mut params = client(name);
        params.not_before = date_time_ymd(3000, 1, 1);
        self.self_signed(name, params, &key())
    }

    /// Another certificate over the key of `other`, with its subject too.
    pub fn same_key(&self, other: &Certificate, name: &str) -> Certificate {
        let params = client(&stem(&other.certificate));
        let certificate = self.self_signed(name, params, &other.key_pair());
        assert_ne!(certificate.der(), other.der());
        certificate
    }

    /// Another certificate with the subject of `other`, over a key of its own.
    pub fn same_subject(&self, other: &Certificate, name: &str) -> Certificate {
        self.self_signed(name, client(&stem(&other.certificate)), &key())
    }

    /// As the guide that came before this gateway made it: `openssl req -x509 -newkey rsa:…`, hence CA:TRUE.
    pub fn openssl_rsa(&self, name: &str) -> Certificate {
        let made = self.named(name);
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "3650",
            "-subj",
            &format!("/CN={name}"),
        ])
        .arg("-keyout")
        .arg(&made.key)
        .arg("-out")
        .arg(&made.certificate)
        .succeed();
        made
    }

    /// X.509 version 1, which has no extensions at all.
    pub fn openssl_v1(&self, name: &str) -> Certificate {
        let made = self.named(name);
        let request = self.folder().join(format!("{name}.csr"));
        openssl(&[
            "req",
            "-new",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            &format!("/CN={name}"),
        ])
        .arg("-keyout")
        .arg(&made.key)
        .arg("-out")
        .arg(&request)
        .succeed();
        openssl(&["x509", "-req", "-days", "3650"])
            .arg("-in")
            .arg(&request)
            .arg("-signkey")
            .arg(&made.key)
            .arg("-out")
            .arg(&made.certificate)
            .succeed();
        let der = made.der();
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).expect("a certificate");
        assert_eq!(parsed.version(), X509Version::V1);
        made
    }

    fn self_signed(&self, name: &str, params: CertificateParams, key: &KeyPair) -> Certificate {
        let certificate = params.self_signed(key).expect("a certificate can be made");
        self.write(name, &certificate.pem(), key)
    }

    /// The chain holds the issuer too, as a server's must.
    fn issued(&self, name: &str, params: &CertificateParams, issuer: &Certificate) -> Certificate {
        let issuer_params = authority(&stem(&issuer.certificate));
        let issuer_key = issuer.key_pair();
        let key = key();
        let certificate = params
            .signed_by(&key, &Issuer::from_params(&issuer_params, &issuer_key))
            .expect("a certificate can be made");
        self.write(name, &format!("{}{}", certificate.pem(), issuer.pem()), &key)
    }

    fn write(&self, name: &str, pem: &str, key: &KeyPair) -> Certificate {
        let made = self.named(name);
        std::fs::write(&made.certificate, pem).expect("a temporary file can be written");
        std::fs::write(&made.key, key.serialize_pem()).expect("a temporary file can be written");
        // As `openssl` and `incus` leave it.
        std::fs::set_permissions(&made.key, Permissions::from_mode(0o600)).expect("our own file");
        made
    }

    fn named(&self, name: &str) -> Certificate {
        Certificate {
            certificate: self.folder().join(format!("{name}.crt")),
            key: self.folder().join(format!("{name}.key")),
        }
    }
}

impl Certificate {
    /// The certificate itself, without its chain.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&self.certificate).expect("a certificate's PEM file")
    }

    /// SHA-256 of the DER, as `incus config trust list` shows it.
    pub fn fingerprint(&self) -> String {
        sha256(&[&self.der()])
    }

    /// The text of the file.
    pub fn pem(&self) -> String {
        std::fs::read_to_string(&self.certificate).expect("a certificate's PEM file")
    }

    /// What is as good as the certificate itself where Incus trusts it: a JWT that its key has signed, good for an hour.
    pub fn token(&self) -> String {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("a clock after 1970");
        let (sub, exp, nbf) = (self.fingerprint(), now.as_secs() + 3600, now.as_secs() - 60);
        // Incus 6.0 writes the claims anew before it looks at the signature, and takes no other order than its own.
        let claims = format!(r#"{{"sub":"{sub}","exp":{exp},"nbf":{nbf}}}"#);
        let part = |part: &str| BASE64URL_NOPAD.encode(part.as_bytes());
        let signed = format!("{}.{}", part(r#"{"alg":"ES384","typ":"JWT"}"#), part(&claims));
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, self.key_pair().serialized_der());
        let signature = key.expect("a P-384 key").sign(&SystemRandom::new(), signed.as_bytes());
        format!(
            "{signed}.{}",
            BASE64URL_NOPAD.encode(signature.expect("a signature").as_ref())
        )
    }

    fn key_pair(&self) -> KeyPair {
        let pem = std::fs::read_to_string(&self.key).expect("a key's PEM file");
        KeyPair::from_pem(&pem).expect("a key that rcgen has made")
    }
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key can be made")
}

fn server(name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("DNS names and addresses");
    params.distinguished_name = subject(name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn client(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn subject(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// The name that the file was given is the subject's.
fn stem(path: &Path) -> String {
    let stem = path.file_stem().expect("a certificate's file has a name");
    stem.to_string_lossy().into_owned()
}

fn openssl(arguments: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.args(arguments);
    command
}

trait Succeed {
    fn succeed(&mut self);
}

impl Succeed for Command {
    fn succeed(&mut self) {
        let output = self.output().expect("openssl is installed");
        assert!(
            output.status.success(),
            "{self:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
