//! Clients that keep their connections open, and use them occasionally, whatever happened in between.

use super::{Deed, Done};
use crate::dice::Dice;
use crate::ledger::Outcome;
use crate::site::Site;
use testing::tls::TlsClient;

pub(super) const DEEDS: [Deed<()>; 2] = [("kept connections", http1), ("kept connections", http2)];

const QUESTIONS: [&str; 3] = ["/1.0", "/1.0/images?recursion=1", "/1.0/images/aliases/small"];

/// Judges a status. Small public responses stay available while Incus is down; but after a change of the upstream certificate,
/// which may mean another Incus, the list must be fetched first.
fn judge(status: u16) -> Done {
    match status {
        200 => Ok(()),
        503 => Err(Outcome::Told("nothing is known yet".to_owned())),
        other => Err(Outcome::Wrong(other.to_string())),
    }
}

fn http1(site: &Site, _: &(), dice: &mut Dice) -> Done {
    let told = |end: testing::tls::End| Outcome::Told(end.to_string());
    let clients = (0..20).map(|_| TlsClient::tls13().connect(site.gateway.public()));
    let mut clients = clients.collect::<Result<Vec<_>, _>>().map_err(told)?;
    for _ in 0..4 {
        site.pause(dice.time(500, 5000));
        for raw in &mut clients {
            let answer = raw.get(dice.pick::<&str>(&QUESTIONS)).map_err(told)?;
            answer.whole.map_err(told)?;
            judge(answer.head.status)?;
        }
    }
    Ok(())
}

fn http2(site: &Site, _: &(), dice: &mut Dice) -> Done {
    let connected = TlsClient::tls13().connect_http2(site.gateway.public());
    let mut http2 = connected.map_err(|error| Outcome::Told(error.to_string()))?;
    for _ in 0..5 {
        site.pause(dice.time(200, 4000));
        let answer = http2.get(dice.pick::<&str>(&QUESTIONS)).map_err(Outcome::Told)?;
        answer.whole.map_err(Outcome::Told)?;
        judge(answer.status.as_u16())?;
    }
    Ok(())
}
