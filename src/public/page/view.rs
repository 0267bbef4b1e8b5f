//! Rendering of the page. maud escapes every value; `<bdi>` isolates bidirectional text, and control characters are
//! replaced.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::host::Host;
use crate::public::image::Image;

pub(super) const STYLE: &str = include_str!("page.css");
pub(super) const SCRIPT: &str = include_str!("page.js");

/// A box with an arrow pointing out of it.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath fill='%232563eb' d='M2 3h12v10H2z'/%3E%3Cpath fill='none' stroke='%23fff' stroke-width='2' d='M8 5v6M5 8l3 3 3-3'/%3E%3C/svg%3E";

/// The part of the page above the list of images.
pub(super) struct Head<'a> {
    pub(super) host: &'a Host,
    pub(super) title: Option<&'a str>,
    /// Whether there is a simplestreams server.
    pub(super) simplestreams: bool,
    /// Search text as typed.
    pub(super) search: &'a str,
    pub(super) found: usize,
    pub(super) all: usize,
    pub(super) shown: usize,
}

impl Head<'_> {
    pub(super) fn text(&self) -> String {
        let is_whole = self.shown == self.all;
        let (remote, url) = (self.host.remote(), self.host.url());
        let text = html! {
            (begin(self.host, self.title))
            section aria-labelledby="add" {
                h2 id="add" { "Add this server to your Incus client" }
                (command(&format!("incus remote add {remote} {url} --public")))
                @if self.simplestreams {
                    p { "Or as a simplestreams server, also to LXD. Your system must trust the server's certificate." }
                    (command(&format!("incus remote add {remote} {url} --protocol=simplestreams")))
                    (command(&format!("lxc remote add {remote} {url} --protocol=simplestreams")))
                }
            }
            section aria-labelledby="images" {
                h2 id="images" { "Images" }
                form role="search" action="/" {
                    label for="q" { "Search" }
                    input id="q" type="search" name="q" value=(plain(self.search)) autocomplete="off" spellcheck="false"
                        placeholder="name, release, architecture …" data-whole[is_whole];
                    output for="q" { (self.summary()) }
                }
            }
        };
        // The list is streamed in parts, so its tag stays open here.
        text.into_string() + "<ul class=\"images\">"
    }

    fn summary(&self) -> String {
        let images = |count| format!("{count} image{}", if count == 1 { "" } else { "s" });
        match (self.found, self.all) {
            (_, 0) => "No images are published yet.".to_owned(),
            (0, all) => format!("None of {} matches all search terms.", images(all)),
            (found, _) if found > self.shown => {
                format!(
                    "The first {} of {}. Search to find the others.",
                    self.shown,
                    images(found)
                )
            }
            (found, all) if found < all => format!("{found} of {}", images(all)),
            (found, _) => images(found),
        }
    }
}

/// Renders one list item.
pub(super) fn image(image: &Image, remote: &str) -> String {
    let fingerprint = image.fingerprint.get(..12).unwrap_or(&image.fingerprint);
    let description = image.description().filter(|description| *description != image.name());
    let text = html! {
        li id=(image.fingerprint) data-search=(plain(&image.searchable_text())) {
            h3 { bdi { (plain(image.name())) } }
            @if let Some(description) = description {
                p { bdi { (plain(description)) } }
            }
            ul class="facts" {
                li { (image.kind_name()) }
                li { (plain(&image.architecture)) }
                li { (size(image.size)) }
                @if let Some(day) = image.uploaded_on() {
                    li { time datetime=(plain(day)) { (plain(day)) } }
                }
                li { code title=(image.fingerprint) { (fingerprint) } }
            }
            @let others: Vec<_> = image.alias_names().filter(|name| *name != image.name()).collect();
            @if !others.is_empty() {
                ul class="aliases" aria-label="Other names" {
                    @for name in others {
                        li { bdi { (plain(name)) } }
                    }
                }
            }
            (command(&launch(image, fingerprint, remote)))
        }
    };
    text.into_string()
}

pub(super) fn end() -> String {
    let text = html! {
        (PreEscaped("</ul>"))
        footer { p { "Served by incus-gate, which shows only published images." } }
        script { (PreEscaped(SCRIPT)) }
    };
    text.into_string()
}

/// Renders the error page.
pub(super) fn trouble(host: &Host, title: Option<&str>, problem: &str) -> String {
    let text = html! {
        (begin(host, title))
        p class="trouble" role="alert" { "Sorry: " (plain(problem)) "." }
    };
    text.into_string()
}

fn begin(host: &Host, title: Option<&str>) -> Markup {
    let title = title.map_or_else(|| format!("Images of {host}"), plain);
    html! {
        (DOCTYPE)
        html lang="en";
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) }
            link rel="icon" href=(PreEscaped(ICON));
            style { (PreEscaped(STYLE)) }
        }
        header {
            h1 { bdi { (title) } }
            p { "System containers and virtual machines for " a href="https://linuxcontainers.org/incus/" rel="noreferrer" { "Incus" } "." }
        }
    }
}

/// Renders a command with a copy button. The script unhides the button, so browsers without scripts do not show it.
fn command(text: &str) -> Markup {
    html! {
        div class="command" {
            code { (text) }
            button type="button" hidden { "Copy" }
        }
    }
}

/// Returns the launch command, safe to paste into a shell. It prefers an alias, quoted if necessary: instances launched
/// by fingerprint get no image updates.
pub(super) fn launch(image: &Image, fingerprint: &str, remote: &str) -> String {
    let find = |is_good: fn(char) -> bool| {
        let mut names = image.alias_names();
        names.find(|name| !name.is_empty() && name.chars().all(is_good))
    };
    let source = match (find(is_plain_to_shells), find(is_kept_by_quotes)) {
        (Some(name), _) => format!("{remote}:{name}"),
        (None, Some(name)) => format!("'{remote}:{name}'"),
        (None, None) => format!("{remote}:{fingerprint}"),
    };
    let virtual_machine = if image.is_virtual_machine() { " --vm" } else { "" };
    format!("incus launch {source}{virtual_machine}")
}

/// Checks for characters that no shell interprets: the set of Python's `shlex.quote`.
fn is_plain_to_shells(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_./@+:%=,".contains(c)
}

/// Checks for characters that every shell takes literally within single quotes. Fish interprets backslashes there, and
/// PowerShell accepts Unicode quotation marks as quotes.
fn is_kept_by_quotes(c: char) -> bool {
    c.is_alphanumeric() || c == ' ' || (c.is_ascii_graphic() && !matches!(c, '\'' | '\\'))
}

/// Formats a size as Incus's client does.
fn size(bytes: i64) -> String {
    const STEP: f64 = 1024.0;
    let mut size = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if size < STEP {
            break;
        }
        (size, unit) = (size / STEP, larger);
    }
    let decimals = if unit == "B" || size >= 100.0 { 0 } else { 1 };
    format!("{size:.decimals$} {unit}")
}

/// Replaces control characters and Unicode noncharacters, which HTML does not allow.
fn plain(text: &str) -> String {
    let is_one = |c: char| !c.is_control() && !matches!(c, '\u{fdd0}'..='\u{fdef}') && u32::from(c) & 0xfffe != 0xfffe;
    text.chars()
        .map(|c| if is_one(c) { c } else { char::REPLACEMENT_CHARACTER })
        .collect()
}
