//! The subcommands: `run`, `check`, `status`, `images`, `init`, `import-nginx`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use clap::{CommandFactory, Parser, Subcommand};
use edge::telemetry::log::Log;

use crate::check;
use crate::config::{Config, ConfigError};
use crate::import_nginx::{self, ImportError, Outcome};
use crate::init::{self, InitError};
use crate::lifecycle::{self, RunError};
use crate::status::{self, StatusError};

/// A TLS gateway in front of an Incus server: public images for anyone, the full Incus API for administrators.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load the configuration, bind both ports, and serve until SIGTERM
    Run(ConfigArgument),
    /// Load everything that `run` loads, then test the ports and the connection to Incus
    Check(ConfigArgument),
    /// Convert the configuration of an Nginx in front of Incus to a proxy.toml, and report the differences
    ImportNginx(ImportArguments),
    /// Show the state of the running gateway: ports, certificates, administrators, Incus, metrics. Exit code 1 unless it is ready
    Status(StatusArguments),
    /// List the images that are currently public
    Images(StatusArguments),
    /// Create certificates and a configuration for the local Incus; existing files are kept
    Init(Box<init::Options>),
}

#[derive(Debug, clap::Args)]
struct ConfigArgument {
    /// The configuration file; default: ./proxy.toml, then /etc/incus-gate/proxy.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct StatusArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ImportArguments {
    /// Nginx's nginx.conf, or the one included file that configures the proxy for Incus
    file: PathBuf,
    /// Where to write the proxy.toml; must not exist yet; default: stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The URL of Incus, if the report says that it was not detected
    #[arg(long, value_name = "URL", value_parser = import_nginx::parse_incus_url)]
    incus: Option<String>,
}

/// The exit codes, as in sysexits.h.
#[derive(Clone, Copy, Debug)]
enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 64,
    DataError = 65,
    NoInput = 66,
    CannotCreate = 73,
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Returns the definition of all commands and options, from which the manual pages and completions are generated.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Parses the arguments, runs the command, and returns its exit code.
pub fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => arguments.command.execute().into(),
        Err(error) => {
            // `--help` and `--version` also end here. If stderr is closed, the message cannot be delivered.
            let _ = error.print();
            if error.use_stderr() {
                Exit::Usage.into()
            } else {
                Exit::Done.into()
            }
        }
    }
}

impl Command {
    fn execute(self) -> Exit {
        match self {
            Self::Check(argument) => match argument.load() {
                Ok((path, config)) => match check::check(&path, &config) {
                    Ok(()) => Exit::Done,
                    Err(check::Failed) => Exit::Failed,
                },
                Err(exit) => exit,
            },
            Self::ImportNginx(arguments) => arguments.import(),
            Self::Init(options) => match init::init(&options) {
                Ok(()) => Exit::Done,
                Err(error) => {
                    complain(&error);
                    match error {
                        InitError::AdminName(_) | InitError::Ask(_) | InitError::ServerName(_) => Exit::Usage,
                        InitError::Config(_) => Exit::Config,
                        _ => Exit::Failed,
                    }
                }
            },
            Self::Images(arguments) => arguments.ask(status::images),
            Self::Status(arguments) => arguments.ask(status::status),
            Self::Run(argument) => match argument.load() {
                Ok((path, config)) => {
                    // Kept until the error below is logged: dropping the log flushes it.
                    let log = Rc::new(Log::start(&config.log));
                    match lifecycle::run(path, config, Rc::clone(&log)) {
                        Ok(()) => Exit::Done,
                        Err(error) => {
                            tracing::error!("{error}");
                            match error {
                                RunError::Audit(_) | RunError::Inherit(_) => Exit::Config,
                                _ => Exit::Failed,
                            }
                        }
                    }
                }
                Err(exit) => exit,
            },
        }
    }
}

impl ImportArguments {
    fn import(self) -> Exit {
        match import_nginx::import(&self.file, self.output.as_deref(), self.incus.as_deref()) {
            Ok(Outcome::Complete) => Exit::Done,
            Ok(Outcome::Incomplete | Outcome::Nothing) => Exit::Failed,
            Err(error) => {
                // If stderr is closed, there is no way to report it.
                let _ = writeln!(std::io::stderr(), "incus-gate: {error}");
                match error {
                    ImportError::Input(nginx_import::ImportError::Malformed { .. }) => Exit::DataError,
                    ImportError::Input(nginx_import::ImportError::Unreadable { .. }) => Exit::NoInput,
                    ImportError::Unwritable { .. } => Exit::CannotCreate,
                }
            }
        }
    }
}

impl StatusArguments {
    fn ask(self, ask: impl FnOnce(&Path, bool) -> Result<(), StatusError>) -> Exit {
        let socket = Config::find(self.config.config).and_then(|path| Ok((Config::status_socket(&path)?, path)));
        let result = match socket {
            Ok((Some(socket), _)) => ask(&socket, self.json),
            Ok((None, path)) => Err(StatusError::Off(path)),
            Err(error) => {
                complain(&error);
                return Exit::Config;
            }
        };
        match result {
            Ok(()) => Exit::Done,
            Err(error) => {
                complain(&error);
                Exit::Failed
            }
        }
    }
}

impl ConfigArgument {
    fn load(self) -> Result<(PathBuf, Config), Exit> {
        let load = || -> Result<_, ConfigError> {
            let path = Config::find(self.config)?;
            let config = Config::load(&path)?;
            Ok((path, config))
        };
        load().map_err(|error| {
            complain(&error);
            Exit::Config
        })
    }
}

/// Prints the error to stderr. If stderr is closed, the message cannot be delivered.
fn complain(error: &dyn std::error::Error) {
    let _ = writeln!(std::io::stderr(), "incus-gate: {error}");
}
