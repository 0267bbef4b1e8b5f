use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use super::*;
use crate::limits::Limits;
use crate::listener_id::ListenerId;

const ADMIN: ListenerId = ListenerId::new(0, "admin", Policy::Authenticated);
const PUBLIC: ListenerId = ListenerId::new(1, "public", Policy::Open);

fn limits() -> Limits {
    Limits {
        max_connections: 20,
        reserved_admin_connections: 8,
        max_connections_per_address: 3,
        requests_per_second: 1,
        min_send_rate: 1,
        max_header_size: 1,
        drain_timeout: Duration::ZERO,
        handshake_timeout: Duration::ZERO,
        header_timeout: Duration::ZERO,
        idle_timeout: Duration::ZERO,
        send_grace: Duration::ZERO,
    }
}

fn admit(limiter: &Arc<Limiter>, listener: ListenerId, client: &str) -> Result<ConnectionPermit, RejectReason> {
    limiter.admit(listener, client.parse().unwrap(), &IpAllowList::default(), &limits())
}

fn is_evicted(permit: &ConnectionPermit) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    pin!(permit.evicted()).poll(&mut context).is_ready()
}

#[test]
fn strangers_never_use_the_reserved_admin_connections() {
    let limiter = Arc::new(Limiter::default());
    let strangers: Vec<_> = (0..12)
        .map(|n| admit(&limiter, PUBLIC, &format!("192.0.2.{n}")).unwrap())
        .collect();
    // None of them is idle.
    assert!(strangers.iter().all(|permit| permit.stranger().unwrap().begin_answer()));
    assert_eq!(admit(&limiter, PUBLIC, "192.0.2.99").unwrap_err(), RejectReason::Full);
    let mut admins = Vec::new();
    for _ in 0..8 {
        let mut permit = admit(&limiter, ADMIN, "198.51.100.1").unwrap();
        assert!(permit.promote());
        admins.push(permit);
    }
    assert_eq!(admit(&limiter, ADMIN, "198.51.100.1").unwrap_err(), RejectReason::Full);
    drop(strangers);
    // Administrators may also use the connections that strangers leave free.
    for _ in 0..12 {
        let mut permit = admit(&limiter, ADMIN, "198.51.100.1").unwrap();
        assert!(permit.promote());
        admins.push(permit);
    }
    assert_eq!(limiter.connections(Policy::Authenticated), 20);
    assert_eq!(admit(&limiter, PUBLIC, "192.0.2.1").unwrap_err(), RejectReason::Full);
    drop(admins);
    assert_eq!(limiter.connections(Policy::Authenticated), 0);
    assert_eq!(limiter.cases(RejectReason::Full), 3);
}

#[test]
fn a_full_public_port_evicts_idle_connections() {
    let limiter = Arc::new(Limiter::default());
    // One customer with four networks.
    let crowd: Vec<_> = (0..12)
        .map(|n| admit(&limiter, PUBLIC, &format!("2001:db8:0:{}::{n}", n % 4)).unwrap())
        .collect();
    let honest: Vec<_> = (0..3)
        .map(|n| admit(&limiter, PUBLIC, &format!("192.0.{n}.1")).unwrap())
        .collect();
    for _ in 0..100 {
        // A new connection from the same customer evicts another one of that customer, as long as its address is below the
        // limit.
        drop(admit(&limiter, PUBLIC, "2001:db8:0:9::1").unwrap());
    }
    assert!(honest.iter().all(|permit| !is_evicted(permit)));
    assert_eq!(crowd.iter().filter(|permit| is_evicted(permit)).count(), 4);
    assert_eq!(limiter.connections(Policy::Open), 11);
    // Evicted or not, each connection is subtracted once.
    drop((crowd, honest));
    assert_eq!(limiter.connections(Policy::Open), 0);
    let again: Vec<_> = (0..12)
        .map(|n| admit(&limiter, PUBLIC, &format!("2001:db8:0:{}::{n}", n % 4)).unwrap())
        .collect();
    assert!(again.iter().all(|permit| !is_evicted(permit)));
}

#[test]
fn connections_per_address_are_limited() {
    let limiter = Arc::new(Limiter::default());
    let mut permits: Vec<_> = (1..4)
        .map(|n| admit(&limiter, PUBLIC, &format!("2001:db8::{n}")).unwrap())
        .collect();
    assert_eq!(
        admit(&limiter, PUBLIC, "2001:db8::4").unwrap_err(),
        RejectReason::Address
    );
    permits.push(admit(&limiter, PUBLIC, "2001:db8:0:1::4").unwrap());
    permits.push(admit(&limiter, ADMIN, "2001:db8::4").unwrap());
    permits.remove(0);
    permits.push(admit(&limiter, PUBLIC, "2001:db8::4").unwrap());
    // A proxy on loopback has many clients.
    for _ in 0..8 {
        permits.push(admit(&limiter, PUBLIC, "127.0.0.1").unwrap());
    }
    assert_eq!(limiter.connections(Policy::Open), 12);
    drop(permits);
    assert_eq!(limiter.connections(Policy::Open), 0);
}

#[test]
fn unauthenticated_admin_connections_evict_each_other() {
    let limiter = Arc::new(Limiter::default());
    let mut admin = admit(&limiter, ADMIN, "198.51.100.1").unwrap();
    let crowd: Vec<_> = (0..100).map(|_| admit(&limiter, ADMIN, "192.0.2.1").unwrap()).collect();
    assert_eq!(limiter.connections(Policy::Authenticated), 4);
    assert!(!is_evicted(&admin));
    assert!(is_evicted(&crowd[0]) && is_evicted(&crowd[96]));
    assert!(!is_evicted(&crowd[97]) && !is_evicted(&crowd[99]));
    assert!(admin.promote());
    // Among addresses with one connection each, the oldest one is evicted.
    let others: Vec<_> = (0..5)
        .map(|n| admit(&limiter, ADMIN, &format!("203.0.113.{n}")).unwrap())
        .collect();
    assert!(is_evicted(&crowd[98]) && is_evicted(&others[0]));
    assert!(!is_evicted(&others[1]));
    assert!(!is_evicted(&admin));
    let mut late = others.into_iter().next().unwrap();
    assert!(!late.promote(), "it had been evicted");
    drop((late, crowd, admin));
    assert_eq!(limiter.connections(Policy::Authenticated), 0);
}

#[test]
fn each_rejection_episode_logs_one_line() {
    let limiter = Limiter::default();
    assert!(limiter.count(RejectReason::Full));
    assert!(!limiter.count(RejectReason::Full));
    assert!(limiter.count(RejectReason::Descriptors));
    assert_eq!(limiter.cases(RejectReason::Full), 2);
}

#[test]
fn connections_without_a_proxy_header_are_limited_per_port() {
    let limiter = Arc::new(Limiter::default());
    let expect = |listener| limiter.admit_proxy(listener, "192.0.2.1".parse().unwrap(), &limits());
    let strangers: Vec<_> = (0..12).map(|_| expect(PUBLIC).unwrap()).collect();
    assert_eq!(expect(PUBLIC).unwrap_err(), RejectReason::PendingProxy);
    let admins: Vec<_> = (0..8).map(|_| expect(ADMIN).unwrap()).collect();
    assert_eq!(expect(ADMIN).unwrap_err(), RejectReason::PendingProxy);
    drop((strangers, admins));
    assert!(expect(PUBLIC).is_ok() && expect(ADMIN).is_ok());
    assert_eq!(limiter.cases(RejectReason::PendingProxy), 2);
}
