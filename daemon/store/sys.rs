//! The unsafe code of the store: early write-back (`sync_file_range`), and the signal handler for memory faults. The
//! mapping of the index is in `index/lmdb/mapping.rs`.
#![expect(unsafe_code, reason = "sync_file_range and signal handlers have no safe wrapper")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Asks the kernel to start write-back of a range of a file, without waiting, so that the sync at the end of a push has
/// little left to write. Errors are ignored: that sync does the work then.
pub(super) fn begin_writeback(file: &File, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (offset.try_into(), length.try_into()) else { return };
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and no memory is passed.
    unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
}

/// The signals of a memory fault: SIGBUS for a mapped page that is beyond the end of its file or cannot be read,
/// SIGSEGV for an unmapped address.
const FAULTS: [c_int; 2] = [libc::SIGBUS, libc::SIGSEGV];

// A signal handler takes no argument, so that its data is global. Each value is set before the handler is installed, or
// replaced atomically.
static MAP_START: AtomicUsize = AtomicUsize::new(0);
static MAP_END: AtomicUsize = AtomicUsize::new(0);
static MARKER: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());
static PREVIOUS: [AtomicPtr<libc::sigaction>; 2] =
    [AtomicPtr::new(ptr::null_mut()), AtomicPtr::new(ptr::null_mut())];
static INSTALL: Once = Once::new();

/// Installs a handler that writes a line to stderr and creates the file `marker` on a memory fault, and then lets the
/// signal end the process. `map` has the addresses of the mapped index.
pub(super) fn note_memory_faults(marker: &Path, map: Range<usize>) -> io::Result<()> {
    let marker = CString::new(marker.as_os_str().as_bytes())?;
    // Leaked on purpose: the handler may read it at any time. A process opens few stores.
    MARKER.store(marker.into_raw(), Ordering::Release);
    MAP_START.store(map.start, Ordering::Release);
    MAP_END.store(map.end, Ordering::Release);
    let mut installed = Ok(());
    INSTALL.call_once(|| installed = install_fault_handler());
    installed
}

fn install_fault_handler() -> io::Result<()> {
    for (signal, previous) in FAULTS.into_iter().zip(&PREVIOUS) {
        let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_memory_fault;
        // SAFETY: all zeros is a valid value of this C structure: no flags, an empty mask, the default action.
        let (mut action, mut old): (libc::sigaction, libc::sigaction) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        action.sa_sigaction = handler as usize;
        // Run on the alternate stack that Rust gives each thread: the fault may be an overflow of the normal one.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: both structures live across the calls; the handler calls async-signal-safe functions only.
        let got = unsafe { libc::sigaction(signal, ptr::null(), &raw mut old) };
        previous.store(Box::into_raw(Box::new(old)), Ordering::Release);
        // SAFETY: as above.
        if got != 0 || unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Handles a memory fault. Runs in the faulting thread at an arbitrary point: allocates nothing, takes no lock, and
/// calls async-signal-safe functions only.
extern "C" fn on_memory_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    const OF_INDEX: &[u8] =
        b"holdfast: the index (index/data.mdb) was cut or cannot be read while it was in use; this \
process ends, and the next start inspects and repairs the index\n";
    const ELSEWHERE: &[u8] =
        b"holdfast: memory fault, possibly from a corrupt index; this process ends, and the next start \
inspects and repairs the index\n";
    // SAFETY: with SA_SIGINFO the kernel passes a valid `info`. The marker is null or a C string that is never freed.
    // The previous action is the one that sigaction(2) returned, and is called as its flags demand.
    unsafe {
        let address = (*info).si_addr() as usize;
        let is_of_index =
            (MAP_START.load(Ordering::Acquire)..MAP_END.load(Ordering::Acquire)).contains(&address);
        let line = if is_of_index { OF_INDEX } else { ELSEWHERE };
        libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len());
        let marker = MARKER.load(Ordering::Acquire);
        if !marker.is_null() {
            let flags =
                libc::O_WRONLY | libc::O_CREAT | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
            let file = libc::open(marker, flags, 0o640);
            if file >= 0 {
                libc::close(file);
            }
        }
        let number = usize::from(signal == FAULTS[1]);
        let previous = PREVIOUS[number].load(Ordering::Acquire);
        if !is_of_index && !previous.is_null() {
            call_action(&*previous, signal, info, context);
        }
        // The raised signal takes its default action, and ends the process, when this handler returns.
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// Calls the handler that was installed before: Rust's own reports which thread overflowed its stack.
///
/// # Safety
/// Must be called in a signal handler, with its arguments and an action that sigaction(2) returned.
unsafe fn call_action(
    action: &libc::sigaction,
    signal: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    if action.sa_sigaction == libc::SIG_DFL || action.sa_sigaction == libc::SIG_IGN {
        return;
    }
    // SAFETY: the flags say which of the two signatures the function has.
    unsafe {
        if action.sa_flags & libc::SA_SIGINFO != 0 {
            let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                std::mem::transmute(action.sa_sigaction);
            handler(signal, info, context);
        } else {
            let handler: extern "C" fn(c_int) = std::mem::transmute(action.sa_sigaction);
            handler(signal);
        }
    }
}
