//! A small chart for each curve, two in a row.

use super::dot;
use crate::contenders::Kind;
use crate::curves::Curve;
use picture::{self, MARGIN, Picture, WIDTH, line, text};

const GAP: f64 = 36.0;
const PANEL: f64 = (WIDTH - MARGIN * 2.0 - GAP) / 2.0;
/// The height of a panel including its labels.
const HEIGHT: f64 = 218.0;
/// The distance between a panel's left edge and its plot area.
const INSET: f64 = 58.0;
/// The width on the right for the names of the lines.
const NAMES: f64 = 92.0;

pub(super) fn draw(picture: &mut Picture, curves: &[Curve]) {
    for pair in curves.chunks(2) {
        picture.y += 14.0;
        for (number, curve) in pair.iter().enumerate() {
            let left = MARGIN + (PANEL + GAP) * number as f64;
            picture.body += &panel(curve, left, picture.y);
        }
        picture.y += HEIGHT;
    }
}

/// Draws a panel with a linear vertical axis from zero and a logarithmic horizontal axis.
fn panel(curve: &Curve, left: f64, top: f64) -> String {
    let (x0, x1) = (left + INSET, left + PANEL - NAMES);
    let (y0, y1) = (top + HEIGHT - 52.0, top + 30.0);
    let highest = curve
        .lines
        .iter()
        .flat_map(|(_, line)| line)
        .fold(0.0_f64, |most, &number| most.max(number));
    let grid = picture::grid(highest);
    let most = grid.last().copied().unwrap_or(highest);
    let (first, last) = match curve.points[..] {
        [first, .., last] => ((first as f64).ln(), (last as f64).ln()),
        _ => return String::new(),
    };
    let x = |point: usize| x0 + (x1 - x0) * ((point as f64).ln() - first) / (last - first);
    let y = |number: f64| y0 - (y0 - y1) * number / most;

    let mut drawn = text(left, top + 8.0, "section", curve.title);
    for height in grid {
        let class = if height == 0.0 { "nginx" } else { "grid" };
        drawn += &line(class, (x0, y(height)), (x1, y(height)));
        let label = if height == 0.0 {
            "0".to_owned()
        } else {
            curve.unit.show_round(height)
        };
        drawn += &text(x0 - 8.0, y(height) + 4.0, "faint end", &label);
    }
    for &point in &curve.points {
        drawn += &text(x(point), y0 + 18.0, "faint middle", &curve.name(point));
    }
    drawn += &text((x0 + x1) / 2.0, y0 + 36.0, "faint middle", curve.over);
    for (kind, numbers) in &curve.lines {
        let class = if matches!(kind, Kind::Gateway(_)) {
            "gateway"
        } else {
            "other"
        };
        let points: Vec<_> = curve
            .points
            .iter()
            .zip(numbers)
            .map(|(&point, &number)| (x(point), y(number)))
            .collect();
        drawn += &picture::curve(class, &points);
        drawn.extend(points.iter().map(|&(x, y)| dot(&format!("dot {class}"), x, y)));
        if let Some(&(x, y)) = points.last() {
            drawn += &text(
                x + 10.0,
                y + 4.0 + aside(curve, kind, highest),
                &format!("name {class}"),
                &kind.to_string(),
            );
        }
    }
    drawn + "\n"
}

/// Moves the names of lines apart that end close to each other.
fn aside(curve: &Curve, kind: &Kind, highest: f64) -> f64 {
    let end = |(_, numbers): &(Kind, Vec<f64>)| numbers.last().copied().unwrap_or_default();
    let own = curve.lines.iter().find(|(other, _)| other == kind).map_or(0.0, end);
    let others = curve.lines.iter().filter(|(other, _)| other != kind).map(end);
    let close = others.into_iter().find(|other| (other - own).abs() < highest * 0.1);
    match close {
        Some(other) if other > own => 7.0,
        Some(_) => -7.0,
        None => 0.0,
    }
}
