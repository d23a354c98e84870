//! Has another process make system calls of a test's choice, as if code of an intruder ran in it.
//!
//! By ptrace(2): the process is stopped in a call that waits, its registers are set for another one, and it
//! executes its own `syscall` instruction once more. What the kernel answers is what that process may do. For
//! x86-64 only.

use std::fs::File;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The instruction that makes a call.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// How far below the stack texts are written: the 128 bytes that the compiler may use without asking are
/// spared.
const TEXT_OFFSET: u64 = 8192;

/// An argument of a call.
#[derive(Clone, Copy, Debug)]
pub enum Argument<'a> {
    /// A number, or a null pointer.
    Number(i64),
    /// A pointer to this text, ended by a NUL. One for each call.
    Text(&'a str),
}

/// A process that is stopped, and goes on as it was when this is dropped.
#[derive(Debug)]
pub struct Stopped {
    pid: Pid,
    memory: File,
    saved: libc::user_regs_struct,
}

impl Stopped {
    /// Stops a process that waits in a system call.
    #[track_caller]
    pub fn new(pid: i32) -> Self {
        let memory = File::options().read(true).write(true).open(format!("/proc/{pid}/mem"));
        let memory = memory.unwrap_or_else(|error| panic!("the memory of {pid}: {error}"));
        let pid = Pid::from_raw(pid);
        ptrace::seize(pid, Options::empty()).expect("root may trace");
        ptrace::interrupt(pid).expect("it can be interrupted");
        let stop = waitpid(pid, Some(WaitPidFlag::__WALL)).expect("it stops");
        assert!(matches!(stop, WaitStatus::PtraceEvent(..)), "{stop:?}");
        let saved = ptrace::getregs(pid).expect("registers");
        let mut instruction = [0; 2];
        memory.read_exact_at(&mut instruction, saved.rip - 2).expect("its code");
        assert_eq!(instruction, SYSCALL, "it waits in a system call");
        Self { pid, memory, saved }
    }

    /// Makes the call. What it answers, or its error.
    #[track_caller]
    pub fn call(&self, number: i64, arguments: &[Argument<'_>]) -> Result<i64, Errno> {
        let mut registers = self.saved;
        let values: Vec<u64> = arguments.iter().map(|argument| self.value_of(*argument)).collect();
        let value = |index: usize| values.get(index).copied().unwrap_or(0);
        registers.rax = number.cast_unsigned();
        // No call to restart.
        registers.orig_rax = u64::MAX;
        registers.rip = self.saved.rip - 2;
        (registers.rdi, registers.rsi, registers.rdx) = (value(0), value(1), value(2));
        (registers.r10, registers.r8, registers.r9) = (value(3), value(4), value(5));
        ptrace::setregs(self.pid, registers).expect("registers");
        ptrace::step(self.pid, None).expect("it makes a step");
        let stop = waitpid(self.pid, Some(WaitPidFlag::__WALL)).expect("it stops again");
        assert_eq!(stop, WaitStatus::Stopped(self.pid, Signal::SIGTRAP), "call {number}");
        let answer = ptrace::getregs(self.pid).expect("registers").rax.cast_signed();
        match i32::try_from(-answer) {
            Ok(errno @ 1..4096) => Err(Errno::from_raw(errno)),
            _ => Ok(answer),
        }
    }

    fn value_of(&self, argument: Argument<'_>) -> u64 {
        match argument {
            Argument::Number(number) => number.cast_unsigned(),
            Argument::Text(text) => {
                let address = self.saved.rsp - TEXT_OFFSET;
                let bytes = [text.as_bytes(), b"\0"].concat();
                self.memory.write_all_at(&bytes, address).expect("its stack");
                address
            }
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let restored = ptrace::setregs(self.pid, self.saved).and_then(|()| ptrace::detach(self.pid, None));
        assert!(restored.is_ok() || std::thread::panicking(), "it goes on: {restored:?}");
    }
}
