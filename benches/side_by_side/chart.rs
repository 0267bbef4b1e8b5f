//! The results as a picture: a bar for each comparison with tuned Nginx, and the curves.

mod bars;
mod panels;

use std::fs;

use crate::Result;
use crate::report::Results;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.svg");

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 28.0;
/// Room for the title and the key.
const HEAD: f64 = 118.0;

/// A picture in a page cannot know the page's colours, but it knows whether its reader likes it dark.
const STYLE: &str = "
text{font:12.5px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#1f2933}
.paper{fill:#ffffff;stroke:#d9dfe5}.title{font-size:21px;font-weight:700}.section{font-weight:700;font-size:13px}
.faint{fill:#66727f;font-size:11.5px}.end{text-anchor:end}.middle{text-anchor:middle}.strong{font-weight:700}
.grid{stroke:#e6eaee}.nginx{stroke:#66727f;stroke-width:1.5}.better{fill:#0f8b8d}.worse{fill:#d1495b}
.spread{stroke:#1f2933;stroke-width:1.3}.target{stroke:#e08e0b;stroke-width:3}
.haproxy{fill:#5b4fc7}.caddy{fill:none;stroke:#5b4fc7;stroke-width:1.5}
.line{fill:none;stroke-width:2.5;stroke-linejoin:round}.line.gateway{stroke:#0f8b8d}.line.other{stroke:#8a96a3}
.dot.gateway,.name.gateway{fill:#0f8b8d}.dot.other,.name.other{fill:#8a96a3}.name{font-size:11.5px;font-weight:700}
@media(prefers-color-scheme:dark){text{fill:#e4e9ee}.paper{fill:#12171d;stroke:#2b343d}.faint{fill:#93a0ad}.grid{stroke:#232b33}
.nginx{stroke:#93a0ad}.better{fill:#2fb5b0}.worse{fill:#ef6f80}.spread{stroke:#e4e9ee}.target{stroke:#f2b544}
.haproxy{fill:#a79dff}.caddy{stroke:#a79dff}.line.gateway{stroke:#2fb5b0}.line.other{stroke:#768390}
.dot.gateway,.name.gateway{fill:#2fb5b0}.dot.other,.name.other{fill:#93a0ad}}
";

/// Draws it.
pub(crate) fn write(results: &Results, setting: &str) -> Result<()> {
    let Some(gateway) = results.gateway() else {
        return Ok(());
    };
    let mut picture = Picture {
        body: String::new(),
        y: HEAD,
    };
    bars::draw(&mut picture, results, gateway);
    panels::draw(&mut picture, &results.curves);
    picture.y += 10.0;
    picture.text(MARGIN, "faint", &format!("make bench · {setting}"));
    let height = picture.y + 20.0;
    let head = [
        text(
            MARGIN,
            42.0,
            "title",
            "What incus-gate takes for the work that tuned Nginx does",
        ),
        text(
            MARGIN,
            64.0,
            "faint",
            "As a part of what Nginx takes in the same round: CPU time, latency, memory. Shorter is better. On the right: the gateway, and Nginx.",
        ),
        bars::key(results, 88.0),
    ]
    .concat();
    let svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\">\
<title>incus-gate beside Nginx</title><style>{STYLE}</style>\
<rect class=\"paper\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{:.0}\" rx=\"10\"/>\n{head}{}</svg>\n",
        WIDTH - 1.0,
        height - 1.0,
        picture.body
    );
    Ok(fs::write(FILE, svg)?)
}

/// What has been drawn, and how far down it goes.
struct Picture {
    body: String,
    y: f64,
}

impl Picture {
    fn text(&mut self, x: f64, class: &str, content: &str) {
        self.body += &text(x, self.y, class, content);
    }
}

fn text(x: f64, y: f64, class: &str, content: &str) -> String {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{content}</text>\n")
}

fn line(class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) -> String {
    format!("<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>")
}

fn dot(class: &str, x: f64, y: f64) -> String {
    format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>")
}
