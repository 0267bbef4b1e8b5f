//! Valid images of every kind, and their expected fingerprints.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::HEXLOWER;
use tempfile::TempDir;

use super::client::Answer;
use super::incus::Incus;
use super::run::run;

/// A mark in every image's root file system. A different number after it results in a different fingerprint.
const MARK: &str = "mark:";
const MARK_DIGITS: usize = 16;

/// Creates images in its own folder.
#[derive(Debug)]
pub struct Images {
    folder: Arc<TempDir>,
    made: Cell<usize>,
}

/// An image, as the one or two files that `incus image import` takes.
#[derive(Clone, Debug)]
pub struct Image {
    /// `[unified]` or `[metadata, rootfs]`.
    pub files: Vec<PathBuf>,
    /// SHA-256 of the concatenated files.
    pub fingerprint: String,
    /// Keeps the files.
    _folder: Arc<TempDir>,
}

/// What the second file of a split image is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Root {
    Squashfs,
    /// A tar archive, compressed by this program.
    Tar(&'static str),
}

/// Whether an image consists of one or two files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Split,
    Unified,
}

impl Images {
    /// Creates an empty folder.
    pub fn new() -> Self {
        Self {
            folder: Arc::new(tempfile::tempdir().expect("a temporary folder")),
            made: Cell::new(0),
        }
    }

    /// Creates a small image in two files, with this description.
    pub fn split(&self, description: &str) -> Image {
        self.make(Kind::Split, description, |_| {})
    }

    /// Creates a small image in one file, with this description.
    pub fn unified(&self, description: &str) -> Image {
        self.make(Kind::Unified, description, |_| {})
    }

    /// Creates an image slightly larger than this many MiB, with incompressible content.
    pub fn random(&self, kind: Kind, description: &str, mebibytes: u64) -> Image {
        self.make(kind, description, |root| {
            let mut random = fs::File::open("/dev/urandom").map(|file| std::io::Read::take(file, mebibytes << 20));
            let random = random.as_mut().expect("the kernel has random numbers");
            let mut file = fs::File::create(root.join("random")).expect("a temporary file can be created");
            std::io::copy(random, &mut file).expect("a temporary file can be written");
        })
    }

    /// Creates an image that can boot, with busybox as shell and init.
    pub fn bootable(&self, description: &str) -> Image {
        self.make(Kind::Split, description, |root| {
            for folder in ["bin", "sbin", "dev", "proc", "sys", "run", "tmp", "root"] {
                fs::create_dir_all(root.join(folder)).expect("a temporary folder can be created");
            }
            fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
            for link in ["bin/sh", "bin/cat", "bin/ls", "bin/echo", "sbin/init"] {
                std::os::unix::fs::symlink("/bin/busybox", root.join(link)).expect("a link can be created");
            }
            // init only waits: without a terminal it must not start a shell.
            fs::write(root.join("etc/inittab"), "::sysinit:/bin/true\n").expect("a temporary file can be written");
        })
    }

    /// Creates a small image in two files, of which the second one is a root of this format.
    pub fn with_root(&self, root: Root, description: &str) -> Image {
        let mut image = self.split(description);
        let tar = image.files.pop().expect("an image has files");
        let path = match root {
            Root::Squashfs => {
                let folder = tar.with_file_name("unpacked");
                fs::create_dir(&folder).expect("a temporary folder can be created");
                run(Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(&folder)).ok();
                let path = tar.with_file_name("rootfs.squashfs");
                run(Command::new("mksquashfs")
                    .args([&folder, &path])
                    .args(["-quiet", "-no-progress"]))
                .ok();
                path
            }
            Root::Tar(program) => {
                let path = tar.with_extension("tar.packed");
                let packed = fs::File::create(&path).expect("a temporary file can be created");
                run(Command::new(program).arg("-c").arg(&tar).stdout(packed)).ok();
                path
            }
        };
        image.files.push(path);
        image.fingerprint = sha256_of(&image.files);
        image
    }

    /// Creates an image of a virtual machine with an empty disk, in one or two files.
    pub fn virtual_machine(&self, kind: Kind, description: &str) -> Image {
        let mut image = self.split(description);
        let metadata = image.files[0].clone();
        let folder = metadata.parent().expect("a file is in a folder");
        let disk = folder.join("rootfs.img");
        fs::write(&disk, qcow2(self.made.get() as u64)).expect("a temporary file can be written");
        image.files = match kind {
            Kind::Split => vec![metadata, disk],
            Kind::Unified => vec![tar(folder, "unified.tar", folder, &["metadata.yaml", "rootfs.img"])],
        };
        image.fingerprint = sha256_of(&image.files);
        image
    }

    /// Creates a small image whose fingerprint satisfies `wanted`. Three given hexadecimal digits are found instantly.
    pub fn with_fingerprint(&self, kind: Kind, description: &str, wanted: impl Fn(&str) -> bool) -> Image {
        let mut image = self.make(kind, description, |_| {});
        let path = image.files.last().expect("an image has files").clone();
        let mut root = fs::read(&path).expect("the file just made");
        let metadata = match kind {
            Kind::Split => fs::read(&image.files[0]).expect("the file just made"),
            Kind::Unified => Vec::new(),
        };
        let at = find(&root, MARK.as_bytes()).expect("the archive contains the mark uncompressed") + MARK.len();
        // The content can be changed in place: tar's checksums cover headers only.
        for number in 0..1_u64 << 32 {
            root[at..at + MARK_DIGITS].copy_from_slice(format!("{number:0MARK_DIGITS$}").as_bytes());
            image.fingerprint = sha256(&[&metadata, &root]);
            if wanted(&image.fingerprint) {
                fs::write(path, root).expect("a temporary file can be written");
                return image;
            }
        }
        panic!("no fingerprint is as wanted");
    }

    fn make(&self, kind: Kind, description: &str, fill: impl FnOnce(&Path)) -> Image {
        let number = self.made.replace(self.made.get() + 1);
        let folder = self.folder.path().join(number.to_string());
        let root = folder.join("rootfs");
        fs::create_dir_all(root.join("etc")).expect("a temporary folder can be created");
        fs::write(root.join("etc/mark"), format!("{MARK}{number:0MARK_DIGITS$}")).expect("a temporary file");
        fs::write(folder.join("metadata.yaml"), metadata(description)).expect("a temporary file can be written");
        fill(&root);
        let files = match kind {
            Kind::Split => vec![
                tar(&folder, "metadata.tar", &folder, &["metadata.yaml"]),
                tar(&folder, "rootfs.tar", &root, &["."]),
            ],
            Kind::Unified => vec![tar(&folder, "unified.tar", &folder, &["metadata.yaml", "rootfs"])],
        };
        fs::remove_dir_all(root).expect("our own folder");
        let fingerprint = sha256_of(&files);
        Image {
            files,
            fingerprint,
            _folder: Arc::clone(&self.folder),
        }
    }
}

impl Image {
    /// Imports it into Incus through the Unix socket.
    pub fn import(&self, incus: &Incus, options: &[&str]) {
        let mut command = incus.command();
        command
            .args(["image", "import", "--quiet"])
            .args(&self.files)
            .args(options);
        run(&mut command).ok();
    }
}

/// Returns a disk of a mebibyte, all zeros, in the format qcow2. A different number results in a different content.
fn qcow2(number: u64) -> Vec<u8> {
    const CLUSTER: usize = 1 << 16;
    let mut disk = b"QFI\xfb".to_vec();
    let mut word = |word: u32| disk.extend(word.to_be_bytes());
    // The version; no backing file; the size of a cluster; the size of the disk; no encryption; one entry of the L1 table.
    for value in [2, 0, 0, 0, 16, 0, 1 << 20, 0, 1] {
        word(value);
    }
    // The L1 table, the table of the reference counts and its number of clusters, no snapshots.
    for value in [3 * CLUSTER, CLUSTER] {
        disk.extend((value as u64).to_be_bytes());
    }
    disk.extend([0, 0, 0, 1]);
    disk.extend([0; 12]);
    disk.resize(4 * CLUSTER, 0);
    let mut put = |at: usize, bytes: &[u8]| disk[at..at + bytes.len()].copy_from_slice(bytes);
    put(CLUSTER, &(2 * CLUSTER as u64).to_be_bytes());
    // Each of the four clusters is used once.
    put(2 * CLUSTER, &[0, 1, 0, 1, 0, 1, 0, 1]);
    // Behind the header, where nothing reads.
    put(CLUSTER / 2, &number.to_be_bytes());
    disk
}

/// Returns the SHA-256 of the concatenated parts, in hexadecimal.
pub fn sha256(parts: &[&[u8]]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    HEXLOWER.encode(context.finish().as_ref())
}

/// Returns the SHA-256 of the concatenated files, in hexadecimal.
pub fn sha256_of(files: &[PathBuf]) -> String {
    let parts: Vec<Vec<u8>> = files
        .iter()
        .map(|file| fs::read(file).expect("the file can be read"))
        .collect();
    sha256(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// Returns the fingerprint of an exported image of one or two files.
#[track_caller]
pub fn export_fingerprint(answer: &Answer) -> String {
    let kind = answer.header("content-type").expect("an export has a type");
    let Some(boundary) = kind.strip_prefix("multipart/form-data; boundary=") else {
        return sha256(&[&answer.body]);
    };
    let parts = parts(&answer.body, boundary);
    let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
    assert!(matches!(names[..], ["metadata", "rootfs" | "rootfs.img"]), "{names:?}");
    sha256(&parts.iter().map(|(_, content)| *content).collect::<Vec<_>>())
}

/// Returns the names and contents of a multipart body. Incus sends the closing delimiter twice.
fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<(String, &'a [u8])> {
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = body
        .strip_prefix(&delimiter.as_bytes()[2..])
        .expect("a body begins with its boundary");
    let mut parts = Vec::new();
    while !rest.starts_with(b"--") {
        let head = find(rest, b"\r\n\r\n").expect("a part has a head") + 4;
        let end = find(rest, delimiter.as_bytes()).expect("a part ends with the boundary");
        let (_, name) = std::str::from_utf8(&rest[..head])
            .expect("a head is text")
            .split_once("name=\"")
            .expect("a name");
        let name = name.split('"').next().unwrap_or_default();
        parts.push((name.to_owned(), &rest[head..end]));
        rest = &rest[end + delimiter.len()..];
    }
    parts
}

fn metadata(description: &str) -> String {
    format!(
        "architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  description: {}\n  os: Test\n",
        serde_json::Value::from(description)
    )
}

fn tar(into: &Path, name: &str, from: &Path, what: &[&str]) -> PathBuf {
    let path = into.join(name);
    let mut command = Command::new("tar");
    command
        .args([
            "--create",
            "--sort=name",
            "--mtime=@1700000000",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--file",
        ])
        .arg(&path)
        .arg("--directory")
        .arg(from)
        .args(what);
    run(&mut command).ok();
    path
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
