//! The time as a picture: what was held, what was done, and when what went wrong.

use std::fs;
use std::time::Instant;

use crate::Result;
use crate::faults::Fault;
use crate::samples::Sample;
use crate::verdict::Verdict;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/soak.svg");

const WIDTH: f64 = 960.0;
const LEFT: f64 = 268.0;
const RIGHT: f64 = 932.0;
const PANEL: f64 = 96.0;
const ROW: f64 = 17.0;
/// Single samples say little of what was done.
const MINUTE: f64 = 60.0;

/// The colours are those of docs/performance.svg.
const STYLE: &str = "
text{font:12.5px system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;fill:#1f2933}
.paper{fill:#ffffff;stroke:#d9dfe5}.title{font-size:21px;font-weight:700}.section{font-weight:700;font-size:13px}
.faint{fill:#66727f;font-size:11.5px}.end{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:#e6eaee}
.line{fill:none;stroke-width:1.5;stroke-linejoin:round}.one{stroke:#0f8b8d}.two{stroke:#8a96a3}.three{stroke:#d1495b}
.name.one{fill:#0f8b8d;stroke:none}.name.two{fill:#66727f;stroke:none}.name.three{fill:#d1495b;stroke:none}
.fault{fill:#d1495b}.change{fill:#5b4fc7}
@media(prefers-color-scheme:dark){text{fill:#e4e9ee}.paper{fill:#12171d;stroke:#2b343d}.faint{fill:#93a0ad}.grid{stroke:#232b33}
.one{stroke:#2fb5b0}.two{stroke:#768390}.three{stroke:#ef6f80}.name.one{fill:#2fb5b0}.name.two{fill:#93a0ad}.name.three{fill:#ef6f80}
.fault{fill:#ef6f80}.change{fill:#a79dff}}
";

type Line<'a> = (&'a str, &'a str, Vec<(f64, f64)>);

/// Draws it.
pub(crate) fn write(verdict: &Verdict) -> Result<()> {
    let samples = &verdict.samples;
    let last = samples.last().map_or(1.0, |sample| sample.at);
    let mut picture = Picture {
        body: String::new(),
        y: 84.0,
        seconds: last,
    };
    let over_time = |of: fn(&Sample) -> f64| samples.iter().map(|sample| (sample.at, of(sample))).collect::<Vec<_>>();
    picture.panel(
        "Memory, MiB",
        &[(
            "resident",
            "one",
            over_time(|sample| sample.memory as f64 / f64::from(1 << 20)),
        )],
    );
    picture.panel(
        "Open, and connected",
        &[
            (
                "clients' connections",
                "two",
                over_time(|sample| sample.connections as f64),
            ),
            ("open files", "one", over_time(|sample| sample.files as f64)),
        ],
    );
    picture.panel(
        "Done by clients, a minute",
        &[
            ("right", "one", a_minute(samples, |sample| sample.count.right)),
            (
                "told of an error",
                "three",
                a_minute(samples, |sample| sample.count.told),
            ),
        ],
    );
    picture.faults(verdict);
    picture.axis();
    let height = picture.y + 34.0;
    let (count, minutes) = (
        samples.last().map(|sample| sample.count).unwrap_or_default(),
        last / 60.0,
    );
    let wrong = match verdict.is_good() {
        true => "nothing was wrong".to_owned(),
        false => format!("{} things were wrong", verdict.wrongs()),
    };
    let told = format!(
        "{minutes:.0} minutes, {} faults, {} requests: {} things went right, {} clients were told of an error, {wrong}.",
        verdict.faults.len(),
        verdict.after.requests,
        count.right,
        count.told
    );
    let svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\">\
<title>incus-gate while things go wrong</title><style>{STYLE}</style>\
<rect class=\"paper\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{:.0}\" rx=\"10\"/>\n{}{}{}{}</svg>\n",
        WIDTH - 1.0,
        height - 1.0,
        text(28.0, 42.0, "title", "What incus-gate holds while things go wrong"),
        text(28.0, 64.0, "faint", &told),
        picture.body,
        text(
            28.0,
            height - 14.0,
            "faint",
            &format!("make soak · seed {}", verdict.seed)
        ),
    );
    Ok(fs::write(FILE, svg)?)
}

/// What has been drawn, and how far down it goes.
struct Picture {
    body: String,
    y: f64,
    /// From left to right.
    seconds: f64,
}

impl Picture {
    fn x(&self, at: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (at / self.seconds).clamp(0.0, 1.0)
    }

    /// Upwards from zero.
    fn panel(&mut self, title: &str, lines: &[Line<'_>]) {
        let numbers = lines.iter().flat_map(|(_, _, points)| points);
        let highest = numbers.fold(1.0_f64, |most, &(_, number)| most.max(number));
        let step = round_step(highest);
        let most = (highest / step).ceil() * step;
        let (top, foot) = (self.y + 14.0, self.y + 14.0 + PANEL);
        let y = |number: f64| foot - PANEL * number / most;
        self.body += &text(28.0, top + 4.0, "section", title);
        for (number, (name, class, _)) in lines.iter().enumerate() {
            self.body += &text(28.0, top + 24.0 + 17.0 * number as f64, &format!("name {class}"), name);
        }
        let mut height = 0.0;
        while height <= most * 1.001 {
            self.body += &format!(
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{0:.1}\" x2=\"{RIGHT}\" y2=\"{0:.1}\"/>",
                y(height)
            );
            self.body += &text(LEFT - 8.0, y(height) + 4.0, "faint end", &format!("{height:.0}"));
            height += step;
        }
        for (_, class, points) in lines {
            let path: Vec<_> = points
                .iter()
                .map(|&(at, number)| format!("{:.1},{:.1}", self.x(at), y(number)))
                .collect();
            self.body += &format!("<polyline class=\"line {class}\" points=\"{}\"/>\n", path.join(" "));
        }
        self.y = foot + 22.0;
    }

    /// A row for each kind, from a fault's beginning until all were served again.
    fn faults(&mut self, verdict: &Verdict) {
        self.body += &text(
            28.0,
            self.y + 12.0,
            "section",
            "What went wrong, until all were served again",
        );
        self.y += 22.0;
        let at = |instant: Instant| instant.saturating_duration_since(verdict.begun).as_secs_f64();
        for fault in Fault::ALL {
            self.y += ROW;
            self.body += &text(28.0, self.y, "", &fault.to_string());
            self.body += &format!(
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{0:.1}\" x2=\"{RIGHT}\" y2=\"{0:.1}\"/>",
                self.y - 4.0
            );
            let class = if fault.excuses() { "fault" } else { "change" };
            for entry in verdict.faults.iter().filter(|entry| entry.fault == fault) {
                let (from, to) = (
                    self.x(at(entry.begun)),
                    entry.over.map_or(RIGHT, |over| self.x(at(over))),
                );
                self.body += &format!(
                    "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"10\" rx=\"1.5\"/>",
                    self.y - 9.0,
                    (to - from).max(2.5)
                );
            }
            self.body.push('\n');
        }
    }

    fn axis(&mut self) {
        self.y += 20.0;
        let minutes = self.seconds / 60.0;
        let step = round_step(minutes);
        let mut minute = 0.0;
        while minute <= minutes + 0.1 {
            self.body += &text(
                self.x(minute * 60.0),
                self.y,
                "faint middle",
                &format!("{minute:.0} min"),
            );
            minute += step;
        }
    }
}

fn a_minute(samples: &[Sample], of: fn(&Sample) -> u64) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    let mut from: Option<&Sample> = None;
    for sample in samples {
        match from {
            Some(before) if sample.at - before.at < MINUTE => {}
            Some(before) => {
                let rate = (of(sample) - of(before)) as f64 * MINUTE / (sample.at - before.at);
                points.push((f64::midpoint(before.at, sample.at), rate));
                from = Some(sample);
            }
            None => from = Some(sample),
        }
    }
    points
}

/// Of two to five of those is the whole height.
fn round_step(highest: f64) -> f64 {
    let power = 10_f64.powf(highest.log10().floor());
    let steps = [0.2, 0.25, 0.5, 1.0, 2.0].map(|step| step * power);
    steps.into_iter().find(|step| highest / step <= 5.0).unwrap_or(power)
}

fn text(x: f64, y: f64, class: &str, content: &str) -> String {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{content}</text>\n")
}
