//! A new process that fails, or is ended before it serves.

use super::*;

#[test]
fn a_program_that_fails_changes_nothing() {
    let mut setup = Setup::with(&[], &["--port-file", "ports", "--admin", "unix:./admin.sock"]);
    let ports_file = setup.folder.path().join("ports");
    let ports = || fs::read_to_string(&ports_file).unwrap_or_default();
    let until_forgotten = |setup: &Setup, count: usize| {
        until("the failed process to be forgotten", || {
            (setup.relay.log.with("does not take over").len() == count).then_some(())
        });
    };
    let before = until("the port file", || Some(ports()).filter(|text| !text.is_empty()));
    for (script, why) in [
        // It has written its number to the pid file.
        ("echo $$ > pid; exit 7", "it ended before it served"),
        ("kill -9 $$", "it ended before it served"),
        // It says so before it may.
        ("echo x >&0; sleep 60", "it ended before it served"),
    ] {
        setup.replace_by_script(script);
        let known = setup.relay.log.with("does not take over").len();
        setup.relay.signal(Signal::USR2);
        let lines = until("the relay to go on", || {
            Some(setup.relay.log.with("does not take over")).filter(|lines| lines.len() > known)
        });
        assert!(lines[known].contains(why) && lines[known].contains("WARN"), "{lines:?}");
        setup.serves();
        setup.serves_its_file();
        setup.shows_its_inside();
        until("the pid file", || setup.pid_file.pid().filter(|pid| *pid == setup.relay.id()));
        // Nothing of it is left, not even a process that has ended and nobody has asked about.
        let id = setup.relay.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        let threads = fs::read_dir(format!("/proc/{id}/task")).unwrap().flatten();
        let all: String =
            threads.map(|it| fs::read_to_string(it.path().join("children")).unwrap_or_default()).collect();
        assert_eq!((children.as_str(), all.as_str()), ("", ""), "{script}");
    }
    setup.replace_program("/no/such/program");
    setup.relay.signal(Signal::USR2);
    assert!(setup.relay.log.wait_for("not handed over").contains("No such file"), "it says why");
    setup.serves();
    // One that cannot listen: its own routes, and a file in the way of its pid.
    setup.replace_by_script(&format!("exec {TPROXY} -f fd:99 -t 127.0.0.1:9"));
    setup.relay.signal(Signal::USR2);
    setup.relay.log.wait_for("fd:99: no such socket was inherited");
    until_forgotten(&setup, 4);
    setup.serves();
    // One that has the listeners and then fails has not removed their files.
    let taken = setup.upstream.address;
    setup.replace_by_script(&format!("exec {TPROXY} \"$@\" -f {taken} -t 127.0.0.1:9"));
    setup.relay.signal(Signal::USR2);
    setup.relay.log.wait_for(&format!("cannot listen on {taken}"));
    until_forgotten(&setup, 5);
    setup.serves_its_file();
    setup.shows_its_inside();
    assert_eq!(ports(), before);
    // One whose --metrics fails has not removed the file of --admin.
    setup.replace_by_script(&format!("exec {TPROXY} \"$@\" --metrics {taken}"));
    setup.relay.signal(Signal::USR2);
    setup.relay.log.wait_for("--metrics: cannot listen on");
    until_forgotten(&setup, 6);
    setup.shows_its_inside();
    // And it can still be done.
    setup.replace_program(TPROXY);
    setup.relay.signal(Signal::USR2);
    setup.successor_of(setup.relay.id());
    assert_eq!(setup.relay.status().code(), Some(0));
    setup.serves();
    setup.shows_its_inside();
}

#[test]
fn a_stop_signal_ends_the_new_process_if_it_does_not_serve_yet() {
    let mut setup = Setup::new();
    let near = client(setup.address);
    let far = setup.upstream.accept();
    // It has written its number to the pid file.
    setup.replace_by_script("echo $$ > pid; echo $$ > started; exec sleep 60");
    setup.relay.signal(Signal::USR2);
    let started = setup.folder.path().join("started");
    let new = until("the new process to start", || read_pid(&started));
    setup.relay.signal(Signal::TERM);
    // As long as the old process drains, the file has its number.
    until("the pid file", || setup.pid_file.pid().filter(|pid| *pid == setup.relay.id()));
    finish(&near);
    finish(&far);
    assert_eq!(setup.relay.code(), 0);
    until("the new process to be gone", || (!Path::new(&format!("/proc/{new}")).exists()).then_some(()));
    assert!(!setup.socket().exists());
}

#[test]
fn a_reload_waits_until_the_new_process_serves() {
    let mut setup = Setup::new();
    setup.replace_by_script("echo $$ > started; exec sleep 60");
    setup.relay.signal(Signal::USR2);
    until("the new process to start", || read_pid(&setup.folder.path().join("started")));
    for signal in [Signal::HUP, Signal::USR2] {
        setup.relay.signal(signal);
        let name = if signal == Signal::HUP { "SIGHUP" } else { "SIGUSR2" };
        setup.relay.log.wait_for(&format!("{name} is ignored: another process is taking over"));
    }
    setup.serves();
    setup.relay.signal(Signal::TERM);
    assert_eq!(setup.relay.code(), 0);
}
