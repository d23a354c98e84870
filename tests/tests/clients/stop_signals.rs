//! What a stop sends, in which order, and to which end: the requests `Stop` and `Signal` of PROTOCOL.md, on a
//! helper alone.
//!
//! How a stop looks to clients is tested in `cleanup.rs`.

use further_link_proto::{ExitStatus, Request, Signal};
use further_link_tests::helper_only::{HelperOnly, Running, frontend};

/// Python that says which of the signals it gets, and goes on.
const LISTENER: &[u8] = b"import signal, sys, time
def note(number, frame):
    print(signal.Signals(number).name)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, note)
print('ready')
while True:
    time.sleep(600)
";

#[track_caller]
fn start(helper: &HelperOnly, terminal: bool, text: &[u8]) -> Running {
    let run = frontend::with_text("python3", text.len());
    let run = if terminal { frontend::on_terminal(run) } else { run };
    let mut running = helper.connect().start(&run, text);
    assert_eq!(running.read_line().trim_end(), "ready");
    running
}

#[test]
fn a_signal_is_only_sent() {
    let helper = HelperOnly::start();
    let mut running = start(&helper, false, LISTENER);
    for (signal, name) in
        [(Signal::Interrupt, "SIGINT"), (Signal::Terminate, "SIGTERM"), (Signal::HangUp, "SIGHUP")]
    {
        running.frontend.send(&Request::Signal(signal));
        assert_eq!(running.read_line(), format!("{name}\n"));
    }
    running.frontend.send(&Request::Signal(Signal::Kill));
    assert_eq!(running.frontend.wait_exited(), ExitStatus::Signaled(9));
}

/// G1: `finally` and `atexit` run, which SIGTERM alone would skip.
#[test]
fn python_tidies_up_when_a_stop_sends_sigint_first() {
    let helper = HelperOnly::start();
    let text = b"import atexit, time\natexit.register(print, 'released')\ntry:\n    print('ready')\n    time.sleep(600)\nfinally:\n    time.sleep(0.5)\n    print('finally')\n";
    let mut running = start(&helper, false, text);
    running.frontend.send(&Request::Stop { first: Some(Signal::Interrupt) });
    assert_eq!(running.read_line(), "finally\n");
    assert_eq!(running.read_line(), "released\n");
    assert_eq!(running.frontend.wait_exited(), ExitStatus::Signaled(2));
}

#[test]
fn the_usual_steps_follow_the_first_signal() {
    let helper = HelperOnly::start();
    let mut running = start(&helper, false, LISTENER);
    running.frontend.send(&Request::Stop { first: Some(Signal::Interrupt) });
    assert_eq!(running.read_line(), "SIGINT\n");
    assert_eq!(running.read_line(), "SIGTERM\n");
    assert_eq!(running.frontend.wait_exited(), ExitStatus::Signaled(9));
}

#[test]
fn a_stop_with_sigkill_leaves_out_the_rest_also_of_a_stop_that_has_begun() {
    let helper = HelperOnly::start();
    let mut running = start(&helper, false, LISTENER);
    running.frontend.send(&Request::Stop { first: None });
    assert_eq!(running.read_line(), "SIGTERM\n");
    running.frontend.send(&Request::Stop { first: Some(Signal::Kill) });
    assert_eq!(running.frontend.wait_exited(), ExitStatus::Signaled(9));
    assert_eq!(running.read_rest(), "");
}

/// F3: the terminal hangs up before the kill.
#[test]
fn a_terminal_hangs_up_before_the_kill() {
    let helper = HelperOnly::start();
    let mut running = start(&helper, true, LISTENER);
    running.frontend.send(&Request::Stop { first: None });
    for name in ["SIGTERM", "SIGHUP"] {
        assert_eq!(running.read_line().trim_end(), name);
    }
    assert_eq!(running.frontend.wait_exited(), ExitStatus::Signaled(9));
}
