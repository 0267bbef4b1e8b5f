//! The paths of a simplestreams server.

/// What a path names. Nothing is decoded or normalized: clients write these paths as the documents spell them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Route<'a> {
    /// `/streams/v1/index.json`
    Index,
    /// `/streams/v1/images.json`
    Products,
    /// `/images/NAME`
    File(&'a str),
}

impl<'a> Route<'a> {
    pub(super) fn parse(path: &'a str) -> Option<Self> {
        match path {
            "/streams/v1/index.json" => Some(Self::Index),
            "/streams/v1/images.json" => Some(Self::Products),
            _ => path.strip_prefix("/images/").map(Self::File),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_paths_are_routes() {
        assert_eq!(Route::parse("/streams/v1/index.json"), Some(Route::Index));
        assert_eq!(Route::parse("/streams/v1/images.json"), Some(Route::Products));
        assert_eq!(Route::parse("/images/a.squashfs"), Some(Route::File("a.squashfs")));
        for other in [
            "/",
            "/streams",
            "/streams/v1/",
            "/streams/v1//index.json",
            "/images",
            "/streams/v1/index.sjson",
        ] {
            assert_eq!(Route::parse(other), None, "{other}");
        }
    }
}
