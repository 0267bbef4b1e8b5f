//! The measurements of every contender, per round. All results have this form.

use crate::contenders::{Contender, Kind};
use crate::statistics::Spread;

/// A row of the results table.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    /// The name for `--only`.
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) unit: Unit,
    /// The target for the gateway.
    pub(crate) target: Option<Target>,
    /// The maximum ratio to Nginx configured as in the guide.
    pub(crate) target_against_guide: Option<f64>,
    /// The contenders, in the order of the columns of `rounds`.
    pub(crate) contenders: Vec<Kind>,
    pub(crate) rounds: Vec<Vec<f64>>,
    /// The number of rounds that count although other processes used the machine during them.
    pub(crate) disturbed: usize,
}

/// The unit of the numbers. Less is always better.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unit {
    Bytes,
    Seconds,
    /// CPU time.
    SecondsPerGigabyte,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// An absolute value, in the comparison's own unit.
    AtMost(f64),
    /// A ratio to tuned Nginx.
    PartOfNginx(f64),
}

impl Comparison {
    pub(crate) fn new(name: impl Into<String>, title: impl Into<String>, unit: Unit) -> Self {
        Self {
            name: name.into(),
            title: title.into(),
            unit,
            target: None,
            target_against_guide: None,
            contenders: Vec::new(),
            rounds: Vec::new(),
            disturbed: 0,
        }
    }

    pub(crate) fn target(mut self, target: Option<Target>) -> Self {
        self.target = target;
        self
    }

    pub(crate) fn between<'a>(mut self, contenders: impl IntoIterator<Item = &'a Contender>) -> Self {
        self.contenders = contenders.into_iter().map(|contender| contender.kind.clone()).collect();
        self
    }

    /// Returns the spread of one contender's numbers.
    pub(crate) fn of(&self, kind: &Kind) -> Option<Spread> {
        Spread::of(self.column(kind)?)
    }

    /// Returns the spread of the per-round ratios to another contender: what slows down the machine slows down both.
    pub(crate) fn ratio(&self, kind: &Kind, to: &Kind) -> Option<Spread> {
        Spread::of(
            self.column(kind)?
                .zip(self.column(to)?)
                .map(|(ours, theirs)| ours / theirs),
        )
    }

    /// Returns whether the gateway has reached its target; `None` if there is none.
    pub(crate) fn is_met(&self, gateway: &Kind) -> Option<bool> {
        match self.target? {
            Target::AtMost(most) => Some(self.of(gateway)?.median <= most),
            Target::PartOfNginx(most) => Some(self.ratio(gateway, &Kind::NginxTuned)?.median <= most),
        }
    }

    fn column(&self, kind: &Kind) -> Option<impl Iterator<Item = f64> + '_> {
        let index = self.contenders.iter().position(|other| other == kind)?;
        Some(self.rounds.iter().map(move |round| round[index]))
    }
}

/// Formats a ratio with two significant digits, even if it is small.
pub(crate) fn show_ratio(ratio: f64) -> String {
    let decimals = if ratio < 0.095 { 3 } else { 2 };
    format!("{ratio:.decimals$}")
}

/// Formats a number with commas between the thousands.
pub(crate) fn show_count(count: usize) -> String {
    let digits = count.to_string();
    let groups: Vec<_> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(String::from_utf8_lossy)
        .collect();
    groups.join(",")
}

impl Unit {
    /// Formats a number with three significant digits.
    pub(crate) fn show(self, number: f64) -> String {
        let (number, unit) = self.scale(number);
        let decimals = match number.abs() {
            100.0.. => 0,
            10.0.. => 1,
            _ => 2,
        };
        format!("{number:.decimals$} {unit}")
    }

    /// Formats a round number with as few digits as possible.
    pub(crate) fn show_round(self, number: f64) -> String {
        let (number, unit) = self.scale(number);
        // Rounded, because the number is a sum of steps.
        format!("{} {unit}", (number * 100.0).round() / 100.0)
    }

    fn scale(self, number: f64) -> (f64, &'static str) {
        match self {
            Self::Bytes if number >= 1e9 => (number / 1e9, "GB"),
            Self::Bytes if number >= 1e6 => (number / 1e6, "MB"),
            Self::Bytes => (number / 1e3, "KB"),
            Self::Seconds if number >= 1.0 => (number, "s"),
            Self::Seconds if number >= 1e-3 => (number * 1e3, "ms"),
            Self::Seconds => (number * 1e6, "µs"),
            Self::SecondsPerGigabyte => (number, "s/GB"),
        }
    }
}
