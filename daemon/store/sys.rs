//! The unsafe code of the store: a few calls that have no safe form.
#![expect(
    unsafe_code,
    reason = "LMDB is a memory map, and neither sync_file_range nor a handler of faults has a safe wrapper"
)]

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

use heed::{Env, EnvFlags, EnvOpenOptions};

/// Opens the LMDB environment in `directory`, at its newest snapshot or at the one before.
pub(super) fn open_environment(directory: &Path, map_size: usize, previous: bool) -> heed::Result<Env> {
    let mut options = EnvOpenOptions::new();
    options.map_size(map_size).max_dbs(16).max_readers(1024);
    let snapshot = if previous { EnvFlags::PREV_SNAPSHOT } else { EnvFlags::empty() };
    // SAFETY: NO_META_SYNC leaves the sync of the meta page to `index::commit`, which does it before a change counts as
    // committed; the file is consistent without. PREV_SNAPSHOT only chooses which meta page is read.
    unsafe { options.flags(EnvFlags::NO_META_SYNC | snapshot) };
    // SAFETY: the map must not be changed by anyone who ignores LMDB's lock. Only this binary opens the
    // directory, it holds LMDB's lock for every write, and it never truncates the file.
    unsafe { options.open(directory) }
}

/// Makes an LMDB environment that is a single file, for a copy.
pub(super) fn open_environment_file(file: &Path, map_size: usize) -> heed::Result<Env> {
    let mut options = EnvOpenOptions::new();
    options.map_size(map_size).max_dbs(16);
    // SAFETY: NO_SUB_DIR only says what the path names. The file is made here and nobody else knows it, so that it needs
    // no lock, whose file would have holes that end the process on a full disk.
    unsafe { options.flags(EnvFlags::NO_SUB_DIR | EnvFlags::NO_LOCK).open(file) }
}

/// Asks the kernel to begin writing a range of a file to the disk and does not wait for it, so that the sync
/// at the end of a push has little left to do. A refusal is no error: that sync does the work then.
pub(super) fn begin_writeback(file: &File, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (offset.try_into(), length.try_into()) else { return };
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and no memory is passed.
    unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
}

/// The signals of a memory fault: a page of a map that is not in its file, or cannot be read, and an address without one.
const FAULTS: [c_int; 2] = [libc::SIGBUS, libc::SIGSEGV];

// The handler has no other way to its data. Each is written before the handler is installed, or replaced as a whole.
static MAP_START: AtomicUsize = AtomicUsize::new(0);
static MAP_END: AtomicUsize = AtomicUsize::new(0);
static MARKER: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());
static PREVIOUS: [AtomicPtr<libc::sigaction>; 2] =
    [AtomicPtr::new(ptr::null_mut()), AtomicPtr::new(ptr::null_mut())];
static INSTALL: Once = Once::new();

/// From now on a memory fault writes a line to stderr and makes the file `marker`, before it ends the process as it would
/// have. `map` is where the index is in memory.
pub(super) fn note_memory_faults(marker: &Path, map: Range<usize>) -> io::Result<()> {
    let marker = CString::new(marker.as_os_str().as_bytes())?;
    // It is never freed: the handler may read it at any time. A process opens few stores.
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
        // On the stack that Rust gives each thread for signals: the fault may be an overflow of the other one.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: both structures live across the calls; the handler only calls functions that are safe in one.
        let got = unsafe { libc::sigaction(signal, ptr::null(), &raw mut old) };
        previous.store(Box::into_raw(Box::new(old)), Ordering::Release);
        // SAFETY: as above.
        if got != 0 || unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Runs in a thread that has met a memory fault, in the middle of anything: it allocates nothing, takes no lock, and calls
/// only what POSIX allows in a handler.
extern "C" fn on_memory_fault(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    const OF_INDEX: &[u8] =
        b"holdfast: the index (index/data.mdb) was cut or cannot be read while it was in use; this \
process ends, and the next start inspects the index and repairs it\n";
    const ELSEWHERE: &[u8] =
        b"holdfast: memory fault, perhaps from a damaged index; this process ends, and the next start \
inspects the index and repairs it\n";
    // SAFETY: the kernel hands a valid `info` to a handler with SA_SIGINFO. The marker is a C string that is never freed,
    // or null. The previous action is what sigaction(2) gave, and is called as its flags say.
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
        // The default action, once this handler has returned.
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// Calls the handler that was there before: that of Rust says which thread has overflowed its stack.
///
/// # Safety
/// To be called in a handler, with its arguments and an action that sigaction(2) gave.
unsafe fn call_action(
    action: &libc::sigaction,
    signal: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    if action.sa_sigaction == libc::SIG_DFL || action.sa_sigaction == libc::SIG_IGN {
        return;
    }
    // SAFETY: the flags say which of the two kinds of function the address is.
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
