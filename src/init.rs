//! `incus-gate init`: sets up a gateway for an existing Incus server in one command.
//!
//! Each step first checks whether it is already done, so a second run changes nothing, and an interrupted run can be resumed.
//! Existing files are never overwritten. [`incus`] talks to the local Incus, [`keypair`] creates certificates and keys,
//! [`server_cert`] chooses the certificate that clients see, [`template`] writes `proxy.toml`, [`drift`] reports
//! command-line options that an existing configuration does not match, and [`next_steps`] prints the remaining steps.
//! [`prompt`] asks for confirmation before anything but the gateway's own files is changed.

mod drift;
mod incus;
mod keypair;
mod next_steps;
mod prompt;
mod server_cert;
mod template;

use std::fmt;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use self::incus::Incus;
pub use self::incus::LocalError;
pub use self::keypair::PairError;
use self::keypair::{Kind, Pair, Purpose};
pub use self::prompt::AskError;
use self::prompt::Prompter;
use self::server_cert::Site;
use crate::check;
use crate::config::{self, Config, ConfigError};
use crate::port::Port;
use crate::tls::CertifiedKeyError;

/// The command-line options of `init`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The configuration file to write; certificates and keys are created in the folder `certs` next to it
    #[arg(long, value_name = "FILE", default_value = "/etc/incus-gate/proxy.toml")]
    config: PathBuf,
    /// The DNS name under which clients reach this server, such as lxc.example.org
    #[arg(long, value_name = "DNS")]
    name: Option<String>,
    /// PEM file with the server certificate and its chain; default: certbot's for that name, or a new self-signed one
    #[arg(long, value_name = "FILE", requires = "private_key")]
    certificate: Option<PathBuf>,
    /// PEM file with its private key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    private_key: Option<PathBuf>,
    /// The name of an administrator to create a certificate for; can be repeated
    #[arg(long = "admin", value_name = "NAME")]
    admins: Vec<String>,
    /// The listen address of the public port
    #[arg(long, value_name = "ADDRESS", default_value_t = Port::Public.usual_address())]
    public: SocketAddr,
    /// The listen address of the admin port
    #[arg(long = "admin-listen", value_name = "ADDRESS", default_value_t = Port::Admin.usual_address())]
    admin: SocketAddr,
    /// Create RSA keys of 4,096 bits instead of ECDSA P-384, which Incus itself uses
    #[arg(long)]
    rsa: bool,
    /// The folder of the local Incus; default: $INCUS_DIR, or /var/lib/incus
    #[arg(long, value_name = "DIR")]
    incus: Option<PathBuf>,
    /// The folder of certbot's certificates
    #[arg(long, value_name = "DIR", default_value = "/etc/letsencrypt/live")]
    letsencrypt: PathBuf,
    /// Do not prompt; accept every default
    #[arg(long)]
    yes: bool,
}

/// The reason why the setup failed or is incomplete.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum InitError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(
        "`{0}` is not a valid administrator name; use 1 to 64 of the characters a-z A-Z 0-9 - _ . @ +, not beginning with a dot, and not `server` or `incus-client`"
    )]
    AdminName(String),
    #[error("a check above failed; fix the problem, then run `incus-gate check --config {}`", .0.display())]
    Check(PathBuf),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("--{}: {source}", option(source))]
    CertifiedKey { source: CertifiedKeyError },
    #[error(transparent)]
    Incus(#[from] LocalError),
    #[error("cannot append the administrator {name} to the file: {source}; add {} to it yourself", certificate.display())]
    NotAdded {
        name: String,
        certificate: PathBuf,
        source: ConfigError,
    },
    #[error(transparent)]
    Pair(#[from] PairError),
    #[error("`{0}` is not a valid server name; specify a DNS name without a wildcard, such as --name lxc.example.org")]
    ServerName(String),
    #[error("cannot write {}: {source}; {}", path.display(), remedy(source))]
    Unwritable { path: PathBuf, source: io::Error },
}

/// Sets the gateway up, and prints what was done.
pub fn init(options: &Options) -> Result<(), InitError> {
    if let Some(wrong) = options.admins.iter().find(|name| !is_admin_name(name)) {
        return Err(InitError::AdminName(wrong.clone()));
    }
    let questions = Prompter::new(options.yes)?;
    let mut done = ProgressLog::default();
    let folder = options.config.parent().unwrap_or_else(|| Path::new("")).join("certs");
    let kind = if options.rsa { Kind::Rsa4096 } else { Kind::EcdsaP384 };

    let was_there = options.config.exists() && !config::is_example(&options.config);
    if was_there {
        add_admins(options, &folder, kind, &mut done)?;
        done.kept(&options.config);
    } else {
        set_up(options, &folder, kind, &questions, &mut done)?;
    }
    let config = Config::load(&options.config)?;
    if was_there {
        drift::report(options, &config, &incus_of(options), &mut done);
    }
    let client = Pair::at(&folder, "incus-client");
    trust(options, &client, &questions, &mut done)?;
    match (done.changed, done.noted) {
        (false, false) => say("\nNothing was changed: everything already existed."),
        (false, true) => say("\nNothing was changed."),
        (true, _) => {}
    }

    say(&format!("\nincus-gate check --config {}", options.config.display()));
    let checked = check::check(&options.config, &config);
    say(&format!("\n{}", next_steps::steps(options, &config, &folder)));
    checked.map_err(|check::Failed| InitError::Check(options.config.clone()))
}

fn set_up(
    options: &Options,
    folder: &Path,
    kind: Kind,
    questions: &Prompter,
    done: &mut ProgressLog,
) -> Result<(), InitError> {
    let site = Site::find(options, folder, questions)?;
    make_folder(folder).map_err(|source| unwritable(folder, source))?;
    let incus = incus_of(options).reached(questions, done)?;
    let client = Pair::at(folder, "incus-client");
    done.pair(&client, client.make("incus-gate", Purpose::Client, kind)?);
    if let Some((pair, name)) = site.to_make() {
        done.pair(pair, pair.make(name, Purpose::Server, kind)?);
    }
    let mut admins = options.admins.clone();
    if admins.is_empty()
        && let Some(name) = questions.text_if_asked(
            "Name of a first administrator, to create a certificate for (empty: none)",
            is_admin_name,
        )?
    {
        admins.push(name);
    }
    for name in &admins {
        admin(name, &Pair::at(folder, name), kind, done)?;
    }
    let text = template::configuration(options, &incus, &site, &admins);
    Config::parse_at(&options.config, text.clone())?;
    config::create(&options.config, &text).map_err(|source| unwritable(&options.config, source))?;
    done.wrote(&options.config);
    Ok(())
}

/// Appends administrators who are not listed yet to the existing configuration file.
fn add_admins(options: &Options, folder: &Path, kind: Kind, done: &mut ProgressLog) -> Result<(), InitError> {
    let config = Config::load(&options.config)?;
    let is_listed = |name: &String| config.admin.clients.iter().any(|client| *client.name == **name);
    for name in options.admins.iter().filter(|name| !is_listed(name)) {
        make_folder(folder).map_err(|source| unwritable(folder, source))?;
        let pair = Pair::at(folder, name);
        admin(name, &pair, kind, done)?;
        let lines = template::admin(name, &pair, &options.config);
        let before = fs::read_to_string(&options.config).map_err(|source| unwritable(&options.config, source))?;
        // A table cannot be appended to every valid file.
        Config::parse_at(&options.config, before + &lines).map_err(|source| InitError::NotAdded {
            name: name.clone(),
            certificate: pair.certificate.clone(),
            source,
        })?;
        let file = OpenOptions::new().append(true).open(&options.config);
        file.and_then(|mut file| file.write_all(lines.as_bytes()))
            .map_err(|source| unwritable(&options.config, source))?;
        done.step(
            "added",
            &format!("the administrator {name} to {}", options.config.display()),
        );
    }
    Ok(())
}

/// Creates an administrator's key pair, unless only the certificate is there: then the administrator has the key.
fn admin(name: &str, pair: &Pair, kind: Kind, done: &mut ProgressLog) -> Result<(), InitError> {
    if pair.certificate.exists() && !pair.key.exists() {
        let certificate = pair.certificate.display();
        done.step_kept(&format!("{certificate}, whose key is not on this machine"));
        return Ok(());
    }
    done.pair(pair, pair.make(name, Purpose::Client, kind)?);
    Ok(())
}

/// Adds the gateway's certificate to Incus's trust store, after confirmation: its key grants root access through Incus.
fn trust(options: &Options, client: &Pair, questions: &Prompter, done: &mut ProgressLog) -> Result<(), InitError> {
    let Ok(certificate) = client.read() else {
        // An existing configuration may use a client certificate of its own.
        return Ok(());
    };
    let incus = incus_of(options);
    let by_hand = format!(
        "incus config trust add-certificate {} --name incus-gate",
        client.certificate.display()
    );
    match incus.trusts(&certificate) {
        Ok(true) => done.step_kept(&format!("{} in Incus's trust store", client.certificate.display())),
        Ok(false)
            if questions.yes_or_no(
                "Add the gateway's certificate to Incus's trust store? Its key then grants root access",
            )? =>
        {
            incus.trust(&certificate)?;
            done.step(
                "added",
                &format!("{} to Incus's trust store", client.certificate.display()),
            );
        }
        Ok(false) => done.left(&by_hand),
        Err(error) => {
            done.note(&error);
            done.left(&by_hand);
        }
    }
    Ok(())
}

fn incus_of(options: &Options) -> Incus {
    let named = options
        .incus
        .clone()
        .or_else(|| std::env::var_os("INCUS_DIR").map(PathBuf::from));
    Incus::at(named.unwrap_or_else(|| PathBuf::from("/var/lib/incus")))
}

fn is_admin_name(name: &str) -> bool {
    config::is_admin_name(name) && !name.starts_with('.') && !matches!(name, "server" | "incus-client")
}

/// Creates a folder and its missing parents with mode 755, whatever the umask: the gateway's user reads there.
fn make_folder(folder: &Path) -> io::Result<()> {
    let missing: Vec<_> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    missing
        .into_iter()
        .rev()
        .filter(|folder| !folder.as_os_str().is_empty())
        .try_for_each(|folder| {
            fs::create_dir(folder)?;
            fs::set_permissions(folder, Permissions::from_mode(0o755))
        })
}

fn unwritable(path: &Path, source: io::Error) -> InitError {
    InitError::Unwritable {
        path: path.to_owned(),
        source,
    }
}

fn option(error: &CertifiedKeyError) -> &'static str {
    match error {
        CertifiedKeyError::Certificate(_) => "certificate",
        CertifiedKeyError::PrivateKey(_) => "private-key",
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run this as root, or choose another path with --config",
        io::ErrorKind::AlreadyExists => {
            "it was created in the meantime, and init never overwrites a file; run init again"
        }
        _ => "choose another path with --config",
    }
}

/// Prints what was done, one line per step, and records whether anything was changed or noted.
#[derive(Debug, Default)]
struct ProgressLog {
    changed: bool,
    noted: bool,
}

impl ProgressLog {
    fn step(&mut self, what: &str, which: &str) {
        self.changed = true;
        line(what, which);
    }

    fn step_kept(&self, which: &str) {
        line("kept", which);
    }

    fn note(&mut self, what: impl fmt::Display) {
        self.noted = true;
        line("note", what);
    }

    fn kept(&self, path: &Path) {
        self.step_kept(&path.display().to_string());
    }

    fn wrote(&mut self, path: &Path) {
        self.step("wrote", &path.display().to_string());
    }

    fn pair(&mut self, pair: &Pair, made: keypair::Made) {
        let files = format!("{} and its key", pair.certificate.display());
        match made {
            keypair::Made::Now => self.step("created", &files),
            keypair::Made::Before => self.step_kept(&files),
        }
    }

    fn left(&self, command: &str) {
        line("to do", format!("run: {command}"));
    }
}

fn line(what: &str, which: impl fmt::Display) {
    say(&format!("  {what:<7} {which}"));
}

/// Prints a line. If stdout is closed, the steps still run.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}
