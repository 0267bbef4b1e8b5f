//! Properties that hold for any input.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;

use nginx_import::{Certificate, CertificateReader, Fields, ImportError, Options, translate};

/// A reader that finds a certificate in every file, with a subject that must be escaped.
struct AnyFile;

impl CertificateReader for AnyFile {
    fn read_all(&self, file: &Path) -> Result<Vec<Certificate>, String> {
        Ok(vec![self.read_one(file)?])
    }

    fn read_one(&self, file: &Path) -> Result<Certificate, String> {
        let name = format!("{}\n[admin]\u{1b}\"", file.display());
        Ok(Certificate {
            sha256: "0".repeat(64),
            sha1: "0".repeat(40),
            fields: Some(Fields {
                subject: format!("CN={name}"),
                common_name: Some(name),
                is_authority: false,
            }),
        })
    }
}

/// Returns the configuration that results from a file with this text.
fn translated(text: &[u8]) -> Result<String, ImportError> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, text).expect("written");
    let address = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let options = Options {
        incus_folder: folder.path(),
        incus_url: None,
        default_public: address(8554),
        default_admin: address(8555),
        certificates: &AnyFile,
    };
    translate(&file, options).map(|translation| translation.config)
}

#[test]
fn text_from_certificates_is_escaped() {
    let text = b"server { listen 1 ssl; ssl_verify_client on; ssl_client_certificate a; location / { proxy_pass https://127.0.0.1:1; } }";
    let text = translated(text).expect("a valid configuration");
    let table: toml::Table = text.parse().expect("valid TOML");
    let clients = table["admin"]["clients"].as_array().expect("an array of tables");
    assert_eq!(clients.len(), 1, "{text}");
    assert!(
        text.contains(r"CN=") && text.chars().all(|c| c == '\n' || !c.is_control()),
        "{text}"
    );
}

proptest::proptest! {
    #[test]
    fn no_input_makes_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = translated(&bytes);
    }

    #[test]
    fn the_output_is_toml(text in "((server|location|if|map|upstream|http) ?(/1.0|\\(\\$ssl_client_s_dn = a\\)|a \\$b|inc)? ?\\{|\\}|listen (8554|\\[::\\]:1|unix:/a) ssl;|ssl_verify_client (on|optional);|proxy_pass https://(inc|\\$b|127.0.0.1:1|a/b);|(ssl_certificate|ssl_certificate_key|proxy_ssl_certificate|ssl_client_certificate) (a|\"b\\\\n\\[c\\]\"|\\$d);|server (a|1.2.3.4:5|\\[::1\\]) (backup)?;|allow [0-9.]{1,4};|include [a-z*/]{1,3};|return (403|200);|[a-z]{1,3} '[^']{0,3}';|\n){0,30}") {
        if let Ok(text) = translated(text.as_bytes()) {
            proptest::prop_assert!(text.parse::<toml::Table>().is_ok(), "{text}");
        }
    }
}
