//! HAProxy and Caddy.

use super::Contender;
use crate::Result;
use crate::site::Site;

pub(super) fn haproxy(_site: &Site, _cores: &[usize]) -> Result<Contender> {
    Err("not yet".into())
}

pub(super) fn caddy(_site: &Site, _cores: &[usize]) -> Result<Contender> {
    Err("not yet".into())
}
