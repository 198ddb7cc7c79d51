//! `TCP_INFO`: the number of bytes that a client has acknowledged. The one unsafe system call of the server, since the safe
//! wrappers of getsockopt assume that the kernel fills the whole struct, and older kernels fill less.
#![expect(unsafe_code, reason = "getsockopt for TCP_INFO has no safe wrapper that accepts a short result")]

use std::os::fd::{AsFd, AsRawFd};

/// Index of `tcpi_bytes_acked` in `struct tcp_info`, read as an array of `u64`.
const BYTES_ACKED: usize = 15;

/// Returns the number of bytes that the client has acknowledged; `None` before Linux 4.2, and on emulations of Linux that do
/// not count them.
pub(super) fn bytes_acked(socket: impl AsFd) -> Option<u64> {
    let mut info = [0u64; BYTES_ACKED + 1];
    let size = u32::try_from(size_of_val(&info)).ok()?;
    let mut length: libc::socklen_t = size;
    // SAFETY: the descriptor is borrowed for the call; the kernel writes at most `length` bytes, the size of `info`, and any
    // bit pattern is a valid `u64`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    (result == 0 && length == size).then_some(info[BYTES_ACKED]).filter(|bytes| *bytes > 0)
}
