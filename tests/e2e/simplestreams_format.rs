//! The crate `simplestreams` sees in a tree what the real clients see: `incus`, and LXD's `lxc`, pull from an Nginx over TLS.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use simplestreams::{
    Architecture, Blob, Content, Entry, Family, Ftype, Index, Item, Kind, Layout, Parsed, Problem, Product, Products,
    Requirements, RootFormat, Version, View, check,
};
use tempfile::TempDir;
use testing::certificates::{Certificate, Certificates};
use testing::images::{Image, Images, sha256_of};
use testing::incus::free_address;
use testing::run::{Output, Started, run};

const PATIENCE: Duration = Duration::from_secs(30);
const PATH: &str = "streams/v1/images.json";
/// What these clients run on.
const NATIVE: Architecture = Architecture::X86_64;

/// Both clients list and download what `build` makes of images that Incus has.
#[test]
fn incus_and_lxd_pull_what_is_built() {
    let site = Site::start();
    let images = Images::new();
    let split = images.split("in two files");
    let unified = images.unified("in one file");
    let mut other = entry(&images.split("for another architecture"), Kind::Container);
    other.architecture = "aarch64".to_owned();
    other.aliases = vec!["tool/arm64".to_owned(), "left,out".to_owned()];
    let mut machine = entry(&images.split("a virtual machine"), Kind::VirtualMachine);
    if let Content::Split { format, .. } = &mut machine.content {
        *format = RootFormat::Qcow2;
    }
    let mut entries = vec![
        entry(&split, Kind::Container),
        entry(&unified, Kind::Container),
        other,
        machine,
    ];
    entries[0].aliases = vec!["tool/amd64".to_owned(), "crynux-node:v2.6.0".to_owned()];
    entries[0].expires_at = 1_900_000_000;
    entries[1].aliases = vec!["whole".to_owned()];
    entries[3].aliases = vec!["whole".to_owned()];
    let properties = &mut entries[0].properties;
    properties.insert("requirements.secureboot".to_owned(), "false".to_owned());
    properties.insert("os".to_owned(), "Debian".to_owned());
    let built = simplestreams::build(&entries);
    let omitted: Vec<_> = built.omitted.iter().map(|omitted| omitted.alias.as_deref()).collect();
    assert_eq!(omitted, [Some("left,out")]);
    assert_eq!(check(&[&built.products.clone().into()]), []);

    let tree = site.tree("built", &built.products.to_json(Layout::Pretty).unwrap());
    for entry in [&entries[0], &entries[1]] {
        publish(&tree, entry, if entry == &entries[0] { &split } else { &unified });
    }
    let parsed = Parsed::from(built.products);
    for (family, client) in site.clients() {
        client.agrees(family, "built", &parsed);
        let view = View::of(family, &[&parsed]);
        assert_eq!(view.images.len(), 4, "{family}");
        for (alias, image) in [("tool", &split), ("crynux-node:v2.6.0", &split), ("whole", &unified)] {
            let found = view.resolve(alias, None, NATIVE).unwrap();
            assert_eq!(found.fingerprint, image.fingerprint, "{family}: {alias}");
            let folder = client.home.path().join(format!("export {alias}"));
            fs::create_dir(&folder).unwrap();
            let target = folder.join("image");
            client
                .run(&["image", "export", &format!("built:{alias}"), &target.to_string_lossy()])
                .ok();
            let mut files: Vec<PathBuf> = fs::read_dir(&folder)
                .unwrap()
                .map(|file| file.unwrap().path())
                .collect();
            files.sort_by_key(|file| file.extension() == Some("root".as_ref()));
            assert_eq!(sha256_of(&files), image.fingerprint, "{family}: {alias}: {files:?}");
        }
    }
}

/// Trees that exist in the wild, and their like.
#[test]
fn clients_and_the_view_agree_on_what_exists_in_the_wild() {
    let site = Site::start();
    let product = |fields: &str, version: &str, items: &str| {
        format!(
            r#"{{"arch":"amd64","os":"O","release":"r","release_title":"R",{fields}"versions":{{"{version}":{{"items":{{{items}}}}}}}}}"#
        )
    };
    let hash = |digits: &str| digits.repeat(32);
    let metadata = |ftype: &str, combined: &str| {
        let sha256 = hash("a1");
        format!(r#""{ftype}":{{"ftype":"{ftype}","path":"images/m.tar.xz","sha256":"{sha256}","size":672,{combined}}}"#)
    };
    let root = |ftype: &str| {
        let sha256 = hash("b2");
        format!(r#""root {ftype}":{{"ftype":"{ftype}","path":"images/r.{ftype}","sha256":"{sha256}","size":9}}"#)
    };
    let combined = |name: &str, digits: &str| format!(r#""combined_{name}":"{}""#, hash(digits));
    let squashfs = combined("squashfs_sha256", "c3");
    let both = [
        metadata("incus.tar.xz", &squashfs),
        metadata("lxd.tar.xz", &squashfs),
        root("squashfs"),
    ]
    .join(",");
    let with = |fields: &str| product(fields, "20240101_1200", &both);
    let at = |version: &str| product(r#""aliases":"a","#, version, &both);
    let of = |items: &[String]| product(r#""aliases":"a","#, "20240101", &items.join(","));
    let trees = [
        ("plain", with(r#""aliases":"a,b/c","#)),
        ("semantic", at("v2.6.0")),
        ("short", at("1.0.0")),
        ("underscores", at("2024_01_01")),
        ("no-day", at("20240231")),
        ("colon", at("20180716_12:00")),
        ("long", at("20240101-and-more")),
        (
            "no-hash",
            of(&[metadata("incus.tar.xz", r#""md5":"x""#), root("squashfs")]),
        ),
        (
            "general-hash",
            of(&[metadata("incus.tar.xz", &combined("sha256", "c3")), root("squashfs")]),
        ),
        (
            "general-hash-tar",
            of(&[metadata("incus.tar.xz", &combined("sha256", "c3")), root("root.tar.xz")]),
        ),
        ("only-lxd", of(&[metadata("lxd.tar.xz", &squashfs), root("squashfs")])),
        (
            "only-incus",
            of(&[metadata("incus.tar.xz", &squashfs), root("squashfs")]),
        ),
        (
            "no-root",
            of(&[metadata("incus.tar.xz", &squashfs), metadata("lxd.tar.xz", &squashfs)]),
        ),
        (
            "no-path",
            of(&[
                metadata("incus.tar.xz", &squashfs).replace("images/m.tar.xz", ""),
                root("squashfs"),
            ]),
        ),
        (
            "two-kinds",
            of(&[
                metadata(
                    "incus.tar.xz",
                    &format!("{squashfs},{}", combined("disk-kvm-img_sha256", "d4")),
                ),
                root("squashfs"),
                root("disk-kvm.img"),
                root("disk1.img"),
            ]),
        ),
        (
            "two-metadata",
            of(&[
                metadata("incus.tar.xz", &squashfs),
                metadata("incus.tar.xz", &combined("disk-kvm-img_sha256", "d4")).replacen("incus.tar.xz", "second", 1),
                root("squashfs"),
                root("disk-kvm.img"),
            ]),
        ),
        (
            "unified",
            of(&[
                metadata("incus_combined.tar.gz", &squashfs),
                metadata("lxd_combined.tar.gz", &squashfs),
            ]),
        ),
        (
            "unified-disk",
            of(&[metadata(
                "incus_combined.tar.gz",
                r#""combined_type":"virtual-machine""#,
            )]),
        ),
        ("list-of-aliases", with(r#""aliases":["a"],"#)),
        ("spaces", with(r#""aliases":"a, b,,c","#)),
        ("size-as-text", of(&[both.replace("672", r#""672""#)])),
        ("size-as-float", of(&[both.replace("672", "672.0")])),
        ("boolean", with(r#""requirements":{"secureboot":false},"#)),
        ("boolean-lxd", with(r#""lxd_requirements":{"secureboot":false},"#)),
        ("misspelt", with(r#""requirements":{"secure_boot":"false"},"#)),
        (
            "requirements",
            with(r#""requirements":{"secureboot":"false"},"lxd_requirements":{"nesting":"true"},"#),
        ),
        ("null", with(r#""aliases":null,"variant":null,"support_eol":null,"#)),
        ("case", with(r#""Aliases":"a","VARIANT":"v","#)),
        (
            "other-architecture",
            with(r#""aliases":"a","#).replace("amd64", "arm64"),
        ),
        (
            "new-architecture",
            with(r#""aliases":"a","#).replace("amd64", "loong64"),
        ),
        ("no-architecture", with(r#""aliases":"a","#).replace("amd64", "z80")),
        ("absolute", with("").replace("images/r.", "https://example.org/r.")),
        ("rooted", with("").replace("images/r.", "/incus/r.")),
    ];
    for (name, product) in &trees {
        let document = format!(r#"{{"products":{{"p":{product}}}}}"#);
        site.tree(name, &document);
        let parsed = Products::parse(document.as_bytes()).unwrap();
        for (family, client) in site.clients() {
            client.agrees(family, name, &parsed);
        }
    }
    // Read without what other programs left, and written again, a document is the same to clients.
    let all: Vec<String> = trees
        .iter()
        .map(|(name, product)| format!(r#""{name}":{product}"#))
        .collect();
    let all = format!(r#"{{"products":{{{}}}}}"#, all.join(","));
    let repaired = Products::parse(all.as_bytes()).unwrap().document;
    let again = Products::parse(repaired.to_json(Layout::Compact).unwrap().as_bytes()).unwrap();
    assert_eq!((&again.document, &again.deviations[..]), (&repaired, &[][..]));
    site.tree("repaired", &again.document.to_json(Layout::Compact).unwrap());
    for (family, client) in site.clients() {
        assert_ne!(client.agrees(family, "repaired", &again), Some(0), "{family}");
    }
}

/// Which image owns a name, and in which order images come, is the same for clients and for the view, in random trees.
#[test]
fn clients_and_the_view_agree_on_random_trees() {
    let site = Site::start();
    let mut listed = BTreeMap::new();
    for seed in 0..40 {
        let products = random_tree(seed);
        let name = format!("t{seed}");
        site.tree(&name, &products.to_json(Layout::Compact).unwrap());
        let parsed = Parsed::from(products);
        for (family, client) in site.clients() {
            *listed.entry(family).or_insert(0) += client.agrees(family, &name, &parsed).unwrap_or_default();
        }
    }
    assert!(listed.values().all(|&images| images > 50), "{listed:?}");
}

/// Returns products whose images share names, groups and dates often.
fn random_tree(seed: u64) -> Products {
    let mut random = Random(seed);
    let mut products = Products::new();
    for number in 0..1 + random.below(8) {
        let mut product = Product {
            architecture: random.of(&["amd64", "x86_64", "arm64", "i686", "z80"]),
            os: random.of(&["debian", "alpine", "Zed"]),
            release: random.of(&["bookworm", "trixie", "3.20", "3.21", "sid"]),
            release_title: random.of(&["", "Title"]),
            version: random.some(&["12", "13"]),
            variant: (random.below(8) != 0).then(|| random.of(&["default", "cloud"])),
            requirements: random.requirements(),
            lxd_requirements: random.requirements(),
            end_of_life: random.some(&["2030-01-01", "soon"]),
            ..Product::default()
        };
        for _ in 0..random.below(3) {
            product
                .aliases
                .push(random.of(&["a", "b", "a/amd64", "a/arm64", "b/default", " c"]));
        }
        for _ in 0..1 + random.below(3) {
            let key: String = random.of(&[
                "20240101_0000",
                "20240101_2330",
                "20231231",
                "20240229-2",
                "2024010",
                "v1.0.0-and-more",
            ]);
            let mut version = Version {
                label: random.some(&["beta"]),
                ..Version::default()
            };
            for nth in 0..2 + random.below(5) {
                let ftype = random.ftype();
                let mut item = Item {
                    path: format!("images/{nth}.x"),
                    sha256: Some(random.hash()),
                    size: Some(random.below(1 << 40)),
                    ..Item::default()
                };
                for root in Ftype::KNOWN.iter().filter(|ftype| ftype.is_root()) {
                    if random.below(3) != 0 {
                        item.combined.set_fingerprint(root, random.hash());
                    }
                }
                item.ftype = ftype;
                version.items.insert(format!("i{nth}"), item);
            }
            product.versions.insert(key, version);
        }
        products.products.insert(format!("p{number}"), product);
    }
    products
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn of(&mut self, texts: &[&str]) -> String {
        texts[self.below(texts.len() as u64) as usize].to_owned()
    }

    fn some(&mut self, texts: &[&str]) -> Option<String> {
        (self.below(2) == 0).then(|| self.of(texts))
    }

    fn hash(&mut self) -> String {
        (0..4).map(|_| format!("{:016x}", self.next())).collect()
    }

    fn ftype(&mut self) -> Ftype {
        // Mostly metadata and a root, so that images come out.
        let names = [
            "incus.tar.xz",
            "lxd.tar.xz",
            "squashfs",
            "squashfs",
            "root.tar.xz",
            "disk-kvm.img",
            "disk1.img",
        ];
        let rare = [
            "uefi1.img",
            "incus_combined.tar.gz",
            "lxd_combined.tar.gz",
            "squashfs.vcdiff",
            "manifest",
        ];
        let names = if self.below(5) == 0 { &rare[..] } else { &names };
        Ftype::from(self.of(names))
    }

    fn requirements(&mut self) -> Option<Requirements> {
        let value = self.of(&["true", "false"]);
        match self.below(3) {
            0 => None,
            1 => Some(Requirements::new()),
            _ => Some([("secureboot".to_owned(), value)].into_iter().collect()),
        }
    }
}

/// An Nginx that serves trees, and what the clients need to trust it.
struct Site {
    folder: TempDir,
    address: SocketAddr,
    clients: Vec<(Family, Client)>,
    _certificates: Certificates,
    _nginx: Started,
}

impl Site {
    fn start() -> Self {
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
    fn tree(&self, name: &str, products: &str) -> PathBuf {
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

    fn clients(&self) -> impl Iterator<Item = (Family, &Client)> {
        self.clients.iter().map(|(family, client)| (*family, client))
    }
}

/// `incus` or `lxc`, with a home of its own and without a daemon.
struct Client {
    program: &'static str,
    home: TempDir,
    authority: PathBuf,
}

/// What both clients and the view say about an image.
type Listed = (String, String, String, Vec<String>, BTreeMap<String, String>, u64);

impl Client {
    fn new(program: &'static str, authority: &Certificate) -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("config.yml"), "remotes:\n").unwrap();
        let authority = authority.certificate.clone();
        Self {
            program,
            home,
            authority,
        }
    }

    /// Returns the client's family by what it lists of [`families_apart`]. Its version does not tell: Debian 12 and 13 have an
    /// LXD 5.0.2 each.
    fn family(&self, remote: &str) -> Family {
        let listed = listed_by_client(
            &self
                .run(&["image", "list", &format!("{remote}:"), "--format=json"])
                .ok(),
        );
        let takes = |digit| listed.iter().find(|(fingerprint, ..)| fingerprint.starts_with(digit));
        let reads = |(_, _, _, _, properties, _): &Listed| properties.contains_key("requirements.secureboot");
        match (takes('1'), takes('2')) {
            (Some((_, kind, ..)), None) if kind == "virtual-machine" => Family::Incus7,
            (Some(_), None) => Family::Incus6,
            (Some(_), Some(_)) => Family::LxdTransition,
            (None, Some(lxd)) if reads(lxd) => Family::LxdDebian13,
            (None, _) => Family::Lxd5,
        }
    }

    /// Does what `remote add --protocol=simplestreams` does, in less time.
    fn add_remote(&self, name: &str, url: &str) {
        let mut file = OpenOptions::new()
            .append(true)
            .open(self.home.path().join("config.yml"))
            .unwrap();
        let remote = format!("  \"{name}\": {{ addr: \"{url}\", protocol: simplestreams, public: true }}\n");
        file.write_all(remote.as_bytes()).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let home = self.home.path();
        let mut command = Command::new(self.program);
        for variable in ["HOME", "INCUS_CONF", "LXD_CONF"] {
            command.env(variable, home);
        }
        for variable in ["INCUS_DIR", "LXD_DIR"] {
            command.env(variable, home.join("no-daemon"));
        }
        run(command.env("SSL_CERT_FILE", &self.authority).args(arguments))
    }

    /// Compares what the client lists with what the view has, and returns how many images that are; nothing if it depends on
    /// chance.
    #[track_caller]
    fn agrees(&self, family: Family, remote: &str, products: &Parsed<Products>) -> Option<usize> {
        let output = self.run(&["image", "list", &format!("{remote}:"), "--format=json"]);
        let view = View::of(family, &[products]);
        if products
            .deviations
            .iter()
            .any(|deviation| deviation.stops.contains(family))
        {
            assert_eq!(view.images, [], "{family}: {remote}");
            let message = output.fails();
            assert!(
                message.contains("Failed decoding products JSON"),
                "{family}: {remote}: {message}"
            );
            return Some(0);
        }
        let mut listed = listed_by_client(&output.ok());
        let mut seen: Vec<Listed> = view.images.iter().map(listed_by_view).collect();
        let findings = check(&[products]).into_iter();
        let findings: Vec<_> = findings.filter(|finding| finding.families.contains(family)).collect();
        if findings
            .iter()
            .any(|finding| matches!(finding.problem, Problem::MetadataUndecided(_)))
        {
            return None;
        }
        // Who owns these is different each time.
        for finding in findings {
            if let Problem::AliasUndecided { alias, .. } = finding.problem {
                let is_of_chance = |name: &String| {
                    name.strip_prefix(&alias)
                        .is_some_and(|rest| matches!(rest.chars().next(), None | Some('/')))
                };
                for (_, _, _, aliases, _, _) in listed.iter_mut().chain(&mut seen) {
                    aliases.retain(|name| !is_of_chance(name));
                }
            }
        }
        listed.sort();
        seen.sort();
        assert_eq!(listed, seen, "{family}: {remote}");
        Some(seen.len())
    }
}

/// Returns products of which each family lists something else.
fn families_apart() -> String {
    let item = |ftype: &str, digit: &str| {
        let (sha256, kind) = (digit.repeat(64), "virtual-machine");
        format!(r#""{ftype}":{{"ftype":"{ftype}","path":"a.b","sha256":"{sha256}","combined_type":"{kind}"}}"#)
    };
    let (incus, lxd) = (item("incus_combined.tar.gz", "1"), item("lxd_combined.tar.gz", "2"));
    let versions = format!(r#"{{"20240101":{{"items":{{{incus}}}}},"20240102":{{"items":{{{lxd}}}}}}}"#);
    let fields = r#""arch":"amd64","requirements":{"secureboot":"false"}"#;
    format!(r#"{{"products":{{"p":{{{fields},"versions":{versions}}}}}}}"#)
}

fn listed_by_view(image: &simplestreams::Image) -> Listed {
    let aliases = image.listed_aliases(NATIVE).map(str::to_owned).collect();
    (
        image.fingerprint.clone(),
        image.kind.to_string(),
        image.architecture.to_string(),
        aliases,
        image.properties.clone(),
        image.size(),
    )
}

fn listed_by_client(json: &str) -> Vec<Listed> {
    let images: Vec<Value> = serde_json::from_str(json).unwrap();
    let listed = images.iter().map(|image| {
        let text = |key: &str| image[key].as_str().unwrap().to_owned();
        let aliases = image["aliases"].as_array().into_iter().flatten();
        let properties = image["properties"].as_object().unwrap().iter();
        let properties = properties.filter(|(name, _)| *name != "description");
        (
            text("fingerprint"),
            text("type"),
            text("architecture"),
            aliases
                .map(|alias| alias["name"].as_str().unwrap().to_owned())
                .collect(),
            properties
                .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
                .collect(),
            image["size"].as_u64().unwrap(),
        )
    });
    listed.collect()
}

/// Describes an image of one or two files as Incus does.
fn entry(image: &Image, kind: Kind) -> Entry {
    let blob = |file: &PathBuf| Blob {
        sha256: sha256_of(std::slice::from_ref(file)),
        size: fs::metadata(file).unwrap().len(),
        extension: "tar".to_owned(),
    };
    let content = match &image.files[..] {
        [metadata, root] => Content::Split {
            metadata: blob(metadata),
            root: blob(root),
            format: RootFormat::Tar,
        },
        files => Content::Unified(blob(&files[0])),
    };
    Entry {
        fingerprint: image.fingerprint.clone(),
        kind,
        architecture: "x86_64".to_owned(),
        properties: BTreeMap::new(),
        created_at: 1_700_000_000,
        uploaded_at: 1_700_000_001,
        expires_at: 0,
        aliases: Vec::new(),
        content,
    }
}

/// Copies the files of an image to where its entry says they are.
fn publish(tree: &Path, entry: &Entry, image: &Image) {
    let blobs = match &entry.content {
        Content::Split { metadata, root, .. } => vec![metadata, root],
        Content::Unified(file) => vec![file],
        Content::Oci => Vec::new(),
    };
    fs::create_dir_all(tree.join("images")).unwrap();
    for (blob, file) in blobs.into_iter().zip(&image.files) {
        fs::copy(file, tree.join(blob.path())).unwrap();
    }
}
