//! What a listener serves: services, mounted on disjoint path prefixes. A service takes a request as a whole and knows nothing
//! of connections.

use std::pin::Pin;
use std::rc::Rc;

use http::Request;
use hyper::body::Incoming;

use crate::abort_reason::AbortReason;
use crate::admission::Rejection;
use crate::listener_id::ListenerId;
use crate::peer::{Peer, PeerCertificate};
use crate::response::Reply;
use crate::telemetry::request_record::RequestRecord;

/// The answer to a request in the making.
pub type Answer = Pin<Box<dyn Future<Output = Outcome>>>;

/// Answers requests. Each worker has its own.
pub trait Service {
    /// Answers a request. On an open listener, the request is unambiguous and within the limits of its address. On an
    /// authenticated one, nothing has been checked: the service itself must first establish whose request it is.
    fn answer(self: Rc<Self>, record: Rc<RequestRecord>, request: Request<Incoming>) -> Answer;

    /// Renders a rejection in the protocol of this service.
    fn reject(&self, why: Rejection) -> Reply;
}

/// The answer to a request, and what becomes of its connection.
pub struct Outcome {
    /// The response.
    pub reply: Reply,
    /// What becomes of the connection.
    pub then: Then,
}

/// What becomes of a connection after a response. Of two, the greater one applies.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Then {
    /// It serves the next request.
    KeepOpen,
    /// The body of the request was left unread. On HTTP/1, the connection is closed if the response has no body either: hyper
    /// waits for buffer space before it answers the next request, but not where a request body ends after a response that
    /// has none, and response headers would pile up for a client that does not read.
    Unread,
    /// The bytes after this request may not be a request. HTTP/1 closes the connection; HTTP/2 frames mark the end of a stream.
    Close,
    /// The client is rejected: no other request of the connection is answered.
    Leave,
}

impl Then {
    /// Returns what becomes of a connection after a rejection on an open listener.
    pub fn after(why: Rejection) -> Self {
        match why {
            Rejection::Ambiguous(_) => Self::Close,
            Rejection::Network => Self::Leave,
            Rejection::TooManyDownloads | Rejection::TooManyRequests(_) | Rejection::TooMuchCpu(_) => Self::KeepOpen,
        }
    }
}

/// Decides whose connections are kept on an authenticated listener.
pub trait Authorizer {
    /// Returns whether the holder of this certificate is authorized now.
    fn authorizes(&self, certificate: &PeerCertificate) -> bool;

    /// Completes when the holder is authorized: at once, or after a reload.
    fn authorized<'a>(&'a self, certificate: &'a PeerCertificate) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

    /// Completes when the holder is no longer authorized, or may no longer connect from this address. Returns the reason.
    fn revoked<'a>(&'a self, peer: &'a Peer, certificate: &'a PeerCertificate) -> Revoked<'a>;
}

/// A wait for the end of an authorization.
pub type Revoked<'a> = Pin<Box<dyn Future<Output = AbortReason> + 'a>>;

/// A listener as one worker serves it.
pub struct Listener {
    id: ListenerId,
    services: Services,
    authorizer: Option<Rc<dyn Authorizer>>,
}

impl Listener {
    /// Creates a listener for everybody.
    pub fn open(id: ListenerId, services: Services) -> Rc<Self> {
        Rc::new(Self {
            id,
            services,
            authorizer: None,
        })
    }

    /// Creates a listener for those whom `authorizer` authorizes.
    pub fn authenticated(id: ListenerId, services: Services, authorizer: Rc<dyn Authorizer>) -> Rc<Self> {
        Rc::new(Self {
            id,
            services,
            authorizer: Some(authorizer),
        })
    }

    /// Returns its ID.
    pub fn id(&self) -> ListenerId {
        self.id
    }

    /// Returns the service of a path.
    pub(crate) fn service(&self, path: &str) -> &Rc<dyn Service> {
        self.services.of(path)
    }

    /// Returns whether this peer is authorized now.
    pub(crate) fn authorizes(&self, peer: &Peer) -> bool {
        let authorizer = self.authorizer.as_ref().zip(peer.certificate.as_ref());
        authorizer.is_some_and(|(authorizer, certificate)| authorizer.authorizes(certificate))
    }

    /// Completes when this peer was authorized and no longer is. Calls `on_authorized` when it is authorized.
    pub(crate) async fn revoked(&self, peer: &Peer, on_authorized: impl FnOnce()) -> AbortReason {
        let (Some(authorizer), Some(certificate)) = (&self.authorizer, &peer.certificate) else {
            return std::future::pending().await;
        };
        authorizer.authorized(certificate).await;
        on_authorized();
        authorizer.revoked(peer, certificate).await
    }
}

/// The services of a listener, by the path of a request.
pub struct Services {
    mounted: Vec<(&'static str, Rc<dyn Service>)>,
    rest: Rc<dyn Service>,
}

impl Services {
    /// Mounts a service that answers every path.
    pub fn of_every_path(service: Rc<dyn Service>) -> Self {
        Self {
            mounted: Vec::new(),
            rest: service,
        }
    }

    /// Mounts a service on a path and everything below it.
    ///
    /// # Errors
    /// Fails if the prefix does not consist of plain segments, or if it contains another prefix or is contained in one.
    pub fn mount(mut self, prefix: &'static str, service: Rc<dyn Service>) -> Result<Self, MountError> {
        if !is_prefix(prefix) {
            return Err(MountError::NoPrefix(prefix));
        }
        let overlaps = |other: &&str| contains(prefix, other) || contains(other, prefix);
        if let Some(other) = self
            .mounted
            .iter()
            .map(|(other, _)| *other)
            .find(|other| overlaps(other))
        {
            return Err(MountError::Overlap(prefix, other));
        }
        self.mounted.push((prefix, service));
        Ok(self)
    }

    /// Returns the service of a path, as the client spelled it: `/a%2Fb`, `//a` and `/./a` are not below `/a`.
    fn of(&self, path: &str) -> &Rc<dyn Service> {
        let mounted = self.mounted.iter().find(|(prefix, _)| contains(prefix, path));
        mounted.map_or(&self.rest, |(_, service)| service)
    }
}

/// Why a service cannot be mounted there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MountError {
    /// The prefix is not `/` and a segment of letters, digits, `-`, `_` or `.`, as often as needed.
    NoPrefix(&'static str),
    /// The two prefixes overlap.
    Overlap(&'static str, &'static str),
}

/// Returns whether each segment is spelled in one way only.
fn is_prefix(prefix: &str) -> bool {
    let is_plain = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    prefix
        .strip_prefix('/')
        .is_some_and(|rest| rest.split('/').all(is_plain))
}

/// Returns whether a path is the prefix or below it.
fn contains(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service that its address identifies.
    struct Named;

    impl Service for Named {
        fn answer(self: Rc<Self>, _: Rc<RequestRecord>, _: Request<Incoming>) -> Answer {
            unreachable!("no request is made")
        }

        fn reject(&self, _: Rejection) -> Reply {
            unreachable!("no request is made")
        }
    }

    fn service() -> Rc<dyn Service> {
        Rc::new(Named)
    }

    fn mounted(prefixes: &[&'static str]) -> Result<Services, MountError> {
        let all = Services::of_every_path(service());
        prefixes
            .iter()
            .try_fold(all, |services, prefix| services.mount(prefix, service()))
    }

    #[test]
    fn a_service_answers_its_prefix_and_whole_segments_below_it() {
        let services = mounted(&["/streams", "/images/v1"]).unwrap();
        for (path, prefix) in [
            ("/streams", Some("/streams")),
            ("/streams/", Some("/streams")),
            ("/streams/../images/v1", Some("/streams")),
            ("/streams/v1/index.json", Some("/streams")),
            ("/images/v1", Some("/images/v1")),
            ("/images/v1//x", Some("/images/v1")),
            ("", None),
            ("*", None),
            ("/", None),
            ("/images", None),
            ("/images/", None),
            ("/images/v1x", None),
            ("/images/v1%2Fx", None),
            ("/images%2Fv1", None),
            ("/streamsx", None),
            ("/Streams", None),
            ("/%73treams", None),
            ("//streams", None),
            ("/./streams", None),
            ("streams", None),
            ("/x/streams", None),
        ] {
            let chosen = services
                .mounted
                .iter()
                .find(|(_, service)| Rc::ptr_eq(service, services.of(path)));
            assert_eq!(chosen.map(|(prefix, _)| *prefix), prefix, "{path}");
        }
    }

    #[test]
    fn prefixes_are_plain_and_disjoint() {
        for wrong in [
            "", "/", "a", "/a/", "//a", "/a//b", "/.", "/..", "/a/../b", "/a%2Fb", "/a?b", "/a b", "/ä",
        ] {
            assert_eq!(mounted(&[wrong]).err(), Some(MountError::NoPrefix(wrong)));
        }
        for (one, other) in [("/a", "/a"), ("/a", "/a/b"), ("/a/b", "/a")] {
            assert_eq!(mounted(&[one, other]).err(), Some(MountError::Overlap(other, one)));
        }
        assert!(mounted(&["/a", "/ab", "/b/a", "/b/ab", "/v1.0/x_y-z"]).is_ok());
    }

    #[test]
    fn the_severest_consequence_applies() {
        assert_eq!(Then::after(Rejection::Network).max(Then::Unread), Then::Leave);
        assert_eq!(Then::after(Rejection::Ambiguous("")).max(Then::Unread), Then::Close);
        assert_eq!(
            Then::after(Rejection::TooManyRequests(std::time::Duration::ZERO)).max(Then::Unread),
            Then::Unread
        );
    }
}
