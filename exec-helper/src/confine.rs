//! What processes of the root side deny themselves for good, once they need little. The watcher keeps a
//! list of system calls (seccomp(2)). The watcher and the worker of an upload keep some directories
//! (landlock(7)).
//!
//! The limits come after the change of account, and hold for this process and its children. The program
//! has none: the launcher was forked before. The watcher gives up files only before it removes those of
//! the run. With a parent that Landlock limits, a program could not ask to be traced (ptrace(2),
//! `PTRACE_TRACEME`), as it can in a terminal.
//!
//! A kernel without one of them goes without it. A call that is denied fails with EPERM, and does not end
//! the process. A watcher that dies leaves its run to be killed; a forgotten call should cost a line of
//! the log only.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use libc::{BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};
use nix::errno::Errno;
use rustix::fs::{Mode, OFlags};
use tracing::debug;

use crate::sys;

// --- Landlock

/// The rights that are controlled: all of the third version. Older kernels control those that they know.
const ALL_RIGHTS: u64 = (1 << 15) - 1;
/// From this version on files can be moved from one directory to another.
const FIRST_VERSION: i32 = 2;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const WRITE_FILE: u64 = 1 << 1;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_FILE: u64 = 1 << 8;
const MAKE_SOCKET: u64 = 1 << 9;
const MAKE_PIPE: u64 = 1 << 10;
const MAKE_LINK: u64 = 1 << 12;
const MOVE: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;

/// Reading files and directories.
pub(crate) const READ: u64 = READ_FILE | READ_DIR;
/// Removing files and directories with what is in them.
pub(crate) const REMOVE: u64 = READ_DIR | REMOVE_DIR | REMOVE_FILE;
/// What an upload makes, and what it keeps of a directory: programs leave sockets and named pipes in theirs.
const MAKE: u64 = MAKE_DIR | MAKE_FILE | MAKE_SOCKET | MAKE_PIPE | MAKE_LINK;
/// Everything that an upload does: neither executing files nor making devices is among it.
pub(crate) const WRITE: u64 = READ | REMOVE | WRITE_FILE | MAKE | MOVE | TRUNCATE;

/// Limits this process to these rights below these directories. A directory that is not there counts as the
/// one above it.
pub(crate) fn to_directories(allowed: &[(&Path, u64)]) -> io::Result<()> {
    let version = match sys::landlock_version() {
        Ok(version) if version >= FIRST_VERSION => version,
        Ok(_) | Err(Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EPERM) => {
            debug!("this kernel has no Landlock: files are guarded by their owners and modes alone");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    // The third version added the last right.
    let known = if version >= 3 { ALL_RIGHTS } else { ALL_RIGHTS & !TRUNCATE };
    let rules = sys::landlock_ruleset(known)?;
    for (path, rights) in allowed {
        let Some(directory) = open_nearest(path) else { continue };
        sys::landlock_allow(rules.as_fd(), directory.as_fd(), rights & known)?;
    }
    Ok(sys::landlock_restrict(rules.as_fd())?)
}

fn open_nearest(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    path.ancestors().find_map(|path| rustix::fs::open(path, flags, Mode::empty()).ok())
}

// --- seccomp

/// What the kernel calls the architecture (linux/audit.h), where the lists below are known.
const ARCHITECTURE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else if cfg!(target_arch = "arm") {
    Some(0x4000_0028)
} else {
    None
};

/// Calls of the watcher on every architecture: waiting, signals, /proc, removing files, the connection, the
/// log, memory, the end.
const CALLS: &[libc::c_long] = &[
    libc::SYS_ppoll,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_kill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_read,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_statx,
    libc::SYS_fstat,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_unlinkat,
    libc::SYS_fcntl,
    libc::SYS_recvmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_getpid,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_futex,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // The watcher limits itself further before it removes files.
    sys::LANDLOCK_CREATE_RULESET,
    sys::LANDLOCK_ADD_RULE,
    sys::LANDLOCK_RESTRICT_SELF,
];

/// The older forms of the same, and on a machine of 32 bits the newer ones.
#[cfg(target_arch = "x86_64")]
const MORE_CALLS: &[libc::c_long] =
    &[libc::SYS_poll, libc::SYS_newfstatat, libc::SYS_unlink, libc::SYS_rmdir, libc::SYS_readlink];
#[cfg(target_arch = "arm")]
const MORE_CALLS: &[libc::c_long] = &[
    libc::SYS_poll,
    libc::SYS_fstat64,
    libc::SYS_fstatat64,
    libc::SYS_fcntl64,
    libc::SYS__llseek,
    libc::SYS_unlink,
    libc::SYS_rmdir,
    libc::SYS_readlink,
    libc::SYS_sigreturn,
    // clock_gettime64, ppoll_time64, futex_time64: libc has no names for them here.
    403,
    414,
    422,
];
#[cfg(not(any(target_arch = "x86_64", target_arch = "arm")))]
const MORE_CALLS: &[libc::c_long] = &[libc::SYS_newfstatat];

#[cfg(target_arch = "arm")]
const MMAP: libc::c_long = libc::SYS_mmap2;
#[cfg(not(target_arch = "arm"))]
const MMAP: libc::c_long = libc::SYS_mmap;

/// Flags of open(2) that change something.
const CHANGING: u32 =
    (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND).cast_unsigned();
const EXECUTABLE: u32 = libc::PROT_EXEC.cast_unsigned();
/// Calls that are allowed while an argument does not have certain bits: call, argument, bits.
const CONDITIONAL: &[(libc::c_long, u32, u32)] = &[
    (libc::SYS_openat, 2, CHANGING),
    #[cfg(any(target_arch = "x86_64", target_arch = "arm"))]
    (libc::SYS_open, 1, CHANGING),
    (MMAP, 2, EXECUTABLE),
    (libc::SYS_mprotect, 2, EXECUTABLE),
];

/// Limits this process to the watcher's system calls.
pub(crate) fn to_calls_of_the_watcher() -> io::Result<()> {
    let Some(architecture) = ARCHITECTURE.filter(|_| cfg!(target_endian = "little")) else {
        debug!("no list of system calls for this architecture: they are not filtered");
        return Ok(());
    };
    match sys::set_seccomp_filter(&filter(architecture)?) {
        Err(Errno::ENOSYS | Errno::EINVAL) => {
            debug!("this kernel filters no system calls");
            Ok(())
        }
        outcome => Ok(outcome?),
    }
}

/// Allowed in any case, or while an argument does not have certain bits: the argument, the bits.
#[derive(Clone, Copy)]
enum Rule {
    Always,
    Without(u32, u32),
}

/// The program that the kernel runs at each system call (seccomp(2)). It searches by halves: when the kernel
/// takes a filter it tries every call that it has, and with one comparison after the other that was a tenth
/// of all the work of a helper.
fn filter(architecture: u32) -> io::Result<Vec<sock_filter>> {
    // Offsets in `struct seccomp_data`.
    const NUMBER: u32 = 0;
    const ARCH: u32 = 4;
    let number = |call: libc::c_long| u32::try_from(call).unwrap_or(u32::MAX);
    let always = CALLS.iter().chain(MORE_CALLS).map(|call| (number(*call), Rule::Always));
    let conditional = CONDITIONAL
        .iter()
        .map(|(call, argument, forbidden)| (number(*call), Rule::Without(*argument, *forbidden)));
    let rules: BTreeMap<u32, Rule> = always.chain(conditional).collect();
    let rules: Vec<_> = rules.into_iter().collect();
    let mut program = vec![load(ARCH), jump(IS, architecture, 1, 0), deny(), load(NUMBER)];
    program.extend(search(&rules)?);
    Ok(program)
}

const IS: u32 = BPF_JMP | BPF_JEQ | BPF_K;

/// Finds the number that is loaded among the rules, which are in order.
fn search(rules: &[(u32, Rule)]) -> io::Result<Vec<sock_filter>> {
    const ARGUMENTS: u32 = 16;
    let (lower, upper) = rules.split_at(rules.len() / 2);
    match (lower, upper) {
        (_, []) => Ok(vec![deny()]),
        ([], [(number, Rule::Always), ..]) => Ok(vec![jump(IS, *number, 0, 1), allow(), deny()]),
        ([], [(number, Rule::Without(argument, forbidden)), ..]) => {
            let has = BPF_JMP | BPF_JSET | BPF_K;
            // The lower half of the argument's 64 bits.
            let argument = load(ARGUMENTS + 8 * argument);
            Ok(vec![jump(IS, *number, 0, 3), argument, jump(has, *forbidden, 1, 0), allow(), deny()])
        }
        (_, [(first, _), ..]) => {
            let (lower, upper) = (search(lower)?, search(upper)?);
            let over_lower = u8::try_from(lower.len()).map_err(|_| Errno::E2BIG)?;
            let is_upper = jump(BPF_JMP | BPF_JGE | BPF_K, *first, over_lower, 0);
            Ok([vec![is_upper], lower, upper].concat())
        }
    }
}

fn load(offset: u32) -> sock_filter {
    jump(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0)
}

fn allow() -> sock_filter {
    jump(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0)
}

fn deny() -> sock_filter {
    jump(BPF_RET | BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned(), 0, 0)
}

fn jump(code: u32, k: u32, if_true: u8, if_false: u8) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or_default(), jt: if_true, jf: if_false, k }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use nix::sys::prctl;

    use super::*;

    /// A thread tries the limits, since they hold for one thread.
    fn confined<T: Send>(
        confine: impl FnOnce() -> io::Result<()> + Send,
        tried: impl FnOnce() -> T + Send,
    ) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                prctl::set_no_new_privs().unwrap();
                confine().unwrap();
                tried()
            });
            thread.join().unwrap()
        })
    }

    #[test]
    fn a_watcher_reads_waits_and_signals_and_does_nothing_else() {
        let file = std::env::temp_dir().join(format!("further-link-confine.{}", std::process::id()));
        fs::write(&file, "x").unwrap();
        let outcome = confined(to_calls_of_the_watcher, || {
            assert!(fs::read_to_string("/proc/thread-self/status").unwrap().contains("Seccomp:\t2"));
            assert_eq!(fs::read_to_string(&file).unwrap(), "x");
            assert!(fs::read_dir("/proc").unwrap().count() > 10);
            let memory: Vec<u8> = vec![1; 64 * 1024 * 1024];
            assert_eq!(memory.iter().map(|byte| u32::from(*byte)).sum::<u32>(), 64 * 1024 * 1024);
            nix::sys::signal::kill(nix::unistd::Pid::this(), None).unwrap();
            fs::remove_file(&file).unwrap();
            let errno = |outcome: io::Result<()>| outcome.unwrap_err().raw_os_error();
            [
                errno(fs::write(&file, "y")),
                errno(fs::File::options().read(true).write(true).open("/dev/null").map(drop)),
                errno(fs::create_dir(&file)),
                errno(fs::rename("/proc/self/status", &file)),
                errno(std::os::unix::net::UnixStream::pair().map(drop)),
                errno(std::net::TcpListener::bind("127.0.0.1:0").map(drop)),
                errno(rustix::thread::set_thread_uid(rustix::process::Uid::ROOT).map_err(io::Error::from)),
                errno(nix::unistd::chroot("/").map_err(io::Error::from)),
                errno(
                    rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::empty())
                        .map(drop)
                        .map_err(io::Error::from),
                ),
                errno(
                    rustix::process::pidfd_getfd(
                        rustix::process::pidfd_open(
                            rustix::process::getpid(),
                            rustix::process::PidfdFlags::empty(),
                        )
                        .unwrap(),
                        0,
                        rustix::process::PidfdGetfdFlags::empty(),
                    )
                    .map(drop)
                    .map_err(io::Error::from),
                ),
                errno(prctl::set_dumpable(true).map_err(io::Error::from)),
                errno(nix::unistd::execv(c"/bin/true", &[c"true"]).map(drop).map_err(io::Error::from)),
                errno(thread::Builder::new().spawn(|| ()).map(drop)),
            ]
        });
        assert_eq!(outcome, [Some(libc::EPERM); 13]);
        assert!(!file.exists());
    }

    #[test]
    fn a_process_reads_and_writes_only_below_its_directories() {
        if sys::landlock_version().is_ok_and(|version| version >= FIRST_VERSION) {
            let root = std::env::temp_dir().join(format!("further-link-landlock.{}", std::process::id()));
            let (written, read) = (root.join("written"), root.join("read"));
            for directory in [&written, &read] {
                fs::create_dir_all(directory).unwrap();
                fs::write(directory.join("file"), "x").unwrap();
            }
            let kinds = confined(
                || to_directories(&[(&written, WRITE), (&read, READ)]),
                || {
                    fs::write(written.join("new"), "y").unwrap();
                    fs::create_dir(written.join("directory")).unwrap();
                    fs::rename(written.join("new"), written.join("directory/moved")).unwrap();
                    assert_eq!(fs::read_to_string(read.join("file")).unwrap(), "x");
                    [
                        fs::write(read.join("file"), "y"),
                        fs::remove_file(read.join("file")),
                        fs::read("/etc/passwd").map(drop),
                        fs::read_dir("/").map(drop),
                        fs::write(root.join("beside"), "y"),
                        fs::rename(written.join("file"), root.join("out")),
                        std::os::unix::net::UnixListener::bind(root.join("socket")).map(drop),
                    ]
                    .map(|outcome| outcome.unwrap_err().kind())
                },
            );
            assert_eq!(kinds, [io::ErrorKind::PermissionDenied; 7]);
            fs::remove_dir_all(root).unwrap();
        } else {
            eprintln!(
                "SKIPPED: this kernel has no Landlock of version {FIRST_VERSION}, so NOTHING was tried"
            );
        }
    }
}
