//! Translation of the configuration of an Nginx in front of Incus into an equivalent `proxy.toml` of incus-gate.
//!
//! [`translate`] reads the files, and returns the text of the configuration and a report of the differences. It grants no
//! access that Nginx denied, and drops no directive silently. It writes nothing, and reads certificates through the caller's
//! [`CertificateReader`].
//!
//! # Layers
//! No layer depends on one below it in this list, and there are no import circles.
//! 1. **Shared types**: the tree of `directive`s, each with its file and line; `sourced` values, `port`, `options`, `error`.
//! 2. **Parsing**: `lexer` and `parser` turn the files into the tree.
//! 3. **One directive**: `listen` and `units` parse values, `certificate_file` finds files, `scope` inherits directives from
//!    outer blocks. `directive_support` states how each directive is handled, and `condition` what an `if` does to requests.
//! 4. **One server**: `locations` finds the routes of each server, `target` where they lead. `classify` decides which servers
//!    lead to Incus, and for whom. `certificate_conditions`, `access_conditions` and `address_rules` interpret what restricted
//!    access.
//! 5. **Output**: `output` is the `proxy.toml`, `report` the text for the administrator, `draft` both of them under
//!    construction.
//! 6. **Translation**: `upstream`, `ports`, `admins` (with `client_list`) and `limits` each translate their tables. `coverage`,
//!    `improvements` and `steps` complete the report. `translate` runs them all.

mod access_conditions;
mod address_rules;
mod admins;
mod certificate_conditions;
mod certificate_file;
mod classify;
mod client_list;
mod condition;
mod coverage;
mod directive;
mod directive_support;
mod draft;
mod error;
mod escape;
mod improvements;
mod lexer;
mod limits;
mod listen;
mod locations;
mod options;
mod output;
mod parser;
mod port;
mod ports;
mod report;
mod scope;
mod sourced;
mod steps;
mod target;
mod translate;
mod units;
mod upstream;

pub use self::error::ImportError;
pub use self::options::{Certificate, CertificateReader, Fields, Options};
pub use self::target::parse_incus_url;
pub use self::translate::{Outcome, Translation, translate};
