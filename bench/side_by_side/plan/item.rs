//! One kind of work, and its target.

use super::CATALOGUES;
use crate::comparison::Target;
use crate::load::Load;

/// One kind of work.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    /// The name for `--only`.
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) per: Per,
    pub(crate) port: Port,
    pub(crate) target: Option<Target>,
    /// Whether Nginx as in the guide takes part.
    pub(crate) with_guide: bool,
    /// Whether the floor takes part.
    pub(crate) with_floor: bool,
    /// Whether it is a download that stores and caches take part in, and not the other proxies.
    pub(crate) is_stored: bool,
    /// The maximum ratio to Nginx as in the guide.
    pub(crate) target_against_guide: Option<f64>,
    /// Whether it is repeated with all processes on both cores.
    again_on_both_cores: bool,
    pub(crate) load: Load,
}

/// The divisor of the cost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Per {
    Gigabyte,
    Request,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Port {
    Admin,
    /// The port in front of the catalogue with this number of images.
    Public(usize),
}

impl Item {
    pub(crate) fn new(name: impl Into<String>, title: impl Into<String>, per: Per, load: Load) -> Self {
        Self {
            name: name.into(),
            title: title.into(),
            per,
            port: Port::Public(CATALOGUES[0]),
            target: None,
            with_guide: false,
            with_floor: false,
            is_stored: false,
            target_against_guide: None,
            again_on_both_cores: false,
            load,
        }
    }

    pub(super) fn target(mut self, target: f64) -> Self {
        self.target = Some(Target::PartOfNginx(target));
        self
    }

    pub(super) fn with_guide(mut self, target: Option<f64>) -> Self {
        self.with_guide = true;
        self.target_against_guide = target;
        self
    }

    pub(super) fn with_floor(mut self) -> Self {
        self.with_floor = true;
        self
    }

    pub(super) fn of(mut self, images: usize) -> Self {
        self.port = Port::Public(images);
        self
    }

    pub(super) fn again_on_both_cores(mut self) -> Self {
        self.again_on_both_cores = true;
        self
    }

    /// Returns the same item in front of a real Incus.
    pub(super) fn in_front_of_incus(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self.with_guide = false;
        self
    }

    /// Returns the same item for stores and caches.
    pub(super) fn stored(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self.target = None;
        self.with_guide = false;
        self.with_floor = false;
        self.is_stored = true;
        self
    }

    /// Returns the same item on both cores; `None` if it is not repeated.
    pub(crate) fn on_both_cores(mut self) -> Option<Self> {
        self.name += "-both";
        self.with_guide = false;
        // The floor has only one thread.
        self.with_floor = false;
        self.again_on_both_cores.then_some(self)
    }
}
