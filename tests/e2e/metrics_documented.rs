//! The documentation of the metrics is correct: the table in docs/OPERATING.md names every metric with its labels and no
//! others, and the dashboard and the alert rules use only what a running gateway exports.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::Value;
use testing::client::Curl;
use testing::images::Images;
use testing::scene::Scene;

const TABLE: &str = include_str!("../../docs/OPERATING.md");
const DASHBOARD: &str = include_str!("../../docs/grafana.json");
const ALERTS: &str = include_str!("../../docs/alerts.yml");

/// The values of each label, by the name of the sample.
type Exported = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Returns the metrics of a gateway after requests of every kind.
fn exported() -> Exported {
    let scene = Scene::start_with(|setup| {
        setup.more = "[metrics]\nlisten = \"127.0.0.1:0\"\n[store]\ndirectory = \"store\"\n".to_owned();
    });
    Images::new().split("published").import(&scene.incus, &["--public"]);
    scene.refresh();
    let text = Curl::get(format!("{}/metrics", scene.gateway.metrics_url()))
        .answer()
        .text();
    let sample = Regex::new(r"^(\w+)(?:\{(.*)\})? \S+$").unwrap();
    let label = Regex::new(r#"(\w+)="([^"]*)""#).unwrap();
    let mut exported = Exported::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let found = sample.captures(line).unwrap_or_else(|| panic!("no sample: {line}"));
        let labels = exported.entry(found[1].to_owned()).or_default();
        for pair in label.captures_iter(found.get(2).map_or("", |labels| labels.as_str())) {
            labels.entry(pair[1].to_owned()).or_default().insert(pair[2].to_owned());
        }
    }
    exported
}

/// Panics unless every metric, label and value in this PromQL expression is exported.
#[track_caller]
fn assert_answers(exported: &Exported, expression: &str, words: &str) {
    let metric = Regex::new(r"\b((?:incus_gate|process)_\w+)(?:\{([^}]*)\})?").unwrap();
    let matcher = Regex::new(r#"(\w+)(=~|=)"([^"]*)""#).unwrap();
    let mut labels = BTreeSet::new();
    for found in metric.captures_iter(expression) {
        let known = exported.get(&found[1]);
        let known = known.unwrap_or_else(|| panic!("{}, in {expression}, is not exported", &found[1]));
        for matched in matcher.captures_iter(found.get(2).map_or("", |matchers| matchers.as_str())) {
            let values = known.get(&matched[1]);
            let values = values.unwrap_or_else(|| panic!("{} has no label {}", &found[1], &matched[1]));
            // Each of several values is exported, except requests without a status, which need a client that disconnects.
            for value in matched[3].split('|') {
                let value = Regex::new(&format!("^(?:{value})$")).unwrap();
                let is_there = values.iter().any(|known| value.is_match(known));
                assert!(
                    is_there || value.as_str() == "^(?:none)$",
                    "{value} in {expression} is none of {values:?}"
                );
            }
        }
        labels.extend(known.keys().map(String::as_str));
    }
    assert!(metric.is_match(expression), "{expression} asks for nothing");
    let grouped = Regex::new(r"\bby \(([^)]*)\)").unwrap();
    let named = Regex::new(r"\{\{ ?(?:\$labels\.)?(\w+) ?\}\}").unwrap();
    let grouped = grouped.captures_iter(expression).flat_map(|found| {
        let names: Vec<_> = found[1].split(", ").map(str::to_owned).collect();
        names
    });
    for label in grouped.chain(named.captures_iter(words).map(|found| found[1].to_owned())) {
        assert!(
            labels.contains(label.as_str()),
            "{expression} {words}: there is no label {label}"
        );
    }
}

#[test]
fn table_dashboard_and_alerts_match_the_exported_metrics() {
    let exported = exported();

    let section = TABLE
        .split("\n## ")
        .find(|section| section.starts_with("Metrics\n"))
        .unwrap();
    let name = Regex::new(r"`([a-z_]+)`").unwrap();
    let names =
        |cell: &str| -> BTreeSet<String> { name.captures_iter(cell).map(|found| found[1].to_owned()).collect() };
    let mut written = BTreeMap::new();
    for line in section
        .lines()
        .filter(|line| line.starts_with("| `incus_gate_") || line.starts_with("| `process_"))
    {
        let cells: Vec<_> = line.split(" | ").collect();
        for metric in names(cells[0]) {
            written.insert(metric, names(cells[1]));
        }
    }
    let histogram = Regex::new("_(bucket|count|sum)$").unwrap();
    let real: BTreeMap<_, BTreeSet<_>> = exported
        .iter()
        .filter(|(name, _)| !name.ends_with("_bucket"))
        .map(|(name, labels)| {
            (
                histogram.replace(name, "").into_owned(),
                labels.keys().cloned().collect(),
            )
        })
        .collect();
    assert_eq!(written, real);

    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets: Vec<_> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap())
        .collect();
    assert!(targets.len() > 20);
    for target in targets {
        assert_answers(
            &exported,
            target["expr"].as_str().unwrap(),
            target["legendFormat"].as_str().unwrap(),
        );
    }

    let alerts: Vec<_> = ALERTS.split("- alert: ").skip(1).collect();
    assert!(alerts.len() > 5);
    for alert in alerts {
        let expression = alert.lines().find_map(|line| line.trim().strip_prefix("expr: "));
        assert_answers(&exported, expression.unwrap(), alert);
    }
}
