//! What is told of what was done: one [`exchange`] after the other.

pub mod access;
pub mod exchange;
pub mod tunnel;
