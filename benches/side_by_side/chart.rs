//! The results as a picture: a bar for each comparison with tuned Nginx, and the curves.

use std::fmt::Write;
use std::fs;

use crate::Result;
use crate::comparison::{Comparison, Target};
use crate::contenders::Kind;
use crate::curves::Curve;
use crate::report::Results;
use crate::statistics::Spread;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.svg");

const WIDTH: f64 = 900.0;
const MARGIN: f64 = 20.0;
/// Where bars begin, and how far it is to as much as Nginx.
const BARS: f64 = 430.0;
const SCALE: f64 = 340.0;
/// A bar that is longer is broken off.
const LONGEST: f64 = 1.15;
const LINE: f64 = 20.0;
const TOP: f64 = 70.0;
const CURVE_HEIGHT: f64 = 190.0;

const STYLE: &str = "text{font:13px sans-serif;fill:#1f2937}.title{font-size:17px;font-weight:bold}.section{font-weight:bold}\
.small{font-size:11px;fill:#6b7280}.value{font-size:12px}.bar{fill:#c2410c}.worse{fill:#7f1d1d}.spread{stroke:#1f2937;stroke-width:1.5}\
.target{stroke:#15803d;stroke-width:2.5}.nginx{stroke:#475569;stroke-width:1.5;stroke-dasharray:4 3}.axis{stroke:#9ca3af}\
.gateway-line{fill:none;stroke:#c2410c;stroke-width:2.5}.nginx-line{fill:none;stroke:#475569;stroke-width:2.5}";

/// Draws it.
pub(crate) fn write(results: &Results, setting: &str) -> Result<()> {
    let Some(gateway) = results.gateway() else {
        return Ok(());
    };
    let mut body = String::new();
    let mut y = TOP;
    for section in &results.sections {
        let bars: Vec<_> = section
            .comparisons
            .iter()
            .filter_map(|comparison| bar(comparison, gateway))
            .collect();
        if bars.is_empty() {
            continue;
        }
        y += LINE * 0.6;
        body += &text(MARGIN, y + 14.0, "section", section.title);
        y += LINE * 1.2;
        for bar in bars {
            body += &bar.draw(y);
            y += LINE;
        }
    }
    let nginx = BARS + SCALE;
    write!(
        body,
        "<line class=\"nginx\" x1=\"{nginx}\" x2=\"{nginx}\" y1=\"{}\" y2=\"{y}\"/>{}",
        TOP - 8.0,
        text(nginx - 38.0, TOP - 14.0, "small", "tuned Nginx = 1")
    )?;
    y += LINE;
    let width = (WIDTH - MARGIN * 2.0) / results.curves.len().max(1) as f64;
    for (number, curve) in results.curves.iter().enumerate() {
        body += &draw_curve(curve, MARGIN + width * number as f64, y, width - MARGIN);
    }
    if !results.curves.is_empty() {
        y += CURVE_HEIGHT + LINE * 3.0;
    }
    body += &text(MARGIN, y + 8.0, "small", &format!("Made by `make bench`. {setting}"));
    let height = y + LINE * 1.5;
    let key = "Bars: median of the ratios round by round; thin lines: quartiles; green: what was to be reached. Shorter is better.";
    let picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\"><title>incus-gate beside \
Nginx</title><style>{STYLE}</style><rect width=\"{WIDTH}\" height=\"{height}\" rx=\"8\" fill=\"#fff\"/>{}{}{body}</svg>\n",
        text(
            MARGIN,
            28.0,
            "title",
            "What the gateway takes, as a part of what tuned Nginx takes"
        ),
        text(MARGIN, 46.0, "small", key),
    );
    Ok(fs::write(FILE, picture)?)
}

struct Bar<'a> {
    title: &'a str,
    ratio: Spread,
    target: Option<f64>,
}

/// `None` where there is nothing to compare with.
fn bar<'a>(comparison: &'a Comparison, gateway: &Kind) -> Option<Bar<'a>> {
    let nginx = comparison.of(&Kind::NginxTuned)?.median;
    Some(Bar {
        title: &comparison.title,
        ratio: comparison.ratio(gateway, &Kind::NginxTuned)?,
        target: comparison.target.map(|target| match target {
            Target::AtMost(most) => most / nginx,
            Target::PartOfNginx(most) => most,
        }),
    })
}

impl Bar<'_> {
    fn draw(&self, y: f64) -> String {
        let x = |ratio: f64| BARS + SCALE * ratio.min(LONGEST);
        let Spread { low, median, high } = self.ratio;
        let class = if median > 1.0 { "worse" } else { "bar" };
        let middle = y + 7.0;
        let mut drawn = text(MARGIN, y + 11.0, "", self.title);
        drawn += &format!(
            "<rect class=\"{class}\" x=\"{BARS}\" y=\"{y}\" width=\"{:.1}\" height=\"14\"/>\
<line class=\"spread\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>",
            x(median) - BARS,
            x(low),
            x(high),
        );
        if let Some(target) = self.target.filter(|target| *target < LONGEST) {
            let x = x(target);
            drawn += &format!(
                "<line class=\"target\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{}\"/>",
                y - 2.0,
                y + 16.0
            );
        }
        drawn
            + &text(
                BARS + SCALE * LONGEST + 12.0,
                y + 11.0,
                "value",
                &format!("{median:.2}"),
            )
    }
}

/// Over a logarithmic axis, from zero up.
fn draw_curve(curve: &Curve, left: f64, top: f64, width: f64) -> String {
    let (x0, x1) = (left + 60.0, left + width - 20.0);
    let (y0, y1) = (top + CURVE_HEIGHT, top + 30.0);
    let most = curve
        .lines
        .iter()
        .flat_map(|(_, line)| line)
        .fold(f64::MIN_POSITIVE, |most, &number| most.max(number));
    let last = curve.points.last().map_or(1.0, |&point| (point as f64).ln());
    let x = |point: usize| x0 + (x1 - x0) * (point as f64).ln() / last;
    let y = |number: f64| y0 - (y0 - y1) * number / most;
    let mut drawn = text(left, top + 12.0, "section", curve.title);
    drawn += &format!("<path class=\"axis\" fill=\"none\" d=\"M{x0:.1} {y1:.1}V{y0:.1}H{x1:.1}\"/>");
    drawn += &text(left, y1 + 4.0, "small", &curve.unit.show(most));
    drawn += &text(left + 44.0, y0 + 4.0, "small", "0");
    for &point in &curve.points {
        drawn += &text(x(point) - 4.0, y0 + 16.0, "small", &point.to_string());
    }
    drawn += &text(x0, y0 + 34.0, "small", curve.over);
    for (kind, line) in &curve.lines {
        let points: Vec<_> = curve
            .points
            .iter()
            .zip(line)
            .map(|(&point, &number)| format!("{:.1},{:.1}", x(point), y(number)))
            .collect();
        let class = if matches!(kind, Kind::Gateway(_)) {
            "gateway-line"
        } else {
            "nginx-line"
        };
        drawn += &format!("<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "));
        if let Some(&end) = line.last() {
            drawn += &text(x1 - 90.0, y(end) - 6.0, "small", &kind.to_string());
        }
    }
    drawn
}

fn text(x: f64, y: f64, class: &str, content: &str) -> String {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{content}</text>")
}
