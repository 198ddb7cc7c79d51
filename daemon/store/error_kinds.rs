//! The classification of errors of the system.

use std::io;

/// Returns true for a lack of descriptors, memory or the like, which says nothing about the medium.
pub(super) fn is_lack_of_resources(error: &io::Error) -> bool {
    const CODES: [i32; 5] = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::EINTR];
    error.raw_os_error().is_some_and(|code| CODES.contains(&code))
}
