//! The results as a picture: a bar for each comparison with tuned Nginx, and the curves.

mod bars;
mod panels;

use crate::Result;
use crate::report::Results;
use picture::{Picture, Words};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.svg");

/// The height of the title and the legend.
const HEAD: f64 = 118.0;

const STYLE: &str = "
.nginx{stroke:#66727f;stroke-width:1.5}.better{fill:#0f8b8d}.worse{fill:#d1495b}
.spread{stroke:#1f2933;stroke-width:1.3}.target{stroke:#e08e0b;stroke-width:3}
.haproxy{fill:#5b4fc7}.caddy{fill:none;stroke:#5b4fc7;stroke-width:1.5}
.line{stroke-width:2.5}.line.gateway{stroke:#0f8b8d}.line.other{stroke:#8a96a3}
.dot.gateway,.name.gateway{fill:#0f8b8d}.dot.other,.name.other{fill:#8a96a3}.name{font-size:11.5px;font-weight:700}
@media(prefers-color-scheme:dark){
.nginx{stroke:#93a0ad}.better{fill:#2fb5b0}.worse{fill:#ef6f80}.spread{stroke:#e4e9ee}.target{stroke:#f2b544}
.haproxy{fill:#a79dff}.caddy{stroke:#a79dff}.line.gateway{stroke:#2fb5b0}.line.other{stroke:#768390}
.dot.gateway,.name.gateway{fill:#2fb5b0}.dot.other,.name.other{fill:#93a0ad}}
";

/// Draws the picture and writes it.
pub(crate) fn write(results: &Results, setting: &str) -> Result<()> {
    let Some(gateway) = results.gateway() else {
        return Ok(());
    };
    let mut picture = Picture::below(HEAD);
    picture.body += &bars::key(results, 88.0);
    bars::draw(&mut picture, results, gateway);
    panels::draw(&mut picture, &results.curves);
    picture.y += 10.0;
    let words = Words {
        title: "What incus-gate takes for the work that tuned Nginx does",
        subtitle: "As a part of what Nginx takes in the same round: CPU time, latency, memory. Shorter is better. On the right: the gateway, and Nginx.",
        origin: &format!("make bench · {setting}"),
        name: "incus-gate beside Nginx",
    };
    Ok(picture.write(FILE, &words, STYLE)?)
}

fn dot(class: &str, x: f64, y: f64) -> String {
    format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>")
}
