//! Inheritance of Nginx's directives.

use std::collections::HashSet;

use crate::directive::Directive;

/// The directives in effect at one place: its own, then those of each enclosing block.
#[derive(Clone, Debug)]
pub(crate) struct Scope<'a>(Vec<&'a [Directive]>);

impl<'a> Scope<'a> {
    /// Creates a scope from the directives of each level, the innermost first.
    pub(crate) fn of(levels: &[&'a [Directive]]) -> Self {
        Self(levels.to_vec())
    }

    /// Returns the scope of a block in this one.
    pub(crate) fn within(&self, directives: &'a [Directive]) -> Self {
        let mut levels = vec![directives];
        levels.extend(&self.0);
        Self(levels)
    }

    /// Returns the directives of this name on the innermost level that has one: a level replaces the outer ones.
    pub(crate) fn all(&self, name: &str) -> Vec<&'a Directive> {
        self.any_of(&[name])
    }

    /// Like [`Self::all`], for directives of one module that replace each other.
    pub(crate) fn any_of(&self, names: &[&str]) -> Vec<&'a Directive> {
        let on = |level: &&'a [Directive]| -> Vec<&'a Directive> {
            level
                .iter()
                .filter(|directive| names.contains(&directive.name.as_str()))
                .collect()
        };
        self.0
            .iter()
            .map(on)
            .find(|found| !found.is_empty())
            .unwrap_or_default()
    }

    pub(crate) fn first(&self, name: &str) -> Option<&'a Directive> {
        self.all(name).into_iter().next()
    }

    /// Returns the value of a directive with a single argument.
    pub(crate) fn value(&self, name: &str) -> Option<&'a str> {
        self.first(name).map(Directive::value)
    }

    /// Returns all directives in effect, without those that a directive of the same name on an inner level replaces.
    pub(crate) fn in_effect(&self) -> Vec<&'a Directive> {
        let mut found: Vec<&'a Directive> = Vec::new();
        let mut replaced: HashSet<&str> = HashSet::new();
        for level in &self.0 {
            found.extend(level.iter().filter(|outer| !replaced.contains(&*outer.name)));
            replaced.extend(level.iter().map(|directive| &*directive.name));
        }
        found
    }

    /// Returns the directives of this name on all levels, for `if` and others that accumulate.
    pub(crate) fn on_all_levels(&self, name: &str) -> impl Iterator<Item = &'a Directive> {
        self.0
            .iter()
            .copied()
            .flatten()
            .filter(move |directive| directive.name == name)
    }
}
