//! Shared drawing code for the charts of both benchmarks: page, fonts, colours, lines.

use std::path::Path;
use std::{fs, io};

/// The width of a picture.
pub const WIDTH: f64 = 960.0;
/// The left margin of all text.
pub const MARGIN: f64 = 28.0;

/// The style sheet. An embedded picture does not know the page's colours, but it does know the reader's preferred scheme.
const STYLE: &str = "
text{font:12.5px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#1f2933}
.paper{fill:#ffffff;stroke:#d9dfe5}.title{font-size:21px;font-weight:700}.section{font-weight:700;font-size:13px}
.faint{fill:#66727f;font-size:11.5px}.end{text-anchor:end}.middle{text-anchor:middle}.strong{font-weight:700}
.grid{stroke:#e6eaee}.line{fill:none;stroke-linejoin:round}
@media(prefers-color-scheme:dark){text{fill:#e4e9ee}.paper{fill:#12171d;stroke:#2b343d}.faint{fill:#93a0ad}.grid{stroke:#232b33}}
";

/// The texts around a picture.
#[derive(Debug)]
pub struct Words<'a> {
    /// The title.
    pub title: &'a str,
    /// The smaller text below the title.
    pub subtitle: &'a str,
    /// The origin of the data.
    pub origin: &'a str,
    /// The accessible name, for screen readers.
    pub name: &'a str,
}

/// The shapes drawn so far, and the current height.
#[derive(Debug)]
pub struct Picture {
    /// The shapes, in SVG.
    pub body: String,
    /// The y coordinate of the next shape.
    pub y: f64,
}

impl Picture {
    /// Creates a picture whose shapes start at `y`, below the title.
    pub fn below(y: f64) -> Self {
        Self { body: String::new(), y }
    }

    /// Draws a line of text at the current height.
    pub fn text(&mut self, x: f64, class: &str, content: &str) {
        self.body += &text(x, self.y, class, content);
    }

    /// Writes the picture to a file; `style` is the style sheet of its own shapes.
    pub fn write(&self, file: impl AsRef<Path>, words: &Words<'_>, style: &str) -> io::Result<()> {
        let height = self.y + 20.0;
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\">\
<title>{}</title><style>{STYLE}{style}</style>\
<rect class=\"paper\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{:.0}\" rx=\"10\"/>\n{}{}{}{}</svg>\n",
            words.name,
            WIDTH - 1.0,
            height - 1.0,
            text(MARGIN, 42.0, "title", words.title),
            text(MARGIN, 64.0, "faint", words.subtitle),
            self.body,
            text(MARGIN, self.y, "faint", words.origin),
        );
        fs::write(file, svg)
    }
}

/// Returns a line of text.
pub fn text(x: f64, y: f64, class: &str, content: &str) -> String {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{content}</text>\n")
}

/// Returns a line between two points.
pub fn line(class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) -> String {
    format!("<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>")
}

/// Returns a polyline through all points.
pub fn curve(class: &str, points: &[(f64, f64)]) -> String {
    let points: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    format!("<polyline class=\"line {class}\" points=\"{}\"/>\n", points.join(" "))
}

/// Returns the values of the grid lines: round numbers from zero up, the last one at or above the highest point.
pub fn grid(highest: f64) -> Vec<f64> {
    let step = round_step(highest);
    let count = (highest / step).ceil() as u32;
    (0..=count).map(|number| f64::from(number) * step).collect()
}

/// Returns a round step such that two to five of them cover the whole height.
pub fn round_step(highest: f64) -> f64 {
    let power = 10_f64.powf(highest.log10().floor());
    let steps = [0.2, 0.25, 0.5, 1.0, 2.0].map(|step| step * power);
    steps.into_iter().find(|step| highest / step <= 5.0).unwrap_or(power)
}
