//! Certificates of every kind that a test presents or expects. rcgen creates them; openssl creates those that rcgen cannot.

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

/// Creates certificates in its own folder, as `NAME.crt` and `NAME.key`.
#[derive(Debug)]
pub struct Certificates(TempDir);

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate, followed by its chain.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Certificates {
    /// Creates an empty folder.
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    /// Returns the folder of the certificates.
    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Creates a self-signed certificate for `localhost`, `127.0.0.1` and `::1`.
    pub fn server(&self, name: &str) -> Certificate {
        self.server_for(name, &["localhost", "127.0.0.1", "::1"])
    }

    /// Creates a self-signed certificate for these names and addresses.
    pub fn server_for(&self, name: &str, names: &[&str]) -> Certificate {
        self.self_signed(name, server(name, names), &key())
    }

    /// Creates a certificate for `localhost`, `127.0.0.1` and `::1`. `issuer` must be an [`authority`](Self::authority).
    pub fn server_issued_by(&self, issuer: &Certificate, name: &str) -> Certificate {
        self.issued(name, &server(name, &["localhost", "127.0.0.1", "::1"]), issuer)
    }

    /// Creates a certificate for `localhost` and `127.0.0.1` with the extensions and the validity period of Let's Encrypt.
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

    /// Creates a client certificate like those of `incus`: self-signed, v3, ECDSA P-384, CA:FALSE, for client authentication.
    pub fn client(&self, name: &str) -> Certificate {
        self.self_signed(name, client(name), &key())
    }

    /// Creates a certificate like those of `openssl req -x509`: self-signed, CA:TRUE. It can issue others.
    pub fn authority(&self, name: &str) -> Certificate {
        self.self_signed(name, authority(name), &key())
    }

    /// Creates a client certificate that `issuer` has signed.
    pub fn client_issued_by(&self, issuer: &Certificate, name: &str) -> Certificate {
        self.issued(name, &client(name), issuer)
    }

    /// Creates an expired client certificate.
    pub fn expired(&self, name: &str) -> Certificate {
        let mut params = client(name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        self.self_signed(name, params, &key())
    }

    /// Creates a server certificate that expires in this many days and twelve hours.
    pub fn server_for_days(&self, name: &str, days: u64) -> Certificate {
        let mut params = server(name, &["localhost", "127.0.0.1", "::1"]);
        params.not_after = (SystemTime::now() + Duration::from_hours(24 * days + 12)).into();
        self.self_signed(name, params, &key())
    }

    /// Creates a client certificate that becomes valid in the year 3000.
    pub fn not_yet_valid(&self, name: &str) -> Certificate {
        let mut params = client(name);
        params.not_before = date_time_ymd(3000, 1, 1);
        self.self_signed(name, params, &key())
    }

    /// Creates another certificate with the key and the subject of `other`.
    pub fn same_key(&self, other: &Certificate, name: &str) -> Certificate {
        let params = client(&stem(&other.certificate));
        let certificate = self.self_signed(name, params, &other.key_pair());
        assert_ne!(certificate.der(), other.der());
        certificate
    }

    /// Creates another certificate with the subject of `other` and a new key.
    pub fn same_subject(&self, other: &Certificate, name: &str) -> Certificate {
        self.self_signed(name, client(&stem(&other.certificate)), &key())
    }

    /// Creates a certificate with `openssl req -x509 -newkey rsa:…`, the command of the guide that preceded this gateway. It
    /// has CA:TRUE.
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

    /// Creates an X.509 version 1 certificate, which has no extensions.
    pub fn openssl_v1(&self, name: &str) -> Certificate {
        let made = self.named(name);
        // The configuration of the system adds extensions.
        let config = self.folder().join(format!("{name}.cnf"));
        std::fs::write(&config, "[req]\ndistinguished_name = dn\n[dn]\n").expect("a configuration can be written");
        let mut request = openssl(&["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650"]);
        if creates_version_3_by_default() {
            request.arg("-x509v1");
        }
        request
            .args(["-subj", &format!("/CN={name}")])
            .arg("-config")
            .arg(&config)
            .arg("-keyout")
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
        let certificate = params.self_signed(key).expect("a certificate can be created");
        self.write(name, &certificate.pem(), key)
    }

    /// Creates a certificate whose file also contains the issuer, as a server's chain must.
    fn issued(&self, name: &str, params: &CertificateParams, issuer: &Certificate) -> Certificate {
        let issuer_params = authority(&stem(&issuer.certificate));
        let issuer_key = issuer.key_pair();
        let key = key();
        let certificate = params
            .signed_by(&key, &Issuer::from_params(&issuer_params, &issuer_key))
            .expect("a certificate can be created");
        self.write(name, &format!("{}{}", certificate.pem(), issuer.pem()), &key)
    }

    fn write(&self, name: &str, pem: &str, key: &KeyPair) -> Certificate {
        let made = self.named(name);
        std::fs::write(&made.certificate, pem).expect("a temporary file can be written");
        std::fs::write(&made.key, key.serialize_pem()).expect("a temporary file can be written");
        // The mode that `openssl` and `incus` use.
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
    /// Returns the certificate without its chain.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&self.certificate).expect("a certificate's PEM file")
    }

    /// Returns the SHA-256 of the DER, in the format of `incus config trust list`.
    pub fn fingerprint(&self) -> String {
        sha256(&[&self.der()])
    }

    /// Returns the text of the PEM file.
    pub fn pem(&self) -> String {
        std::fs::read_to_string(&self.certificate).expect("a certificate's PEM file")
    }

    /// Returns a JWT signed with the key, valid for an hour. Where Incus trusts the certificate, it also accepts this token.
    pub fn token(&self) -> String {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("a clock after 1970");
        let (sub, exp, nbf) = (self.fingerprint(), now.as_secs() + 3600, now.as_secs() - 60);
        // Incus 6.0 serializes the claims again before it verifies the signature, so they must be in its own order.
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
        KeyPair::from_pem(&pem).expect("a key that rcgen has created")
    }
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a key can be created")
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

/// Returns the file name without its extension, which is also the subject's common name.
fn stem(path: &Path) -> String {
    let stem = path.file_stem().expect("a certificate's file has a name");
    stem.to_string_lossy().into_owned()
}

fn openssl(arguments: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.args(arguments);
    command
}

/// Returns whether OpenSSL creates version 1 only on request, which it does since 3.2.
fn creates_version_3_by_default() -> bool {
    let help = openssl(&["req", "-help"]).output().expect("openssl runs");
    String::from_utf8_lossy(&[help.stdout, help.stderr].concat()).contains("-x509v1")
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
