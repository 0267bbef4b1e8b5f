//! Extracts the code blocks and commands of a chapter, in their order.

use regex::Regex;

/// A fenced block.
pub(crate) struct Block<'a> {
    /// The nearest heading above it.
    pub(crate) heading: &'a str,
    /// The language of its fence: `bash`, `toml`, …
    pub(crate) language: &'a str,
    /// Without the indentation of a list.
    pub(crate) text: String,
}

/// Returns every fenced block of a page.
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

/// Returns the commands of a `bash` block: one per line, or several lines joined by backslashes.
pub(crate) fn commands(text: &str) -> Vec<String> {
    let text = text.replace("\\\n", "\\\u{0}");
    let lines = text.lines().map(|line| line.replace('\u{0}', "\n"));
    lines.filter(|line| !line.trim().is_empty()).collect()
}

/// Returns the shell lines in a pipeline's YAML: GitLab's lists under `script:` and similar keys, GitHub's `run: |`.
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
