//! Which errors mean that a file of the store is damaged.

use std::io;

use crate::counters::DropReason;

/// What an error tells about a file. `None` if it tells more about this machine, such as a lack of memory or descriptors.
pub(crate) fn damage(error: &io::Error) -> Option<DropReason> {
    use rustix::io::Errno;
    match error.kind() {
        io::ErrorKind::UnexpectedEof => return Some(DropReason::WrongSize),
        io::ErrorKind::NotFound => return Some(DropReason::Missing),
        io::ErrorKind::InvalidData => return Some(DropReason::WrongHash),
        _ => {}
    }
    let damages = [
        Errno::IO,
        Errno::ACCESS,
        Errno::PERM,
        Errno::LOOP,
        Errno::STALE,
        Errno::ISDIR,
        Errno::NXIO,
        Errno::BADMSG,
        Errno::UCLEAN,
    ];
    let errno = Errno::from_io_error(error)?;
    damages.contains(&errno).then_some(DropReason::Unreadable)
}
