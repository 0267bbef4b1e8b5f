//! What was measured of every contender, round by round: the one form in which results come.

use crate::contenders::{Contender, Kind};
use crate::statistics::Spread;

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Comparison {
    /// For `--only`.
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) unit: Unit,
    /// What the gateway is to reach.
    pub(crate) target: Option<Target>,
    /// The most that it may be as a part of Nginx as in the guide.
    pub(crate) target_against_guide: Option<f64>,
    /// Whose samples are the columns of `rounds`.
    pub(crate) contenders: Vec<Kind>,
    pub(crate) rounds: Vec<Vec<f64>>,
    /// Rounds that count although something else used the machine meanwhile.
    pub(crate) disturbed: usize,
}

/// Of what the numbers are; less of it is always better.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unit {
    Bytes,
    Seconds,
    /// Of CPU time.
    SecondsPerGigabyte,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// In the comparison's own unit.
    AtMost(f64),
    /// As a part of what tuned Nginx takes.
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

    /// One contender's own numbers.
    pub(crate) fn of(&self, kind: &Kind) -> Option<Spread> {
        Spread::of(self.column(kind)?)
    }

    /// The same as parts of another's: the ratios round by round, since what slows the machine slows both.
    pub(crate) fn ratio(&self, kind: &Kind, to: &Kind) -> Option<Spread> {
        Spread::of(
            self.column(kind)?
                .zip(self.column(to)?)
                .map(|(ours, theirs)| ours / theirs),
        )
    }

    /// Whether the gateway has reached what it should; `None` where nothing was set.
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

/// With two digits that count, also where it is small.
pub(crate) fn show_ratio(ratio: f64) -> String {
    let decimals = if ratio < 0.095 { 3 } else { 2 };
    format!("{ratio:.decimals$}")
}

/// With commas between the thousands.
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
    /// With three digits that count.
    pub(crate) fn show(self, number: f64) -> String {
        let (number, unit) = self.scale(number);
        let decimals = match number.abs() {
            100.0.. => 0,
            10.0.. => 1,
            _ => 2,
        };
        format!("{number:.decimals$} {unit}")
    }

    /// A round number, with as few digits as it has.
    pub(crate) fn show_round(self, number: f64) -> String {
        let (number, unit) = self.scale(number);
        // Of steps that were added up.
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
