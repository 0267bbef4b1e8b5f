//! Metrics label for the endpoint of a request.

use edge::counters::label::{Label, label};
use edge::metrics::counts::EndpointId;

/// Route on the public port, or part of Incus's API on the admin port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "their names are the API's")]
pub enum Endpoint {
    /// Rejected request, or a path that is not public: [`EndpointId::REFUSED`].
    Refused,
    Alias,
    Aliases,
    Certificates,
    Cluster,
    Containers,
    Events,
    Export,
    /// A file of an image.
    File,
    Image,
    Images,
    Instances,
    Metadata,
    Metrics,
    NetworkAcls,
    NetworkAddressSets,
    NetworkAllocations,
    NetworkIntegrations,
    NetworkZones,
    Networks,
    Operations,
    Page,
    Profiles,
    Projects,
    Resources,
    Server,
    Simplestreams,
    StoragePools,
    StorageVolumes,
    VirtualMachines,
    Warnings,
    /// Any other path on the admin port.
    Other,
}

label!(Endpoint {
    Refused = "rejected",
    Alias = "alias",
    Aliases = "aliases",
    Certificates = "certificates",
    Cluster = "cluster",
    Containers = "containers",
    Events = "events",
    Export = "export",
    File = "file",
    Image = "image",
    Images = "images",
    Instances = "instances",
    Metadata = "metadata",
    Metrics = "metrics",
    NetworkAcls = "network-acls",
    NetworkAddressSets = "network-address-sets",
    NetworkAllocations = "network-allocations",
    NetworkIntegrations = "network-integrations",
    NetworkZones = "network-zones",
    Networks = "networks",
    Operations = "operations",
    Page = "page",
    Profiles = "profiles",
    Projects = "projects",
    Resources = "resources",
    Server = "server",
    Simplestreams = "simplestreams",
    StoragePools = "storage-pools",
    StorageVolumes = "storage-volumes",
    VirtualMachines = "virtual-machines",
    Warnings = "warnings",
    Other = "other",
});

impl From<Endpoint> for EndpointId {
    fn from(endpoint: Endpoint) -> Self {
        Self::of(endpoint)
    }
}

impl Endpoint {
    /// Returns the endpoint of a path on the admin port: the first segment after the version.
    pub fn of_admin(path: &str) -> Self {
        let Some(rest) = path.strip_prefix("/1.0") else {
            return Self::Other;
        };
        let mut segments = rest.split('/');
        match (segments.next(), segments.next()) {
            (Some(""), None | Some("")) => Self::Server,
            (Some(""), Some(segment)) => Self::of_segment(segment),
            _ => Self::Other,
        }
    }

    fn of_segment(segment: &str) -> Self {
        let is_it = |endpoint: &Self| {
            let is_the_public_ports = matches!(
                endpoint,
                Self::Alias
                    | Self::Aliases
                    | Self::Export
                    | Self::File
                    | Self::Image
                    | Self::Page
                    | Self::Refused
                    | Self::Server
                    | Self::Simplestreams
            );
            !is_the_public_ports && endpoint.name() == segment
        };
        Self::ALL.iter().copied().find(is_it).unwrap_or(Self::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_map_to_endpoint_labels() {
        for (path, name) in [
            ("/1.0", "server"),
            ("/1.0/", "server"),
            ("/1.0/images", "images"),
            ("/1.0/images/abc/export", "images"),
            ("/1.0/network-acls/x", "network-acls"),
            ("/1.0/alias", "other"),
            ("/1.0/refused", "other"),
            ("/1.0/whatever", "other"),
            ("/1.0x/images", "other"),
            ("/internal/sql", "other"),
            ("/", "other"),
            ("*", "other"),
        ] {
            assert_eq!(Endpoint::of_admin(path).name(), name, "{path}");
        }
    }

    #[test]
    fn the_default_endpoint_is_refused() {
        assert_eq!(EndpointId::from(Endpoint::Refused), EndpointId::REFUSED);
    }
}
