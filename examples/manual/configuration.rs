//! incus-gate-proxy.toml(5), from the configuration section of the reference: its table, key by key, then its remarks.

use clap_mangen::roff::{Inline, Roff, bold, roman};

const HEADING: &str = "## Configuration\n";
const TABLE: &str = "| key | default | meaning |";
const VERSION: &str = concat!("incus-gate ", env!("CARGO_PKG_VERSION"));

/// Returns the page. Fails if the reference does not have the expected structure.
pub(crate) fn page(reference: &str) -> Result<String, &'static str> {
    let (_, section) = reference
        .split_once(HEADING)
        .ok_or("the reference has no section `Configuration`")?;
    let (section, _) = section.split_once("\n## ").unwrap_or((section, ""));
    let (before, rest) = section.split_once(TABLE).ok_or("the reference has no table of keys")?;
    let rows = rest.lines().skip(2).take_while(|line| line.starts_with('|'));
    let after = rest.lines().skip(2).skip_while(|line| line.starts_with('|'));

    let mut page = Roff::new();
    page.control("TH", ["INCUS-GATE-PROXY.TOML", "5", "", VERSION, "incus-gate"])
        .control("SH", ["NAME"])
        .text([roman("incus-gate-proxy.toml - configuration of incus-gate(1)")])
        .control("SH", ["DESCRIPTION"]);
    paragraphs(&mut page, before.lines());
    page.control("SH", ["KEYS"]);
    for row in rows {
        let [key, default, meaning] = cells(row).ok_or("a row of the reference's table has other than three cells")?;
        page.control("TP", [])
            .text(inline(&format!("{key} (default: {default})")))
            .text(inline(&meaning));
    }
    page.control("SH", ["REMARKS"]);
    paragraphs(&mut page, after);
    page.control("SH", ["FILES"])
        .text(inline(
            "`/etc/incus-gate/proxy.toml`, `/usr/share/doc/incus-gate/proxy.toml.example`",
        ))
        .control("SH", ["SEE ALSO"])
        .text([bold("incus-gate"), roman("(1)")]);
    Ok(page.render())
}

/// Splits a table row at unescaped bars.
fn cells(row: &str) -> Option<[String; 3]> {
    let row = row.replace("\\|", "\0");
    let cells: Vec<_> = row
        .trim_matches('|')
        .split('|')
        .map(|cell| cell.trim().replace('\0', "|"))
        .collect();
    cells.try_into().ok()
}

/// Formats text. An empty line or a list item starts a paragraph.
fn paragraphs<'a>(page: &mut Roff, lines: impl Iterator<Item = &'a str>) {
    for line in lines {
        match line.strip_prefix("- ") {
            Some(item) => page.control("IP", ["\\(bu", "2"]).text(inline(item)),
            None if line.is_empty() => page.control("PP", []),
            None => page.text(inline(line.trim_start())),
        };
    }
}

/// Formats inline markup: code in bold, links as their text.
fn inline(markdown: &str) -> Vec<Inline> {
    let text = without_links(markdown);
    let piece = |(place, piece)| if place % 2 == 0 { roman(piece) } else { bold(piece) };
    text.split('`').enumerate().map(piece).collect()
}

fn without_links(text: &str) -> String {
    let link = || {
        let (before, rest) = text.split_once("](")?;
        let (before, label) = before.rsplit_once('[')?;
        let (_, after) = rest.split_once(')')?;
        Some(format!("{before}{label}{}", without_links(after)))
    };
    link().unwrap_or_else(|| text.to_owned())
}
