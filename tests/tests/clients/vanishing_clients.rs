//! Clients that start programs and vanish, by the hundred: afterwards there is not one process, descriptor or
//! temporary file more than before, in the frontend and in the helper that listens.
//!
//! 300 connections that each start 3 programs and vanish. They close their TCP connection without a
//! close frame (RFC 6455, 7.1.1 wants one), some with unread data in it, which makes a reset of it (RFC 9293,
//! 3.6).
#![expect(clippy::expect_used, reason = "helpers of tests may fail the test")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use further_link_tests::processes::descriptors;
use further_link_tests::programs::{program, script};
use further_link_tests::wait::{holds_within, settled};
use further_link_tests::{Client, DEADLINE, Daemon};

const CONNECTIONS: usize = 300;
/// Connections at one time: 30 programs, as many as a busy device has.
const AT_ONCE: usize = 10;

/// How much there is of what could be left.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Footprint {
    /// Processes by name, zombies too.
    processes: BTreeMap<String, usize>,
    /// Of the frontend, and of the helper that listens.
    descriptors: [usize; 2],
    files: Vec<PathBuf>,
}

impl Footprint {
    fn of(daemon: &Daemon) -> Self {
        let mut processes = BTreeMap::new();
        let mut listener = None;
        for process in daemon.processes() {
            if process.parent == daemon.pid() {
                listener = Some(process.pid);
            }
            *processes.entry(process.name).or_default() += 1;
        }
        let listener = listener.expect("the frontend has a helper");
        Self {
            processes,
            descriptors: [daemon.pid(), listener].map(|pid| descriptors(pid).len()),
            files: daemon.temporary_files(),
        }
    }

    fn is_within(&self, before: &Self) -> bool {
        let fits =
            |(name, count): (&String, &usize)| before.processes.get(name).is_some_and(|most| count <= most);
        self.processes.iter().all(fits)
            && self.descriptors.iter().zip(before.descriptors).all(|(now, before)| *now <= before)
            && self.files.len() <= before.files.len()
    }
}

/// Starts three programs: one that waits for input, one that has said much, one whose children hide.
fn start_three(client: &mut Client) {
    client.send_start("cat", program("/usr/bin/cat"));
    client.send_start("much", script("#!/bin/sh\nyes | head -c 20000\nexec sleep 600\n"));
    client.send_start("hiding", script("#!/bin/sh\nsetsid sleep 600 &\necho hidden\nexec sleep 600\n"));
}

/// Connections `from..to`, at one time, which vanish at different moments.
fn vanish(daemon: &Daemon, from: usize, to: usize) {
    let mut clients: Vec<Client> = (from..to)
        .map(|number| {
            let mut client = daemon.run(if number % 4 == 0 { "pty=1" } else { "" });
            start_three(&mut client);
            client
        })
        .collect();
    for (number, client) in clients.iter_mut().enumerate() {
        // Every fifth goes before it has heard anything.
        if number % 5 != 0 {
            for id in ["cat", "much", "hiding"] {
                client.expect("started", |message| message["type"] == "started" && message["process"] == id);
            }
            client.wait_stdout("hiding", "hidden");
        }
    }
    drop(clients);
}

#[test]
fn hundreds_of_clients_that_vanish_leave_nothing() {
    let daemon = Daemon::builder().grace(0.5).start();
    // Threads, a spare helper and the like are there from the first connections on.
    vanish(&daemon, 0, AT_ONCE);
    let before = settled(2 * DEADLINE, Duration::from_secs(1), "calm", || Footprint::of(&daemon));
    for from in (0..CONNECTIONS).step_by(AT_ONCE) {
        vanish(&daemon, from, from + AT_ONCE);
    }
    let mut now = Footprint::of(&daemon);
    let as_before = holds_within(2 * DEADLINE, || {
        now = Footprint::of(&daemon);
        now.is_within(&before)
    });
    assert!(as_before, "{now:?}\nis more than\n{before:?}\n{}", daemon.log().tail());
    assert_eq!(daemon.run_once(program("/bin/true")).exit_code, 0);
}
