//! A web server with trees of documents, and its clients.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use simplestreams::{Family, Index, Layout, Product, Products};
use tempfile::TempDir;
use testing::certificates::Certificates;
use testing::incus::free_address;
use testing::run::Started;

use super::client::{Client, families_apart};

const PATIENCE: Duration = Duration::from_secs(30);
const PATH: &str = "streams/v1/images.json";

/// An Nginx that serves trees, and what the clients need to trust it.
pub(super) struct Site {
    folder: TempDir,
    address: SocketAddr,
    clients: Vec<(Family, Client)>,
    _certificates: Certificates,
    _nginx: Started,
}

impl Site {
    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificates = Certificates::new();
        let authority = certificates.authority("authority");
        let server = certificates.server_issued_by(&authority, "server");
        let address = free_address();
        let at = folder.path().display();
        let temporary =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|of| format!("{of}_temp_path {at}/{of};"));
        let configuration = format!(
            "user root; daemon off; master_process off; pid {at}/pid; error_log stderr warn; events {{}}
             http {{
                 access_log off; {}
                 server {{
                     listen {address} ssl; ssl_protocols TLSv1.2 TLSv1.3; root {at}/trees;
                     ssl_certificate {}; ssl_certificate_key {};
                 }}
             }}",
            temporary.concat(),
            server.certificate.display(),
            server.key.display()
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let nginx = Started::by(
            Command::new("nginx")
                .arg("-p")
                .arg(folder.path())
                .arg("-c")
                .arg(file)
                .stdout(Stdio::null()),
        );
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "nginx does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        let client = |program| Client::new(program, &authority);
        let mut site = Self {
            clients: vec![(Family::Incus6, client("incus")), (Family::Lxd5, client("lxc"))],
            folder,
            address,
            _certificates: certificates,
            _nginx: nginx,
        };
        site.tree("family", &families_apart());
        for (family, client) in &mut site.clients {
            *family = client.family("family");
        }
        site
    }

    /// Serves these products below `/NAME`, to the clients as a remote of that name, and returns the folder.
    pub(super) fn tree(&self, name: &str, products: &str) -> PathBuf {
        let folder = self.folder.path().join("trees").join(name);
        fs::create_dir_all(folder.join("streams/v1")).unwrap();
        let some = Products {
            products: [("some".to_owned(), Product::default())].into_iter().collect(),
            ..Products::new()
        };
        let index = Index::of(PATH, &some).to_json(Layout::Pretty).unwrap();
        fs::write(folder.join(simplestreams::INDEX), index).unwrap();
        fs::write(folder.join(PATH), products).unwrap();
        for (_, client) in &self.clients {
            let url = format!("https://{}/{name}", self.address);
            client.add_remote(name, &url);
        }
        folder
    }

    pub(super) fn clients(&self) -> impl Iterator<Item = (Family, &Client)> {
        self.clients.iter().map(|(family, client)| (*family, client))
    }
}
