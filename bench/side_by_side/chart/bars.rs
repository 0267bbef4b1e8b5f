//! A bar for each comparison: the gateway's value as a fraction of Nginx's.

use super::dot;
use crate::comparison::{Comparison, Target, show_ratio};
use crate::contenders::Kind;
use crate::report::Results;
use crate::statistics::Spread;
use picture::{MARGIN, Picture, WIDTH, line, text};

/// The left end of the bars, and the length of a bar for a value equal to Nginx's.
const LEFT: f64 = 388.0;
const SCALE: f64 = 310.0;
/// The maximum length. A longer bar is truncated.
const LONGEST: f64 = 1.12;
const ROW: f64 = 19.0;
const THICKNESS: f64 = 11.0;
/// The right end of the numbers.
const RATIO: f64 = LEFT + SCALE * LONGEST + 46.0;
const RIGHT: f64 = WIDTH - MARGIN;

pub(super) fn draw(picture: &mut Picture, results: &Results, gateway: &Kind) {
    for section in &results.sections {
        let rows: Vec<_> = section
            .comparisons
            .iter()
            .filter_map(|comparison| row(comparison, gateway))
            .collect();
        if rows.is_empty() {
            continue;
        }
        picture.y += ROW * 0.9;
        picture.text(MARGIN, "section", section.title);
        picture.y += 9.0;
        let bottom = picture.y + ROW * rows.len() as f64;
        for part in [0.0, 0.25, 0.5, 0.75] {
            picture.body += &line("grid", (x(part), picture.y), (x(part), bottom));
        }
        for row in &rows {
            picture.body += &row.draw(picture.y + ROW / 2.0);
            picture.y += ROW;
        }
        picture.body += &line("nginx", (x(1.0), bottom - ROW * rows.len() as f64), (x(1.0), bottom));
        picture.y += 12.0;
    }
}

/// Draws the legend.
pub(super) fn key(results: &Results, y: f64) -> String {
    let middle = y - 4.0;
    let mut drawn = String::new();
    let mut at = MARGIN;
    let mut entry = |sign: &dyn Fn(f64) -> String, words: &str| {
        drawn += &sign(at);
        drawn += &text(at + 32.0, y, "faint", words);
        at += 32.0 + words.len() as f64 * 6.0 + 22.0;
    };
    entry(
        &|x| bar("better", x, middle, 24.0) + &line("spread", (x + 18.0, middle), (x + 29.0, middle)),
        "median, and its quartiles",
    );
    entry(&|x| bar("worse", x, middle, 24.0), "more than Nginx");
    entry(&|x| target(x + 12.0, middle), "what it should reach");
    if results.kinds.contains(&Kind::Haproxy) {
        entry(&|x| dot("haproxy", x + 14.0, middle), "HAProxy");
    }
    if results.kinds.contains(&Kind::Caddy) {
        entry(&|x| dot("caddy", x + 14.0, middle), "Caddy");
    }
    let ticks = [(0.0, "0"), (0.25, "¼"), (0.5, "½"), (0.75, "¾"), (1.0, "Nginx = 1")];
    let ticks = ticks.map(|(part, words)| text(x(part), y + 28.0, "faint middle", words));
    drawn + &ticks.concat()
}

struct Row<'a> {
    title: &'a str,
    ratio: Spread,
    target: Option<f64>,
    rivals: Vec<(&'static str, f64)>,
    /// The gateway's own number, and Nginx's.
    numbers: String,
}

/// Returns a row; `None` if there is nothing to compare with.
fn row<'a>(comparison: &'a Comparison, gateway: &Kind) -> Option<Row<'a>> {
    let nginx = comparison.of(&Kind::NginxTuned)?.median;
    let own = comparison.of(gateway)?.median;
    let rival = |(kind, class)| Some((class, comparison.ratio(&kind, &Kind::NginxTuned)?.median));
    Some(Row {
        title: &comparison.title,
        ratio: comparison.ratio(gateway, &Kind::NginxTuned)?,
        target: comparison.target.map(|target| match target {
            Target::AtMost(most) => most / nginx,
            Target::PartOfNginx(most) => most,
        }),
        rivals: [(Kind::Haproxy, "haproxy"), (Kind::Caddy, "caddy")]
            .into_iter()
            .filter_map(rival)
            .collect(),
        numbers: format!("{} · {}", comparison.unit.show(own), comparison.unit.show(nginx)),
    })
}

impl Row<'_> {
    fn draw(&self, middle: f64) -> String {
        let Spread { low, median, high } = self.ratio;
        let is_worse = median > 1.0;
        let class = if is_worse { "worse" } else { "better" };
        let baseline = middle + 4.0;
        let mut drawn = text(LEFT - 12.0, baseline, "end", self.title);
        drawn += &bar(class, LEFT, middle, x(median) - LEFT);
        drawn += &line("spread", (x(low), middle), (x(high), middle));
        if median > LONGEST {
            drawn += &text(x(LONGEST) + 3.0, baseline, "faint", "…");
        }
        if let Some(most) = self.target.filter(|most| *most <= LONGEST) {
            drawn += &target(x(most), middle);
        }
        for (class, ratio) in &self.rivals {
            drawn += &dot(class, x(*ratio), middle);
        }
        drawn += &text(RATIO, baseline, "strong end", &show_ratio(median));
        drawn + &text(RIGHT, baseline, "faint end", &self.numbers)
    }
}

fn x(ratio: f64) -> f64 {
    LEFT + SCALE * ratio.min(LONGEST)
}

fn bar(class: &str, x: f64, middle: f64, width: f64) -> String {
    let y = middle - THICKNESS / 2.0;
    format!("<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{THICKNESS}\" rx=\"2\"/>")
}

fn target(x: f64, middle: f64) -> String {
    line("target", (x, middle - 8.0), (x, middle + 8.0))
}
