//! What a chapter has for a machine to try, in its order.

use regex::Regex;

/// A fenced block.
pub(crate) struct Block<'a> {
    /// Nearest above it.
    pub(crate) heading: &'a str,
    /// What its fence says: `bash`, `toml`, …
    pub(crate) language: &'a str,
    /// Without the indentation that a list gives it.
    pub(crate) text: String,
}

/// Every fenced block of a page.
pub(crate) fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut heading = "";
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(fence) = line.trim_start().strip_prefix("```") {
            let indent = line.len() - line.trim_start().len();
            let inside = lines.by_ref().take_while(|line| !line.trim_start().starts_with("```"));
            let text = inside.map(|line| line.get(indent..).unwrap_or("").to_owned() + "\n");
            blocks.push(Block {
                heading,
                language: fence,
                text: text.collect(),
            });
        } else if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim();
        }
    }
    blocks
}

/// The commands of a block of `bash`: a line each, or several where the first of them ends with a backslash.
pub(crate) fn commands(text: &str) -> Vec<String> {
    let text = text.replace("\\\n", "\\\u{0}");
    let lines = text.lines().map(|line| line.replace('\u{0}', "\n"));
    lines.filter(|line| !line.trim().is_empty()).collect()
}

/// The shell's lines in a pipeline's YAML: GitLab's lists under `script:` and its kin, GitHub's `run: |`.
pub(crate) fn pipeline(yaml: &str) -> Vec<String> {
    let key = Regex::new(r"^( *(?:- )?)(before_script|after_script|script|run):(?: \|)?(.*)$").expect("a pattern");
    let mut found = Vec::new();
    let mut inside = None;
    for line in yaml.lines() {
        let indent = line.len() - line.trim_start().len();
        if let Some(key) = key.captures(line) {
            inside = Some(key[1].len());
            found.extend(Some(key[3].trim().to_owned()).filter(|command| !command.is_empty()));
        } else if inside.is_some_and(|above| indent > above) {
            let command = line.trim_start();
            found.push(command.strip_prefix("- ").unwrap_or(command).to_owned());
        } else {
            inside = None;
        }
    }
    found
}
