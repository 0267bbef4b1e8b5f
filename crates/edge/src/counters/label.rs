//! Labels with a closed set of values each.

use std::fmt;
use std::marker::PhantomData;

/// A label of a metric: a closed set of values.
pub trait Label: Copy + 'static {
    /// Every value.
    const ALL: &'static [Self];

    /// Returns the value in Prometheus's format.
    fn name(self) -> &'static str;

    /// Returns its index in [`Self::ALL`].
    fn place(self) -> usize;
}

/// The values of an enum with their names. A new variant must be named here.
#[macro_export]
macro_rules! label {
    ($type:ident { $($variant:ident = $name:literal),* $(,)? }) => {
        impl $crate::counters::label::Label for $type {
            const ALL: &'static [Self] = &[$(Self::$variant),*];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }

            fn place(self) -> usize {
                enum Place {
                    $($variant),*
                }
                match self {
                    $(Self::$variant => Place::$variant as usize),*
                }
            }
        }
    };
}
pub use label;

/// One of something for each value of a label.
pub struct LabelMap<L, T> {
    each: Box<[T]>,
    label: PhantomData<fn(L)>,
}

impl<L: Label, T: Default> Default for LabelMap<L, T> {
    fn default() -> Self {
        Self {
            each: L::ALL.iter().map(|_| T::default()).collect(),
            label: PhantomData,
        }
    }
}

impl<L: Label, T> LabelMap<L, T> {
    /// That of one value.
    pub fn of(&self, label: L) -> &T {
        &self.each[label.place()]
    }
}

impl<L, T: fmt::Debug> fmt::Debug for LabelMap<L, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.each).finish()
    }
}
