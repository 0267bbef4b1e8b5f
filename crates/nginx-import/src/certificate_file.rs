//! Paths of the certificate and key files that directives name.

use std::path::{Path, PathBuf};

use crate::directive::Directive;

/// The maximum size of a file of certificates, in bytes. Thousands of certificates fit.
const MAX_SIZE: u64 = 8 << 20;

/// Returns the path of the certificate or key file that a directive names.
pub(crate) fn resolve(prefix: &Path, directive: &Directive) -> Result<PathBuf, String> {
    let value = directive.value();
    let is_elsewhere = ["data:", "engine:", "store:", "provider:"]
        .iter()
        .any(|scheme| value.starts_with(scheme));
    if is_elsewhere || value.contains('$') || value.is_empty() {
        return Err(format!(
            "{}: `{} {value}` does not name a file",
            directive.position, directive.name
        ));
    }
    let path = prefix.join(value);
    match std::fs::metadata(&path) {
        // A named pipe could block, and a device could be endless.
        Ok(found) if !found.is_file() || found.len() > MAX_SIZE => Err(format!(
            "{}: {} is not a file of certificates",
            directive.position,
            path.display()
        )),
        // A missing file may be created later.
        _ => Ok(path),
    }
}
