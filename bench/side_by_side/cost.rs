//! CPU time per unit of work.

use std::time::{Duration, Instant};

use crate::comparison::{Comparison, Unit};
use crate::contenders::Contender;
use crate::measure::{cpu, wait_until_idle};
use crate::plan::item::{Item, Per, Port};
use crate::rounds::Field;
use crate::statistics::shuffle;
use crate::{Result, give_up_if_interrupted};

/// The time during which new requests are started. A contender that saturates its core uses half a second of CPU time.
const SAMPLE: Duration = Duration::from_millis(510);

/// Runs rounds of all items, each in a different order.
pub(crate) async fn compare(field: &Field, items: &[Item], rounds: usize, results: &mut Vec<Comparison>) -> Result<()> {
    if items.is_empty() {
        return Ok(());
    }
    results.extend(items.iter().map(|item| comparison(field, item)));
    let mut order: Vec<_> = (0..items.len()).collect();
    for round in 1..=rounds {
        crate::progress(&format!("CPU time, round {round} of {rounds}"));
        shuffle(&mut order);
        for &index in &order {
            let item = &items[index];
            let taking_part = taking_part(field, item);
            let (samples, was_disturbed) = field
                .round(&taking_part, async |contender| sample(contender, item).await)
                .await
                .map_err(|error| format!("{}: {error}", item.name))?;
            results[index].rounds.push(samples);
            results[index].disturbed += usize::from(was_disturbed);
        }
    }
    Ok(())
}

/// Measures the cost of a unit of this work for one contender.
pub(crate) async fn sample(contender: &Contender, item: &Item) -> Result<f64> {
    give_up_if_interrupted()?;
    let address = match item.port {
        Port::Admin => contender.admin.ok_or("it has no admin port")?,
        Port::Public(images) => contender.public(images),
    };
    let pids = contender.pids();
    let mut open = item.load.open(address).await?;
    item.load.warm_up(&mut open, address).await?;
    wait_until_idle(&pids).await?;

    let before = cpu(&pids)?;
    let done = item.load.run(&mut open, address, Instant::now() + SAMPLE).await?;
    wait_until_idle(&pids).await?;
    let used = cpu(&pids)?.saturating_sub(before).as_secs_f64();

    if item.load.client.is_resuming() && done.resumed * 10 < done.requests * 9 {
        return Err(format!("{} of {} sessions were resumed", done.resumed, done.requests).into());
    }
    let units = match item.per {
        Per::Gigabyte => done.bytes as f64 / 1e9,
        Per::Request => done.requests as f64,
    };
    Ok(used / units)
}

fn comparison(field: &Field, item: &Item) -> Comparison {
    let unit = match item.per {
        Per::Gigabyte => Unit::SecondsPerGigabyte,
        Per::Request => Unit::Seconds,
    };
    let contenders = taking_part(field, item)
        .into_iter()
        .map(|index| &field.contenders[index]);
    Comparison {
        target_against_guide: item.target_against_guide,
        ..Comparison::new(&item.name, &item.title, unit)
            .target(item.target)
            .between(contenders)
    }
}

fn taking_part(field: &Field, item: &Item) -> Vec<usize> {
    (0..field.contenders.len())
        .filter(|&index| field.contenders[index].takes_part(item))
        .collect()
}
