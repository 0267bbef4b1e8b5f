//! The images that own the names.

use std::collections::HashMap;

use super::order::{Listed, is_undecided, unordered_groups};
use super::{Alias, Image};
use crate::finding::Problem;
use crate::{Architecture, Kind, Place};

/// The image that owns a name, by its position.
pub(super) type Owners = HashMap<(String, Kind, Architecture), usize>;

/// Assigns each name to the first image in the order of clients that has it, separately for each kind and architecture.
pub(super) fn assign_aliases(images: &[Listed], problems: &mut Vec<(Place, Problem)>) -> (Owners, Vec<Vec<Alias>>) {
    let unordered = unordered_groups(images);
    let mut owners = Owners::new();
    let mut given = Vec::new();
    for (position, listed) in images.iter().enumerate() {
        let Image { kind, architecture, .. } = listed.image;
        let written = listed.property("architecture").to_owned();
        let mut names = Vec::new();
        for alias in &listed.aliases {
            let full = format!("{alias}/{written}");
            for (name, native_only) in [(alias.clone(), true), (full, false)] {
                let owner = *owners.entry((name.clone(), kind, architecture)).or_insert(position);
                let other = &images[owner];
                if owner == position {
                    // Its own name for the second time.
                    if !names.iter().any(|alias: &Alias| alias.name == name) {
                        names.push(Alias { name, native_only });
                    }
                } else if native_only || other.aliases.contains(&name) {
                    let place = listed.image.place.without_item();
                    let owner = other.image.place.without_item();
                    if is_undecided(&unordered, listed, other) {
                        problems.push((
                            place,
                            Problem::AliasUndecided {
                                alias: name,
                                other: owner,
                            },
                        ));
                    } else if listed.image.place.product != owner.product {
                        problems.push((place, Problem::AliasTaken { alias: name, owner }));
                    }
                }
            }
        }
        given.push(names);
    }
    (owners, given)
}
