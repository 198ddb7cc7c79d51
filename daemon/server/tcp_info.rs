//! The number of bytes that a client has acknowledged: the one system call of the server without a safe wrapper that
//! takes a shorter answer for one.
#![expect(unsafe_code, reason = "getsockopt for TCP_INFO has no safe wrapper that bears a short answer")]

use std::os::fd::{AsFd, AsRawFd};

/// Index of `tcpi_bytes_acked` in `struct tcp_info`, seen as numbers of eight bytes.
const BYTES_ACKED: usize = 15;

/// Returns how many bytes the client has acknowledged; none before Linux 4.2, and where the system only emulates this.
pub(super) fn bytes_acked(socket: impl AsFd) -> Option<u64> {
    let mut info = [0u64; BYTES_ACKED + 1];
    let size = u32::try_from(size_of_val(&info)).ok()?;
    let mut length: libc::socklen_t = size;
    // SAFETY: the descriptor is borrowed for the call, and the system writes at most `length` bytes to `info`, which has
    // as many; any bytes are valid numbers.
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
