//! Formats a [`Report`] as text. Lines that need attention start with `!`.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edge::tls::certificate;

use super::report::{Admin, Certificate, Report, State, Store};
use super::simplestreams::Simplestreams;
use super::table::{bytes, plain, rows};

/// Days before expiry from which a certificate is marked. Same as in `check`.
const SOON: i64 = 30;

pub(super) fn text(report: &Report, now: SystemTime) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut text = String::new();
    // Writing to memory does not fail.
    let _ = head(&mut text, report, now);
    text += &report
        .simplestreams
        .as_ref()
        .map(Simplestreams::text)
        .unwrap_or_default();
    let _ = writeln!(text, "\nPorts\n{}", ports(report));
    if !report.rejected.is_empty() {
        let rejected = report.rejected.iter();
        let rejected: Vec<_> = rejected.map(|(why, count)| format!("{count} {}", plain(why))).collect();
        let _ = writeln!(text, "Rejected: {}\n", rejected.join(", "));
    }
    let _ = writeln!(text, "Certificates\n{}", certificates(&report.certificates));
    let _ = match report.admins.is_empty() {
        true => writeln!(text, "! Administrators: admin.clients lists none"),
        false => write!(text, "Administrators\n{}", admins(&report.admins, now)),
    };
    text
}

fn head(text: &mut String, report: &Report, now: u64) -> std::fmt::Result {
    let since = |at: u64| format!("{} ago, at {}", span(now.saturating_sub(at)), certificate::date(at));
    let state = match (report.state, &report.problem) {
        (State::Ready, _) => "  ready".to_owned(),
        (State::Draining, _) => "! draining".to_owned(),
        (State::NotReady, problem) => format!("! not ready: {}", plain(problem.as_deref().unwrap_or_default())),
    };
    let version = plain(&report.version);
    writeln!(text, "{state}")?;
    writeln!(
        text,
        "  incus-gate {version}, process {}, started {}",
        report.pid,
        since(report.started_at)
    )?;
    let configuration = &report.configuration;
    let file = plain(&configuration.file);
    writeln!(text, "  {file}, loaded {}", since(configuration.loaded_at))?;
    if let (Some(at), Some(why)) = (configuration.reload_failed_at, &configuration.reload_error) {
        writeln!(text, "! reload failed {}: {}", since(at), plain(why))?;
    }
    let incus = &report.incus;
    let version = incus.version.as_deref().map(|version| format!(" {}", plain(version)));
    let version = version.unwrap_or_default();
    let url = plain(&incus.url);
    match &incus.problem {
        None => writeln!(text, "  Incus{version} at {url} is available, and trusts the gateway")?,
        Some(problem) => writeln!(text, "! Incus at {url}: {}", plain(problem))?,
    }
    let images = &report.images;
    let mark = if images.failing { '!' } else { ' ' };
    let failing = if images.failing {
        "; updating the list fails"
    } else {
        ""
    };
    match (images.count, images.age_seconds) {
        (Some(count), Some(age)) => {
            writeln!(
                text,
                "{mark} images on the public port: {count}, as of {} ago{failing}",
                span(age)
            )?;
        }
        _ => writeln!(text, "{mark} no image list for the public port yet{failing}")?,
    }
    report.store.as_ref().map_or(Ok(()), |one| store(text, one))
}

fn store(text: &mut String, store: &Store) -> std::fmt::Result {
    let directory = plain(&store.directory);
    if let Some(problem) = &store.problem {
        return writeln!(text, "! store in {directory}: cannot be opened: {}", plain(problem));
    }
    let filling = match store.filling {
        0 => String::new(),
        count => format!(" and {count} arriving"),
    };
    writeln!(
        text,
        "  store in {directory}: {} images{filling}, {} of {}, {} hits, {} misses",
        store.images,
        bytes(store.bytes),
        bytes(store.limit_bytes),
        store.hits,
        store.misses
    )?;
    let faults = [
        ("disk errors", store.disk_errors),
        ("exports that were not the image", store.bad_exports),
    ];
    let faults = faults.map(|(what, count)| (what.to_owned(), count)).into_iter();
    let dropped = store.dropped.iter();
    let dropped = dropped.map(|(why, count)| (format!("images dropped because of {}", plain(why)), *count));
    let faults = faults.chain(dropped).filter(|(_, count)| *count > 0);
    let faults: Vec<_> = faults.map(|(what, count)| format!("{count} {what}")).collect();
    match faults.is_empty() {
        true => Ok(()),
        false => writeln!(text, "! store: {}", faults.join(", ")),
    }
}

fn ports(report: &Report) -> String {
    let heading = [
        "",
        "CONNECTIONS",
        "REQUESTS",
        "5XX",
        "ABORTED",
        "RECEIVED",
        "SENT",
        "ADDRESS",
    ];
    let mut table = vec![heading.map(str::to_owned).to_vec()];
    for (name, port) in &report.ports {
        table.push(vec![
            format!("  {}", plain(name)),
            format!("{} of {}", port.connections, port.connections_limit),
            port.requests.to_string(),
            port.server_errors.to_string(),
            port.aborted.to_string(),
            bytes(port.received_bytes),
            bytes(port.sent_bytes),
            plain(&port.addresses.join(", ")),
        ]);
    }
    if !report.metrics.is_empty() {
        let mut row = vec!["  metrics".to_owned()];
        row.resize(7, String::new());
        row.push(plain(&report.metrics.join(", ")));
        table.push(row);
    }
    rows(&table, &[1, 2, 3, 4, 5, 6])
}

fn certificates(certificates: &[Certificate]) -> String {
    let row = |one: &Certificate| {
        let mark = if one.days_left < SOON { '!' } else { ' ' };
        let admin = one.admin.as_deref().map(|admin| format!(" {}", plain(admin)));
        let left = match one.days_left {
            ..=-1 => "expired".to_owned(),
            1 => "1 day left".to_owned(),
            days => format!("{days} days left"),
        };
        let left = if one.days_left < SOON {
            left + ": renew it"
        } else {
            left
        };
        let name = plain(&one.certificate);
        vec![format!("{mark} {name}{}", admin.unwrap_or_default()), left]
    };
    let problems = |one: &Certificate| -> String {
        let line = |problem: &String| format!("! {}: {}\n", plain(&one.certificate), plain(problem));
        one.problems.iter().map(line).collect()
    };
    let table = rows(&certificates.iter().map(row).collect::<Vec<_>>(), &[]);
    table + &certificates.iter().map(problems).collect::<String>()
}

fn admins(admins: &[Admin], now: u64) -> String {
    let row = |admin: &Admin| {
        let seen = match (admin.last_seen_at, &admin.last_seen_from) {
            (Some(at), Some(from)) => format!("seen {} ago, from {}", span(now.saturating_sub(at)), plain(from)),
            _ => "not seen since the start".to_owned(),
        };
        vec![format!("  {}", plain(&admin.name)), seen]
    };
    rows(&admins.iter().map(row).collect::<Vec<_>>(), &[])
}

/// Formats a duration, such as `3 hours`.
fn span(seconds: u64) -> String {
    let (number, unit) = match Duration::from_secs(seconds).as_secs() {
        0..120 => (seconds, "second"),
        120..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn durations_are_rounded_to_one_unit() {
        for (seconds, expected) in [
            (1, "1 second"),
            (119, "119 seconds"),
            (121, "2 minutes"),
            (7_200, "2 hours"),
            (172_800, "2 days"),
        ] {
            assert_eq!(span(seconds), expected);
        }
    }
}
