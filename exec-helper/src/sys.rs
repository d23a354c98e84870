//! The only unsafe code of the root side: a few system calls that Rust cannot know to be harmless.
//!
//! Everything here relies on one fact, which `start` establishes at start and `fork` checks each time:
//! this process has **one thread**. Then the child of a fork has a complete copy of all locks and buffers
//! in a consistent state. It may allocate and open files, which is forbidden between fork and exec in a
//! threaded program.

#![expect(
    unsafe_code,
    reason = "fork, signal dispositions and inherited descriptors have no safe form; see each note"
)]

use std::{
    ffi::CStr,
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{
    errno::Errno,
    sys::signal::{SigSet, SigmaskHow, sigprocmask},
    unistd::{ForkResult, Pid},
};

/// The highest signal number of Linux (signal(7), `SIGRTMAX`).
const LAST_SIGNAL: libc::c_long = 64;

/// Room for one line of the shadow database: a name, a hash and seven numbers.
const SHADOW_ENTRY: usize = 4096;

/// Size of the kernel's set of signals in bytes: one bit for each.
const SIGNAL_SET: usize = 8;

/// Runs `child` in a new process, which exits with the returned code and never comes back here.
pub(crate) fn fork(child: impl FnOnce() -> u8) -> io::Result<Pid> {
    if !has_one_thread()? {
        return Err(io::Error::other("more than one thread: a forked child could not be trusted"));
    }
    // SAFETY: there is one thread (checked above), so the child may run any code, not only what is
    // async-signal-safe.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        // SAFETY: _exit has no precondition. It skips the parent's exit handlers, which are not the child's
        // to run.
        ForkResult::Child => unsafe { libc::_exit(child().into()) },
    }
}

fn has_one_thread() -> io::Result<bool> {
    // SAFETY: reads and writes no memory. A process with one thread has nothing to leave, and another one
    // may not (unshare(2)). Where a filter denies the call, the kernel is asked in another way.
    let nothing_to_leave = unsafe { libc::unshare(libc::CLONE_THREAD) } == 0;
    Ok(nothing_to_leave || threads()? == 1)
}

/// The link count of a process's task directory is two more than its threads (proc(5)).
fn threads() -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata("/proc/self/task")?.nlink().saturating_sub(2))
}

/// Gives every signal its default disposition and empties the mask, as a login would: both survive exec
/// (signal(7)).
pub(crate) fn reset_signals() -> nix::Result<()> {
    reset_most_signals();
    reset_last_signal()
}

/// All but SIGPIPE and the mask. For a process that goes on waiting: a write to a pipe without a reader is an
/// error there, and no end.
pub(crate) fn reset_most_signals() {
    (1..=LAST_SIGNAL).filter(|signal| *signal != libc::SIGPIPE.into()).for_each(reset);
}

/// The rest of it.
pub(crate) fn reset_last_signal() -> nix::Result<()> {
    reset(libc::SIGPIPE.into());
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

fn reset(signal: libc::c_long) {
    // The kernel's struct sigaction has another layout on each architecture. All are smaller than this,
    // and in all zeros mean SIG_DFL without flags and mask.
    let default = [0_u64; 8];
    // SAFETY: reads `default`, writes nothing, and the default disposition runs no code of ours. Past libc,
    // which keeps two real-time signals for itself and leaves them ignored in some parents' children. The
    // kernel refuses SIGKILL and SIGSTOP, which no process can change: the answer does not matter.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            &raw const default,
            std::ptr::null_mut::<u64>(),
            SIGNAL_SET,
        )
    };
}

/// Marks every descriptor from 3 up to be closed on exec, whatever code opened it (the class of
/// CVE-2024-21626).
pub(crate) fn close_others_on_exec() -> io::Result<()> {
    // SAFETY: this changes flags only and closes nothing, so no owner of a descriptor is surprised.
    let result = unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes, in the child of a fork, a descriptor whose owner is the parent's code.
pub(crate) fn close_in_child(descriptor: BorrowedFd<'_>) {
    // SAFETY: only closures of `fork` call this, in the child, which never returns to the descriptor's
    // owner. So no code uses or closes the number a second time.
    unsafe { libc::close(descriptor.as_raw_fd()) };
}

/// Undoes an ignored SIGCHLD that was inherited: with it, the kernel would reap children unseen (wait(2)).
pub(crate) fn reap_children_ourselves() {
    // SAFETY: the default disposition runs no code of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Leaves the session keyring that root's login may have given to this process for a new, empty one
/// (keyrings(7)).
pub(crate) fn leave_session_keyring() -> nix::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    let no_name = std::ptr::null::<libc::c_char>();
    // SAFETY: keyctl(2) with this operation reads a name or, as here, none.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, no_name) };
    match Errno::result(result) {
        // A kernel or a filter without keyrings: then the program has no way to one either.
        Ok(_) | Err(Errno::ENOSYS | Errno::EPERM) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// What the shadow database says of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shadow {
    /// `usermod -L` has put its mark before the password.
    pub(crate) locked: bool,
    /// The day since 1970 from which the account is expired.
    pub(crate) expires: Option<libc::c_long>,
}

/// Asks the name service for an account's entry; none if there is none, or if it may not be read.
pub(crate) fn shadow(name: &CStr) -> Option<Shadow> {
    let mut buffer = [0; SHADOW_ENTRY];
    let mut entry = MaybeUninit::<libc::spwd>::uninit();
    let mut found = std::ptr::null_mut();
    // SAFETY: all pointers are to live memory of the sizes given; the function writes nothing else.
    let result = unsafe {
        libc::getspnam_r(name.as_ptr(), entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &raw mut found)
    };
    if result != 0 || found.is_null() {
        return None;
    }
    // SAFETY: the call succeeded and `found` is not null, so the entry is filled in and its strings lie in
    // `buffer`.
    let (password, expires) = unsafe { (CStr::from_ptr((*found).sp_pwdp), (*found).sp_expire) };
    // "!" and "!!" alone mean that there never was a password: such an account logs in by key.
    let hash = password.to_bytes().trim_ascii_start();
    let locked = hash.starts_with(b"!") && hash.iter().any(|byte| *byte != b'!' && *byte != b'*');
    Some(Shadow { locked, expires: (expires >= 0).then_some(expires) })
}

/// Takes a descriptor that the service manager passed (`sd_listen_fds(3)`). Call it once, before any file is
/// opened.
pub(crate) fn inherited(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only asks; it answers EBADF if the number is not open.
    if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open (asked above), and at start nothing in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Whether the C library of this machine has a locale of this name, character classes included.
pub(crate) fn has_locale(name: &str) -> bool {
    let Ok(name) = std::ffi::CString::new(name) else { return false };
    // SAFETY: newlocale(3) reads the name, which ends with a NUL, and a null base means that a new object is
    // made.
    let locale = unsafe { libc::newlocale(libc::LC_CTYPE_MASK, name.as_ptr(), std::ptr::null_mut()) };
    if locale.is_null() {
        return false;
    }
    // SAFETY: newlocale has just made it, and this is its only user.
    unsafe { libc::freelocale(locale) };
    true
}

/// The system calls of landlock(7), with the same numbers on every architecture.
pub(crate) const LANDLOCK_CREATE_RULESET: libc::c_long = 444;
pub(crate) const LANDLOCK_ADD_RULE: libc::c_long = 445;
pub(crate) const LANDLOCK_RESTRICT_SELF: libc::c_long = 446;

/// The version of Landlock that the kernel has.
pub(crate) fn landlock_version() -> nix::Result<i32> {
    const VERSION: libc::c_uint = 1;
    let (no_rules, no_size) = (std::ptr::null::<u64>(), 0_usize);
    // SAFETY: with this flag the call reads no memory and changes nothing (landlock_create_ruleset(2)).
    let result = unsafe { libc::syscall(LANDLOCK_CREATE_RULESET, no_rules, no_size, VERSION) };
    Errno::result(result).map(|version| i32::try_from(version).unwrap_or(i32::MAX))
}

/// A new set of rules that controls these rights to files.
pub(crate) fn landlock_ruleset(rights: u64) -> io::Result<OwnedFd> {
    // The first field of `struct landlock_ruleset_attr`; the kernel takes the size for the version of the
    // struct.
    let size = size_of_val(&rights);
    let flags: libc::c_uint = 0;
    // SAFETY: the call reads `size` bytes of `rights`, which lives.
    let result = unsafe { libc::syscall(LANDLOCK_CREATE_RULESET, &raw const rights, size, flags) };
    let descriptor = RawFd::try_from(Errno::result(result)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it, close-on-exec, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Allows these rights below a directory.
pub(crate) fn landlock_allow(
    rules: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    rights: u64,
) -> nix::Result<()> {
    /// `struct landlock_path_beneath_attr`.
    #[repr(C, packed)]
    struct Beneath {
        rights: u64,
        directory: RawFd,
    }
    const PATH_BENEATH: libc::c_uint = 1;
    let rule = Beneath { rights, directory: directory.as_raw_fd() };
    let flags: libc::c_uint = 0;
    // SAFETY: the call reads the struct, which lives and has the kernel's layout; both descriptors are
    // borrowed.
    let result =
        unsafe { libc::syscall(LANDLOCK_ADD_RULE, rules.as_raw_fd(), PATH_BENEATH, &raw const rule, flags) };
    Errno::result(result).map(drop)
}

/// Has the rules hold for this process from now on. It must not be able to gain privileges (`no_new_privs`).
pub(crate) fn landlock_restrict(rules: BorrowedFd<'_>) -> nix::Result<()> {
    let flags: libc::c_uint = 0;
    // SAFETY: the call reads no memory; it only takes rights away.
    let result = unsafe { libc::syscall(LANDLOCK_RESTRICT_SELF, rules.as_raw_fd(), flags) };
    Errno::result(result).map(drop)
}

/// Has a filter decide on every system call of this process from now on (seccomp(2)).
pub(crate) fn set_seccomp_filter(filter: &[libc::sock_filter]) -> nix::Result<()> {
    let length = libc::c_ushort::try_from(filter.len()).map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the call reads `length` instructions of `filter`, which lives, and writes nothing; the kernel
    // checks them.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    Errno::result(result).map(drop)
}
