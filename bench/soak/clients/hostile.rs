//! Clients that send invalid requests, or try to exhaust resources.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::{Deed, Done, holds};
use crate::dice::Dice;
use crate::ledger::Outcome;
use crate::site::{Site, answered};
use testing::client::Curl;
use testing::tls::{End, TlsClient};

pub(super) const DEEDS: [Deed<()>; 8] = [
    ("hostile: noise instead of TLS", noise),
    ("hostile: hang up at any time", hang_up),
    ("hostile: crowd that says nothing", crowd),
    ("hostile: half a head", half_a_head),
    ("hostile: download begun and reset", begun_and_reset),
    ("hostile: streams begun and reset", streams_begun_and_reset),
    ("hostile: no admin on the admin port", no_admin),
    ("hostile: what is not for strangers", not_for_strangers),
];

fn port(site: &Site, dice: &mut Dice) -> std::net::SocketAddr {
    *dice.pick(&[site.gateway.public(), site.gateway.admin()])
}

fn told(error: impl ToString) -> Outcome {
    Outcome::Told(error.to_string())
}

fn noise(site: &Site, _: &(), dice: &mut Dice) -> Done {
    let mut tcp = TcpStream::connect(port(site, dice)).map_err(told)?;
    tcp.set_read_timeout(Some(Duration::from_secs(30))).map_err(told)?;
    let size = 1 + dice.below(5000);
    // The gateway resets the connection when it has read enough.
    let _ = tcp.write_all(&dice.bytes(size));
    let mut came = Vec::new();
    let _ = tcp.read_to_end(&mut came);
    holds(came.len() < 100, || format!("{} bytes came for noise", came.len()))
}

fn hang_up(site: &Site, _: &(), dice: &mut Dice) -> Done {
    let to = port(site, dice);
    for _ in 0..dice.below(20) {
        let raw = TlsClient::tls13().connect(to).map_err(told)?;
        if dice.below(2) == 0 {
            raw.reset();
        }
    }
    Ok(())
}

fn crowd(site: &Site, _: &(), dice: &mut Dice) -> Done {
    // Above half of `limits.reserved_admin_connections`, the gateway evicts connections, which can affect an administrator who
    // is not authenticated yet. tests/e2e/crowd.rs tests that.
    let (to, most) = match dice.below(2) {
        0 => (site.gateway.public(), 150),
        _ => (site.gateway.admin(), 20),
    };
    let crowd: Result<Vec<_>, _> = (0..dice.below(most)).map(|_| TcpStream::connect(to)).collect();
    let crowd = crowd.map_err(told)?;
    site.pause(dice.time(0, 3000));
    drop(crowd);
    Ok(())
}

fn half_a_head(site: &Site, _: &(), dice: &mut Dice) -> Done {
    let mut raw = TlsClient::tls13().connect(port(site, dice)).map_err(told)?;
    raw.send("GET /1.0 HTTP/1.1\r\nHost: gate.test\r\nX-Half: ")
        .map_err(told)?;
    match dice.below(2) {
        0 => Ok(()),
        _ => match raw.read_answer() {
            // After `limits.header_timeout`.
            Ok(answer) => holds(answer.head.status == 408, || answer.head.line.clone()),
            Err(End::Silence) => Err(told("it is waited for without an end")),
            Err(_) => Ok(()),
        },
    }
}

fn begun_and_reset(site: &Site, _: &(), dice: &mut Dice) -> Done {
    let fingerprint = &site.published[3].fingerprint;
    for _ in 0..1 + dice.below(5) {
        let mut raw = TlsClient::tls13().connect(site.gateway.public()).map_err(told)?;
        raw.send(format!(
            "GET /1.0/images/{fingerprint}/export HTTP/1.1\r\nHost: gate.test\r\n\r\n"
        ))
        .map_err(told)?;
        raw.read_head().map_err(told)?;
        if dice.below(2) == 0 {
            raw.reset();
        }
    }
    Ok(())
}

fn streams_begun_and_reset(site: &Site, _: &(), dice: &mut Dice) -> Done {
    let path = format!("/1.0/images/{}/export", site.published[3].fingerprint);
    let mut http2 = TlsClient::tls13().connect_http2(site.gateway.public()).map_err(told)?;
    for _ in 0..dice.below(30) {
        let request = http2.request("GET", &path);
        let open = http2.start(request).map_err(told)?;
        drop(open);
    }
    Ok(())
}

fn no_admin(site: &Site, _: &(), dice: &mut Dice) -> Done {
    let path = *dice.pick(&["/1.0", "/1.0/images", "/1.0/instances/one/exec", "/"]);
    let curl = Curl::get(format!("{}{path}", site.gateway.admin_url())).trusting(&site.authority);
    let curl = match dice.below(2) {
        0 => curl,
        _ => curl.presenting(&site.setup.server),
    };
    answered(curl, &[403]).map(drop)
}

fn not_for_strangers(site: &Site, _: &(), dice: &mut Dice) -> Done {
    let private = &site.private.fingerprint;
    let (path, status) = match dice.below(6) {
        0 => ("/1.0/instances".to_owned(), 403),
        1 => (format!("/1.0/images/{private}"), 404),
        2 => (format!("/1.0/images/{private}/export"), 404),
        3 => ("/1.0/images/aliases/private".to_owned(), 404),
        4 => ("/1.0/images/../instances?recursion=2".to_owned(), 403),
        _ => (format!("/1.0/images/{private}/export?secret=x"), 404),
    };
    let answer = answered(site.public(&path, dice), &[status])?;
    holds(answer.body.len() < 300, || answer.text())
}
