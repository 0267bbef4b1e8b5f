//! The run as a picture: resources in use, completed work, and the faults.

use std::time::Instant;

use crate::Result;
use crate::faults::Fault;
use crate::samples::Sample;
use crate::verdict::Verdict;
use picture::{self, MARGIN, Picture, Words, line, round_step, text};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/soak.svg");

const LEFT: f64 = 268.0;
const RIGHT: f64 = 932.0;
const PANEL: f64 = 96.0;
const ROW: f64 = 17.0;
/// The interval over which completed work is averaged, because single samples are too noisy.
const MINUTE: f64 = 60.0;

const STYLE: &str = "
.line{stroke-width:1.5}.one{stroke:#0f8b8d}.two{stroke:#8a96a3}.three{stroke:#d1495b}
.name.one{fill:#0f8b8d;stroke:none}.name.two{fill:#66727f;stroke:none}.name.three{fill:#d1495b;stroke:none}
.fault{fill:#d1495b}.change{fill:#5b4fc7}
@media(prefers-color-scheme:dark){
.one{stroke:#2fb5b0}.two{stroke:#768390}.three{stroke:#ef6f80}.name.one{fill:#2fb5b0}.name.two{fill:#93a0ad}.name.three{fill:#ef6f80}
.fault{fill:#ef6f80}.change{fill:#a79dff}}
";

type Line<'a> = (&'a str, &'a str, Vec<(f64, f64)>);

/// Draws the picture and writes it.
pub(crate) fn write(verdict: &Verdict) -> Result<()> {
    let samples = &verdict.samples;
    let last = samples.last().map_or(1.0, |sample| sample.at);
    let mut chart = Chart {
        picture: Picture::below(84.0),
        seconds: last,
    };
    let over_time = |of: fn(&Sample) -> f64| samples.iter().map(|sample| (sample.at, of(sample))).collect::<Vec<_>>();
    chart.panel(
        "Memory, MiB",
        &[(
            "resident",
            "one",
            over_time(|sample| sample.memory as f64 / f64::from(1 << 20)),
        )],
    );
    chart.panel(
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
    chart.panel(
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
    chart.faults(verdict);
    chart.axis();
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
    let words = Words {
        title: "What incus-gate holds while things go wrong",
        subtitle: &told,
        origin: &format!("make soak · seed {}", verdict.seed),
        name: "incus-gate while things go wrong",
    };
    Ok(chart.picture.write(FILE, &words, STYLE)?)
}

struct Chart {
    picture: Picture,
    /// The length of the horizontal axis.
    seconds: f64,
}

impl Chart {
    fn x(&self, at: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (at / self.seconds).clamp(0.0, 1.0)
    }

    /// Draws a panel with a vertical axis from zero.
    fn panel(&mut self, title: &str, lines: &[Line<'_>]) {
        let numbers = lines.iter().flat_map(|(_, _, points)| points);
        let highest = numbers.fold(1.0_f64, |most, &(_, number)| most.max(number));
        let grid = picture::grid(highest);
        let most = grid.last().copied().unwrap_or(highest);
        let (top, foot) = (self.picture.y + 14.0, self.picture.y + 14.0 + PANEL);
        let y = |number: f64| foot - PANEL * number / most;
        self.picture.body += &text(MARGIN, top + 4.0, "section", title);
        for (number, (name, class, _)) in lines.iter().enumerate() {
            self.picture.body += &text(
                MARGIN,
                top + 24.0 + 17.0 * number as f64,
                &format!("name {class}"),
                name,
            );
        }
        for height in grid {
            self.picture.body += &line("grid", (LEFT, y(height)), (RIGHT, y(height)));
            self.picture.body += &text(LEFT - 8.0, y(height) + 4.0, "faint end", &format!("{height:.0}"));
        }
        for (_, class, points) in lines {
            let points: Vec<_> = points.iter().map(|&(at, number)| (self.x(at), y(number))).collect();
            self.picture.body += &picture::curve(class, &points);
        }
        self.picture.y = foot + 22.0;
    }

    /// Draws a row for each kind of fault, with bars from the start of the fault until service was restored.
    fn faults(&mut self, verdict: &Verdict) {
        self.picture.y += 12.0;
        self.picture
            .text(MARGIN, "section", "What went wrong, until all were served again");
        self.picture.y += 10.0;
        let at = |instant: Instant| instant.saturating_duration_since(verdict.begun).as_secs_f64();
        for fault in Fault::ALL {
            self.picture.y += ROW;
            self.picture.text(MARGIN, "", &fault.to_string());
            let middle = self.picture.y - 4.0;
            self.picture.body += &line("grid", (LEFT, middle), (RIGHT, middle));
            let class = if fault.excuses() { "fault" } else { "change" };
            for entry in verdict.faults.iter().filter(|entry| entry.fault == fault) {
                let (from, to) = (
                    self.x(at(entry.begun)),
                    entry.over.map_or(RIGHT, |over| self.x(at(over))),
                );
                self.picture.body += &format!(
                    "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"10\" rx=\"1.5\"/>",
                    self.picture.y - 9.0,
                    (to - from).max(2.5)
                );
            }
            self.picture.body.push('\n');
        }
    }

    fn axis(&mut self) {
        self.picture.y += 20.0;
        let minutes = self.seconds / 60.0;
        let step = round_step(minutes);
        let mut minute = 0.0;
        while minute <= minutes + 0.1 {
            let x = self.x(minute * 60.0);
            self.picture.text(x, "faint middle", &format!("{minute:.0} min"));
            minute += step;
        }
        self.picture.y += 20.0;
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
