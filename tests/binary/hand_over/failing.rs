//! A new process that fails, or is ended before it serves.

use super::*;

#[test]
fn a_program_that_fails_changes_nothing() {
    let mut setup = Setup::with(&[], &["--port-file", "ports", "--admin", "unix:./admin.sock"]);
    let ports_file = setup.folder.path().join("ports");
    let ports = || fs::read_to_string(&ports_file).unwrap_or_default();
    let before = until("the port file", || Some(ports()).filter(|text| !text.is_empty()));
    for (script, why) in [
        // It has written its number, too.
        ("echo 1 > pid; exit 7", "it ended before it served"),
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
    setup.serves();
    // One that has the listeners and then fails has not removed their files.
    let taken = setup.upstream.address;
    setup.replace_by_script(&format!("exec {TPROXY} \"$@\" -f {taken} -t 127.0.0.1:9"));
    setup.relay.signal(Signal::USR2);
    setup.relay.log.wait_for(&format!("cannot listen on {taken}"));
    setup.serves_its_file();
    setup.shows_its_inside();
    assert_eq!(ports(), before);
    // Nor that of --admin, if it is --metrics that fails.
    setup.replace_by_script(&format!("exec {TPROXY} \"$@\" --metrics {taken}"));
    setup.relay.signal(Signal::USR2);
    setup.relay.log.wait_for("--metrics: cannot listen on");
    until("the failed process to be forgotten", || {
        (setup.relay.log.with("does not take over").len() == 6).then_some(())
    });
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
    // It has written its number.
    setup.replace_by_script("echo 1 > pid; echo $$ > started; exec sleep 60");
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

/// It says that it serves when a stop request has come already: the relay stops, and leaves nobody behind.
#[test]
fn a_new_process_that_serves_too_late_is_ended() {
    // What is first, the loop decides.
    assert!((0..10).any(|_| is_too_late()), "a stop request is to be first at some time");
}

fn is_too_late() -> bool {
    let mut setup = Setup::new();
    let at = |name: &str| setup.folder.path().join(name);
    let look = "while [ ! -e go ]; do sleep 0.01; done";
    setup.replace_by_script(&format!("echo $$ > started; {look}; printf S >&0; echo > said; exec sleep 60"));
    setup.relay.signal(Signal::USR2);
    let new = until("the new process to start", || read_pid(&at("started")));
    setup.relay.signal(Signal::STOP);
    until("the relay to stand still", || setup.relay.stands_still().then_some(()));
    fs::write(at("go"), "").unwrap();
    until("the new process to say that it serves", || at("said").exists().then_some(()));
    setup.relay.signal(Signal::TERM);
    setup.relay.signal(Signal::CONT);
    setup.relay.code();
    let is_refused = setup.relay.log.lines().iter().any(|line| line.contains("this one was asked to stop"));
    let is_gone = || !Path::new(&format!("/proc/{new}")).exists();
    if is_refused {
        until("the new process to be gone", || is_gone().then_some(()));
    } else if !is_gone() {
        // It was first. Or it was ended by the signal, and is no case of this.
        let _ = kill_process(pid_of(new), Signal::KILL);
    }
    is_refused
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
