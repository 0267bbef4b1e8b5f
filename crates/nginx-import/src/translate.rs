//! Translation of Nginx's files into the text of `proxy.toml` and the report.

use std::path::Path;

use crate::certificate_conditions::ClientVariables;
use crate::classify::{Servers, classify};
use crate::directive::Directive;
use crate::draft::Draft;
use crate::error::ImportError;
use crate::locations::Http;
use crate::options::Options;
use crate::target::{is_computed, target};
use crate::{admins, coverage, improvements, limits, parser, ports, steps, upstream};

/// The result of translating an Nginx configuration.
#[derive(Debug)]
pub struct Translation {
    /// The text of `proxy.toml`.
    pub config: String,
    /// The report for the administrator.
    pub report: String,
    /// Whether the configuration is complete.
    pub outcome: Outcome,
}

/// How far the configuration can be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The configuration is ready for `check`.
    Complete,
    /// The configuration lacks values that only the administrator knows.
    Incomplete,
    /// There is no configuration: nothing in the files leads to Incus.
    Nothing,
}

/// Translates the file and all files that it includes. The settings of the `nginx.conf` above it apply too.
///
/// # Errors
/// Fails if a file cannot be read, or is not valid Nginx configuration.
pub fn translate(file: &Path, options: Options<'_>) -> Result<Translation, ImportError> {
    let file = std::path::absolute(file).map_err(|source| ImportError::Unreadable {
        path: file.to_owned(),
        included_at: None,
        source,
    })?;
    let tree = parser::read(&file)?;
    let prefix = parser::prefix(&file);
    let main = prefix.join("nginx.conf");
    let main = match main != file && main.is_file() {
        true => parser::read(&main)?,
        false => Vec::new(),
    };
    Ok(translate_tree(&tree, &main, &file, Draft::new(&file, &prefix, options)))
}

/// Translates the tree. `main` is the tree of the nginx.conf that includes the file, if it is another file.
fn translate_tree(tree: &[Directive], main: &[Directive], file: &Path, mut draft: Draft<'_>) -> Translation {
    let http = Http::of(tree, main);
    let variables = ClientVariables::of(&http);
    let servers = classify(&http, &variables, draft.options.incus_url);
    if servers.incus.is_empty() {
        report_nothing_found(&mut draft, file, &http, &servers);
    }
    upstream::translate(&mut draft, &http, &servers);
    let access_conditions = ports::translate(&mut draft, &http, &servers, &variables);
    admins::translate(&mut draft, &servers, &variables);
    limits::translate(&mut draft, tree, &servers);
    let Draft {
        options,
        config,
        mut report,
        ..
    } = draft;
    coverage::report_all(tree, &http, &servers, &access_conditions, &mut report);
    if !http.has_http_block && main.is_empty() && !servers.incus.is_empty() {
        report.unsupported(format!(
            "{} is part of a configuration: the surrounding directives of nginx.conf, access rules included, were not read. Pass nginx.conf to include them",
            file.display()
        ));
    }
    improvements::report_all(&http, &servers, &variables, &config, &mut report);
    steps::report_all(&servers, &config, &options, &mut report);
    let outcome = match report.is_complete() {
        _ if servers.incus.is_empty() => Outcome::Nothing,
        true => Outcome::Complete,
        false => Outcome::Incomplete,
    };
    Translation {
        config: config.to_string(),
        report: report.to_string(),
        outcome,
    }
}

/// Reports that nothing appears to lead to Incus.
fn report_nothing_found(draft: &mut Draft<'_>, file: &Path, http: &Http<'_>, servers: &Servers<'_>) {
    draft.report.missing(format!(
        "{}: no server was recognised as leading to Incus: none requests client certificates, presents a certificate to its upstream, or has a location for `/1.0`{}",
        file.display(),
        if http.has_http_block { "" } else { ". If it is part of a larger configuration, pass its nginx.conf" }
    ));
    for route in servers.others.iter().flat_map(|server| &server.routes) {
        if let Ok(target) = target(route, http) {
            let text = format!(
                "leads to {url}. If that is Incus, run this again with `--incus {url}`",
                url = target.url
            );
            draft.report.missing_for(route.pass, &text);
        } else if is_computed(route) {
            let text = "leads to a target that depends on variables. If that is Incus, run this again with `--incus https://HOST:PORT`";
            draft.report.missing_for(route.pass, text);
        }
    }
}
