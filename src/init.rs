//! `incus-gate init`: sets up a gateway for an existing Incus server in one command.
//!
//! Each step first checks whether it is already done, so a second run changes nothing, and an interrupted run can be resumed.
//! Existing files are never overwritten. [`incus`] talks to the local Incus, [`mod@reach`] chooses the address at which the
//! gateway reaches it, [`keypair`] creates certificates and keys, [`server_cert`] chooses the certificate that clients see,
//! [`template`] writes `proxy.toml`, [`drift`] reports command-line options that an existing configuration does not match, and
//! [`next_steps`] prints the remaining steps. [`prompt`] asks for confirmation before anything but the gateway's own files is
//! changed, and [`progress`] prints what was done.

mod drift;
mod error;
mod incus;
mod keypair;
mod next_steps;
mod options;
mod progress;
mod prompt;
mod reach;
mod server_cert;
mod template;

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub use self::error::InitError;
use self::error::unwritable;
use self::incus::Incus;
pub use self::incus::LocalError;
pub use self::keypair::PairError;
use self::keypair::{Kind, Pair, Purpose};
pub use self::options::Options;
use self::progress::{ProgressLog, say};
pub use self::prompt::AskError;
use self::prompt::Prompter;
use self::reach::reach;
use self::server_cert::Site;
use crate::check;
use crate::config::{self, Config};

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
    let incus = reach(&incus_of(options), questions, done)?;
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
