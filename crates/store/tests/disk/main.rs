//! The store on real file systems. One binary, because linking takes longer than running.

mod bad_exports;
mod eviction;
mod followers;
mod incus;
mod kill;
mod ranges;
mod support;
mod trouble;
