//! A test case: connections, requests and reloads, in any order.

use proptest::prelude::*;
use proptest::sample::Index;

use super::certificates::{self, CertificateSpec, certificate_specs};

/// A test case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) certificates: Vec<CertificateSpec>,
    /// The admins listed at the start.
    pub(crate) listed: Vec<Listed>,
    pub(crate) steps: Vec<Step>,
}

/// One of `admin.clients`. Malformed certificates are not listed, and duplicates are omitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed {
    pub(crate) certificate: Index,
    pub(crate) by_file: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A new connection to the admin port, with this number of requests.
    Connect(Handshake, Burst),
    /// Requests on an open connection.
    Ask(Index, Burst),
    /// A reload with these admins listed.
    Reload(Vec<Listed>),
    /// A reload of an invalid configuration.
    ReloadOfNonsense,
    /// A connection to the public port, which issues sessions. The client then offers them to the admin port.
    Visit { is_tls12: bool },
}

#[derive(Clone, Debug)]
pub(crate) struct Handshake {
    pub(crate) certificate: Option<Index>,
    /// The key that signs, if not the certificate's.
    pub(crate) signer: Option<usize>,
    /// The certificates sent after the leaf.
    pub(crate) chain: Vec<Index>,
    pub(crate) is_tls12: bool,
    pub(crate) is_http2: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Burst {
    pub(crate) requests: usize,
    /// Pipelined, or as concurrent streams.
    pub(crate) at_once: bool,
}

fn listed() -> impl Strategy<Value = Vec<Listed>> {
    let one = (any::<Index>(), any::<bool>()).prop_map(|(certificate, by_file)| Listed { certificate, by_file });
    proptest::collection::vec(one, 0..4)
}

prop_compose! {
    fn burst()(requests in 0..4_usize, at_once in any::<bool>()) -> Burst {
        Burst { requests, at_once }
    }
}

prop_compose! {
    fn handshake()(
        certificate in proptest::option::weighted(0.9, any::<Index>()),
        signer in proptest::option::weighted(0.1, certificates::key()),
        chain in proptest::collection::vec(any::<Index>(), 0..3),
        is_tls12 in any::<bool>(),
        is_http2 in any::<bool>(),
    ) -> Handshake {
        Handshake { certificate, signer, chain, is_tls12, is_http2 }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (handshake(), burst()).prop_map(|(handshake, burst)| Step::Connect(handshake, burst)),
        5 => (any::<Index>(), burst()).prop_map(|(at, burst)| Step::Ask(at, burst)),
        3 => listed().prop_map(Step::Reload),
        1 => Just(Step::ReloadOfNonsense),
        1 => any::<bool>().prop_map(|is_tls12| Step::Visit { is_tls12 }),
    ]
}

prop_compose! {
    pub(crate) fn case()(
        certificates in certificate_specs(),
        listed in listed(),
        steps in proptest::collection::vec(step(), 1..16),
    ) -> Case {
        Case { certificates, listed, steps }
    }
}
