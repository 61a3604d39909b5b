//! Listening sockets over a restart: from the service manager, and from one sidecar to the next.

use std::{
    fs::{self, File},
    net::TcpListener,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use segue_bench::{
    child::{ChildProcess, wait_for},
    port,
    sidecar::Sidecar,
};

use crate::reload::{ask, dial, store};

const WAIT_MAX: Duration = Duration::from_secs(60);

fn config([link, admin, metrics]: [u16; 3]) -> String {
    format!(
        "[node]\nid = \"n1\"\nprotocol = \"redis\"\nstore = \"127.0.0.1:{}\"\nrelease = \"redis-8.0\"\n\
         [[link]]\nlisten = \"127.0.0.1:{link}\"\nto = \"store\"\n\
         [admin]\nlisten = \"127.0.0.1:{admin}\"\n[metrics]\nlisten = \"127.0.0.1:{metrics}\"\n",
        store(b'a')
    )
}

/// Passes sockets as systemd does: file descriptors 3, 4 and 5 of the process that `LISTEN_PID` names.
fn activate(folder: &Path, sockets: [TcpListener; 3]) -> ChildProcess {
    let [first, second, third] = sockets.map(OwnedFd::from);
    let script = "exec 3<&0 4>&1 5>&2 </dev/null >log 2>&1; LISTEN_FDS=3 LISTEN_PID=$$ exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_segue"), "run", "--config", "segue.toml"]);
    command.current_dir(folder).stdin(first).stdout(second).stderr(third);
    command.env("NOTIFY_SOCKET", folder.join("notify"));
    ChildProcess::spawn(&mut command).unwrap()
}

fn loopback() -> (TcpListener, u16) {
    let port = port::free().unwrap();
    (TcpListener::bind(("127.0.0.1", port)).unwrap(), port)
}

#[test]
fn sockets_of_the_service_manager_are_used_by_their_addresses() {
    let [(link, link_port), (admin, admin_port), (metrics, metrics_port)] = [(); 3].map(|()| loopback());
    // Before there is any process: the connection waits in the socket.
    let mut early = dial(link_port).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("segue.toml"), config([link_port, admin_port, metrics_port])).unwrap();
    let manager = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(WAIT_MAX)).unwrap();
    let told = || {
        let mut state = [0; 64];
        let length = manager.recv(&mut state).unwrap();
        String::from_utf8(state[..length].to_vec()).unwrap()
    };
    // In another order than the config's.
    let mut running = activate(folder.path(), [metrics, link, admin]);
    let log = || fs::read_to_string(folder.path().join("log")).unwrap_or_default();
    assert_eq!(ask(&mut early), Some(b'a'), "{}", log());
    assert_eq!(ask(&mut dial(link_port).unwrap()), Some(b'a'));
    assert_eq!(told(), "READY=1");

    let mut command = Command::new(env!("CARGO_BIN_EXE_segue"));
    command.args(["run", "--takeover", "--config", "segue.toml"]).current_dir(folder.path());
    command.env("NOTIFY_SOCKET", folder.path().join("notify")).stderr(Stdio::null());
    let mut successor = ChildProcess::spawn(&mut command).unwrap();
    assert_eq!((told(), told()), (format!("MAINPID={}", successor.pid()), "READY=1".to_owned()));
    assert!(wait_for(WAIT_MAX, || running.exited()).unwrap().unwrap().success(), "{}", log());
    assert_eq!(ask(&mut dial(link_port).unwrap()), Some(b'a'));
    assert!(successor.terminate().unwrap().success());
    assert_eq!(told(), "STOPPING=1");
    assert!(dial(link_port).is_none(), "a socket is still open");
}

#[test]
fn a_passed_socket_that_nobody_configures_is_an_error() {
    let [(link, link_port), (other, other_port), (metrics, metrics_port)] = [(); 3].map(|()| loopback());
    let folder = tempfile::tempdir().unwrap();
    let config = config([link_port, port::free().unwrap(), metrics_port]);
    fs::write(folder.path().join("segue.toml"), config).unwrap();
    let mut running = activate(folder.path(), [link, other, metrics]);
    let ended = wait_for(WAIT_MAX, || running.exited()).unwrap().expect("it runs");
    assert_eq!(ended.code(), Some(1));
    assert_eq!(
        fs::read_to_string(folder.path().join("log")).unwrap(),
        format!(
            "segue: the service manager passed sockets that no listen in the config is for: \
             127.0.0.1:{other_port}\n"
        )
    );
}

#[test]
fn a_passed_file_that_is_no_socket_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("segue.toml"), config(port::free_ports().unwrap())).unwrap();
    let script = "exec 3</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_segue"), "run", "--config", "segue.toml"]);
    let ended = command.current_dir(folder.path()).output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let told = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(told, "segue: the service manager's sockets: fd 3 is not a socket\n");
}

fn take_over(sidecar: &Sidecar) -> ChildProcess {
    let log = File::options().append(true).open(sidecar.folder().join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_segue"));
    command.args(["run", "--takeover", "--config", "segue.toml"]).current_dir(sidecar.folder());
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    ChildProcess::spawn(&mut command).unwrap()
}

/// The new config has a listener less and one more; all others are never closed.
#[test]
fn a_successor_may_have_another_config() {
    let [link, other, admin, metrics] = port::free_ports().unwrap();
    let config = config([link, admin, metrics]);
    let mut sidecar = Sidecar::start(Path::new(env!("CARGO_BIN_EXE_segue")), &config).unwrap();
    let mut client = dial(link).unwrap();
    assert_eq!(ask(&mut client), Some(b'a'));
    let changed = config.replace(&format!(":{link}"), &format!(":{other}"));
    fs::write(sidecar.folder().join("segue.toml"), changed).unwrap();
    let mut successor = take_over(&sidecar);
    let ended = wait_for(WAIT_MAX, || Ok((!sidecar.is_running()?).then_some(()))).unwrap();
    assert!(ended.is_some(), "{}", sidecar.log_text());
    assert_eq!(ask(&mut client), None);
    assert_eq!(ask(&mut dial(other).unwrap()), Some(b'a'));
    assert!(dial(link).is_none(), "a listener that is in no config listens");
    // The admin address came over.
    assert_eq!(sidecar.status().unwrap()["node"]["id"], "n1");
    assert!(successor.terminate().unwrap().success());
    assert!(!sidecar.folder().join("segue-state/control.sock").exists());
}

#[test]
fn where_nobody_runs_a_takeover_fails() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("segue.toml"), config(port::free_ports().unwrap())).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_segue"));
    command.args(["run", "--takeover", "--config", "segue.toml"]).current_dir(folder.path());
    let ended = command.output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let told = String::from_utf8(ended.stderr).unwrap();
    assert!(told.starts_with("segue: no sidecar hands over at segue-state/control.sock: "), "{told}");
}

#[test]
fn a_successor_that_does_not_start_changes_nothing() {
    let [link, admin, metrics] = port::free_ports().unwrap();
    let good = config([link, admin, metrics]);
    let mut sidecar = Sidecar::start(Path::new(env!("CARGO_BIN_EXE_segue")), &good).unwrap();
    let mut client = dial(link).unwrap();
    assert_eq!(ask(&mut client), Some(b'a'));
    let pid = sidecar.pid();
    // Not TOML; an address that can't be had: it has the sockets by then, and gives them back.
    for (wrong, told) in [
        (good.replace("[node]", "[node"), "TOML syntax"),
        (
            good.replace("127.0.0.1:", "192.0.2.1:").replace("store = \"192.0.2.1", "store = \"127.0.0.1"),
            "cannot listen on 192.0.2.1",
        ),
    ] {
        fs::write(sidecar.folder().join("segue.toml"), wrong).unwrap();
        let failed_before = sidecar.log_text().matches("the successor failed").count();
        assert!(Command::new("kill").args(["-USR2", &pid.to_string()]).status().unwrap().success());
        let failed = wait_for(WAIT_MAX, || {
            Ok((sidecar.log_text().matches("the successor failed").count() > failed_before).then_some(()))
        });
        assert!(failed.unwrap().is_some(), "{}", sidecar.log_text());
        assert!(sidecar.log_text().contains(told), "{}", sidecar.log_text());
        assert!(sidecar.is_running().unwrap());
        assert_eq!(ask(&mut client), Some(b'a'), "a link was cut");
        assert_eq!(ask(&mut dial(link).unwrap()), Some(b'a'));
    }
}

#[test]
fn without_a_mesh_an_operator_ends_what_an_upgrade_left() {
    let mut sidecar =
        Sidecar::start(Path::new(env!("CARGO_BIN_EXE_segue")), &config(port::free_ports().unwrap())).unwrap();
    sidecar.stop().unwrap();
    let kept = sidecar.folder().join("segue-state/spoken.json");
    fs::write(&kept, r#"{"release":"redis-6.0","who":"upgrade transaction 3"}"#).unwrap();
    sidecar.restart().unwrap();
    let spoken = || sidecar.translation().unwrap()["spoken"].clone();
    assert_eq!((&spoken()["release"], &spoken()["orphaned"]), (&"redis-6.0".into(), &true.into()));
    let log = sidecar.log_text();
    assert!(log.contains("links stay held to this release") && log.contains("segue translate auto"), "{log}");
    assert_eq!(sidecar.metric("segue_translation_spoken{release=\"redis-6.0\"}").unwrap(), Some(1.0));

    // Not by the way.
    let put = |change| sidecar.put_translation(&change).unwrap();
    assert_eq!(put(serde_json::json!({ "loss": "degrade" })).0, 200);
    assert_eq!(spoken()["release"], "redis-6.0");
    let (code, answer) = put(serde_json::json!({ "mode": "auto", "who": "ann" }));
    assert_eq!(code, 200, "{answer}");
    assert_eq!(spoken(), serde_json::Value::Null);
    assert!(!kept.exists());
    let changes = &sidecar.translation().unwrap()["changes"];
    assert_eq!(
        (&changes[0]["who"], &changes[0]["reason"]),
        (&"ann".into(), &"links are held to redis-6.0 no more".into())
    );
}
