//! The order in which clients list images.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::Image;
use crate::Ftype;

/// An image with what decides its place in the order of clients.
pub(super) struct Listed {
    pub(super) image: Image,
    /// The names that the product has.
    pub(super) aliases: Vec<String>,
}

impl Listed {
    pub(super) fn property(&self, name: &str) -> &str {
        self.image.properties.get(name).map_or("", String::as_str)
    }
}

/// The properties by which clients sort before they look at the version.
const GROUPS: [&str; 3] = ["os", "release", "variant"];

pub(super) fn in_order_of_clients(a: &Listed, b: &Listed) -> Ordering {
    let preference = |listed: &Listed| {
        let root = Ftype::from(listed.property("type").to_owned());
        let roots = Ftype::KNOWN.iter().filter(|ftype| ftype.is_root());
        roots
            .enumerate()
            .find(|&(_, ftype)| *ftype == root)
            .map_or(0, |(nth, _)| nth)
    };
    let by = |property: &str| match (a.property(property), b.property(property)) {
        // Clients have no order for these two; see `is_undecided`.
        ("", b) if !b.is_empty() => Ordering::Greater,
        (a, "") if !a.is_empty() => Ordering::Less,
        (a, b) => a.cmp(b),
    };
    let groups = GROUPS.iter().map(|property| by(property)).find(|order| order.is_ne());
    groups
        .unwrap_or(Ordering::Equal)
        .then_with(|| by("serial").reverse())
        .then_with(|| by("architecture"))
        .then_with(|| preference(a).cmp(&preference(b)))
}

/// Returns the groups of images, by their common first properties, in which some have the next property and others lack it. To
/// clients the two are neither before nor after each other, and then the order of the whole group depends on chance.
pub(super) fn unordered_groups(images: &[Listed]) -> BTreeSet<Vec<&str>> {
    let mut seen: BTreeMap<Vec<&str>, (bool, bool)> = BTreeMap::new();
    for listed in images {
        let values = GROUPS.map(|property| listed.property(property));
        for (level, value) in values.iter().enumerate() {
            let (empty, set) = seen.entry(values[..level].to_vec()).or_default();
            *empty |= value.is_empty();
            *set |= !value.is_empty();
        }
    }
    let unordered = seen.into_iter().filter(|(_, (empty, set))| *empty && *set);
    unordered.map(|(group, _)| group).collect()
}

/// Returns whether chance decides which of the two clients put first.
pub(super) fn is_undecided(unordered: &BTreeSet<Vec<&str>>, a: &Listed, b: &Listed) -> bool {
    let common = GROUPS
        .iter()
        .take_while(|property| a.property(property) == b.property(property))
        .count();
    let group: Vec<&str> = GROUPS[..common].iter().map(|property| a.property(property)).collect();
    let in_unordered = (0..=group.len()).any(|level| unordered.contains(&group[..level]));
    in_unordered || in_order_of_clients(a, b).is_eq()
}
