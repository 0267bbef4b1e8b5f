//! The results as Markdown tables, for the terminal and for `docs/PERFORMANCE.md`.

use std::fs;

use crate::Result;
use crate::comparison::{Comparison, Target, show_ratio};
use crate::contenders::Kind;
use crate::curves::Curve;
use crate::statistics::Spread;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/PERFORMANCE.md");
/// The text between these lines is generated; the rest is written by hand.
const BEGIN: &str = "<!-- measured: begin -->\n";
const END: &str = "<!-- measured: end -->\n";

/// All results.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) kinds: Vec<Kind>,
    pub(crate) sections: Vec<Section>,
    pub(crate) curves: Vec<Curve>,
}

/// A group of comparisons.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// Distinguishes its comparisons from others with the same title.
    note: &'static str,
    /// Whether it compares stores and caches.
    is_stored: bool,
    pub(crate) comparisons: Vec<Comparison>,
}

impl Section {
    fn noted(&self) -> impl Iterator<Item = (&'static str, &Comparison)> {
        self.comparisons.iter().map(|comparison| (self.note, comparison))
    }
}

impl Results {
    pub(crate) fn new(kinds: Vec<Kind>) -> Self {
        Self {
            kinds,
            sections: Vec::new(),
            curves: Vec::new(),
        }
    }

    /// Starts a section. Results are added as they arrive, so that a later failure does not lose them.
    pub(crate) fn begin(&mut self, title: &'static str, note: &'static str) -> &mut Vec<Comparison> {
        self.push(title, note, false)
    }

    /// Starts a section that compares stores and caches.
    pub(crate) fn begin_stored(&mut self, title: &'static str) -> &mut Vec<Comparison> {
        self.push(title, ", from the store", true)
    }

    fn push(&mut self, title: &'static str, note: &'static str, is_stored: bool) -> &mut Vec<Comparison> {
        self.sections.push(Section {
            title,
            note,
            is_stored,
            comparisons: Vec::new(),
        });
        let last = self.sections.last_mut();
        &mut last.expect("one was just pushed").comparisons
    }

    /// Returns all results as Markdown.
    pub(crate) fn text(&self, setting: &str) -> String {
        let mut text = format!("{setting}\n");
        for section in self.sections.iter().filter(|section| !section.comparisons.is_empty()) {
            let table = match section.is_stored {
                true => stored_table(&section.comparisons),
                false => self.table(&section.comparisons),
            };
            text += &format!("\n### {}\n\n{table}", section.title);
        }
        for curve in &self.curves {
            text += &format!("\n### {}\n\n{}", curve.title, curve_table(curve));
        }
        text + &self.verdict()
    }

    /// Replaces the previous results in the document.
    pub(crate) fn write(&self, setting: &str) -> Result<()> {
        let document = fs::read_to_string(DOCUMENT)?;
        let parts = document
            .split_once(BEGIN)
            .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
        let (before, after) = parts.ok_or_else(|| format!("{DOCUMENT} has no place for results"))?;
        Ok(fs::write(
            DOCUMENT,
            format!("{before}{BEGIN}\n{}\n{END}{after}", self.text(setting)),
        )?)
    }

    /// Returns the gateway that the targets apply to.
    pub(crate) fn gateway(&self) -> Option<&Kind> {
        self.kinds.iter().find(|kind| matches!(kind, Kind::Gateway(_)))
    }

    fn table(&self, comparisons: &[Comparison]) -> String {
        let gateways: Vec<_> = self
            .kinds
            .iter()
            .filter(|kind| matches!(kind, Kind::Gateway(_)))
            .collect();
        let takes_part = |kind: &Kind| {
            comparisons
                .iter()
                .any(|comparison| comparison.contenders.contains(kind))
        };
        let rivals = [Kind::Floor, Kind::Haproxy, Kind::Caddy].into_iter().filter(takes_part);
        let rivals: Vec<_> = rivals.collect();
        let guide = Kind::NginxAsInTheGuide;
        let with_guide = takes_part(&guide);

        let mut head = vec!["".to_owned(), Kind::NginxTuned.to_string()];
        for gateway in &gateways {
            head.extend([gateway.to_string(), "÷ Nginx".to_owned()]);
        }
        head.extend(["to reach".to_owned(), "".to_owned()]);
        if with_guide {
            head.push("÷ Nginx as in the guide".to_owned());
        }
        head.extend(rivals.iter().map(|rival| format!("{rival} ÷ Nginx")));

        let row = |comparison: &Comparison| {
            let own = |kind| comparison.of(kind).map(|spread| comparison.unit.show(spread.median));
            let mut row = vec![title(comparison), own(&Kind::NginxTuned).unwrap_or_default()];
            for gateway in &gateways {
                row.extend([
                    own(gateway).unwrap_or_default(),
                    ratio(comparison.ratio(gateway, &Kind::NginxTuned)),
                ]);
            }
            row.extend(self.reached(comparison));
            if with_guide {
                let ratio = gateways.first().and_then(|gateway| comparison.ratio(gateway, &guide));
                let target = comparison.target_against_guide.zip(ratio);
                let met = target.map(|(most, ratio)| format!(", ≤ {most:.2} {}", met(ratio.median <= most)));
                row.push(
                    ratio.map(|ratio| format!("{:.3}", ratio.median)).unwrap_or_default() + &met.unwrap_or_default(),
                );
            }
            row.extend(
                rivals
                    .iter()
                    .map(|rival| ratio_only(comparison.ratio(rival, &Kind::NginxTuned))),
            );
            row
        };
        markdown(&head, comparisons.iter().map(row).collect())
    }

    fn reached(&self, comparison: &Comparison) -> [String; 2] {
        let target = match comparison.target {
            Some(Target::AtMost(most)) => format!("≤ {}", comparison.unit.show(most)),
            Some(Target::PartOfNginx(most)) => format!("≤ {most:.2}"),
            None => String::new(),
        };
        let is_met = self.gateway().and_then(|gateway| comparison.is_met(gateway));
        [target, is_met.map(met).unwrap_or_default().to_owned()]
    }

    /// Lists results worse than Nginx's, missed targets, and results to be treated with caution.
    fn verdict(&self) -> String {
        let Some(gateway) = self.gateway() else {
            return String::new();
        };
        let all = || self.sections.iter().flat_map(Section::noted);
        let worse = all().filter_map(|(note, comparison)| {
            let ratio = comparison.ratio(gateway, &Kind::NginxTuned)?.median;
            (ratio > 1.0).then(|| format!("{}{note} ({ratio:.2})", comparison.title))
        });
        let is_missed = |comparison: &Comparison| {
            let stored = stored_ratios(comparison).into_iter().flatten();
            comparison.is_met(gateway) == Some(false) || stored.filter_map(|ratio| ratio.is_met()).any(|is_met| !is_met)
        };
        let missed = all().filter(|(_, comparison)| is_missed(comparison));
        let missed = missed.map(|(note, comparison)| format!("{}{note}", comparison.title));
        let disturbed = all().filter(|(_, comparison)| comparison.disturbed > 0);
        let disturbed = disturbed.map(|(note, comparison)| {
            let (disturbed, all) = (comparison.disturbed, comparison.rounds.len());
            format!("{}{note} ({disturbed} of {all})", comparison.title)
        });
        let list = |what: &str, names: Vec<String>| match names.is_empty() {
            true => format!("\n**{what}:** nothing.\n"),
            false => format!("\n**{what}:** {}.\n", names.join("; ")),
        };
        let marked = "Marked with a star, since something else used the machine in some rounds that count all the same";
        [
            list("Worse than tuned Nginx", worse.collect()),
            list("Missed", missed.collect()),
            list(marked, disturbed.collect()),
        ]
        .concat()
    }
}

/// A ratio of the gateway with a store to something else, and its target.
struct StoredRatio {
    ratio: Spread,
    most: Option<f64>,
}

impl StoredRatio {
    fn is_met(&self) -> Option<bool> {
        Some(self.ratio.median <= self.most?)
    }
}

/// Returns the ratios of the gateway with a store to the gateway without one, and to Nginx with a cache. The targets are for
/// downloads over HTTP/1.1, and for the latency beside downloads.
fn stored_ratios(comparison: &Comparison) -> [Option<StoredRatio>; 2] {
    let is_store = |kind: &&Kind| matches!(kind, Kind::GatewayWithStore(_));
    let is_streaming = |kind: &&Kind| matches!(kind, Kind::Gateway(_));
    let store = comparison.contenders.iter().find(is_store);
    let streaming = comparison.contenders.iter().find(is_streaming);
    let is_http1 = comparison.name.starts_with("stored-h1");
    let part_of_nginx = match comparison.target {
        Some(Target::PartOfNginx(most)) => Some(most),
        _ => is_http1.then_some(0.85),
    };
    let ratio = |to: Option<&Kind>, most| {
        let ratio = comparison.ratio(store?, to?)?;
        Some(StoredRatio { ratio, most })
    };
    [
        ratio(streaming, is_http1.then_some(0.65)),
        ratio(Some(&Kind::NginxCaching), part_of_nginx),
    ]
}

fn stored_table(comparisons: &[Comparison]) -> String {
    let kinds = comparisons.first().map(|comparison| comparison.contenders.clone());
    let kinds = kinds.unwrap_or_default();
    let mut head = vec![String::new()];
    head.extend(kinds.iter().map(Kind::to_string));
    head.extend(["store ÷ gateway", "to reach", "store ÷ cache", "to reach"].map(str::to_owned));
    let row = |comparison: &Comparison| {
        let own = |kind| comparison.of(kind).map(|spread| comparison.unit.show(spread.median));
        let mut row = vec![title(comparison)];
        row.extend(kinds.iter().map(|kind| own(kind).unwrap_or_default()));
        for stored in stored_ratios(comparison) {
            let target = stored
                .as_ref()
                .and_then(|stored| Some((stored.most?, stored.is_met()?)));
            let target = target.map(|(most, is_met)| format!("≤ {most:.2} {}", met(is_met)));
            row.extend([ratio(stored.map(|stored| stored.ratio)), target.unwrap_or_default()]);
        }
        row
    };
    let mut text = markdown(&head, comparisons.iter().map(row).collect());
    for comparison in comparisons {
        if let Some(Target::AtMost(most)) = comparison.target {
            text += &format!("\nTo reach: {} ≤ {}.\n", comparison.title, comparison.unit.show(most));
        }
    }
    text
}

fn title(comparison: &Comparison) -> String {
    let star = if comparison.disturbed > 0 { " *" } else { "" };
    format!("{}{star}", comparison.title)
}

fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "**missed**" }
}

fn ratio(spread: Option<Spread>) -> String {
    let text =
        |Spread { low, median, high }| format!("**{}** ({}–{})", show_ratio(median), show_ratio(low), show_ratio(high));
    spread.map(text).unwrap_or_default()
}

fn ratio_only(spread: Option<Spread>) -> String {
    spread.map(|spread| show_ratio(spread.median)).unwrap_or_default()
}

fn curve_table(curve: &Curve) -> String {
    let mut head = vec![curve.over.to_owned()];
    head.extend(curve.lines.iter().map(|(kind, _)| kind.to_string()));
    let row = |(index, point): (usize, &usize)| {
        let mut row = vec![curve.name(*point)];
        row.extend(curve.lines.iter().map(|(_, line)| curve.unit.show(line[index])));
        row
    };
    markdown(&head, curve.points.iter().enumerate().map(row).collect())
}

/// Formats a table with aligned columns, so that the source is readable.
fn markdown(head: &[String], rows: Vec<Vec<String>>) -> String {
    let mut all = vec![head.to_vec()];
    all.extend(rows);
    let width = |column: usize| {
        all.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!(" {cell:<width$} |"));
        format!("|{}\n", cells.collect::<String>())
    };
    let rule: String = widths
        .iter()
        .map(|width| format!("{}|", "-".repeat(width + 2)))
        .collect();
    let mut lines = all.iter().map(line);
    let first = lines.next().unwrap_or_default();
    format!("{first}|{rule}\n{}", lines.collect::<String>())
}
