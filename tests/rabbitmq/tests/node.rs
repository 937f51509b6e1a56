//! A node starts, stops and cleans up after itself.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    env,
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Command, Stdio},
};

use palfrey_rabbitmq::{NodeError, NodeOptions};

/// Set in a copy of this test program that owns a node and is killed.
const OWNER: &str = "PALFREY_TEST_NODE_OWNER";

fn answers(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[test]
fn a_node_keeps_its_data_when_killed_and_loses_it_when_dropped() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let node = NodeOptions::new().name("keeps-data").folder(folder.path()).start().unwrap();
    assert!(answers(node.port()));
    node.ctl(["add_vhost", "kept"]).unwrap();

    node.kill().unwrap();
    assert!(!answers(node.port()));
    assert!(matches!(node.stop(), Err(NodeError::NotRunning(_))));

    node.restart().unwrap();
    assert!(answers(node.port()));
    assert!(node.ctl(["list_vhosts"]).unwrap().contains("kept"));

    let port = node.port();
    drop(node);
    assert!(!answers(port));
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "the folder is empty again");
}

#[test]
fn a_name_or_a_port_in_use_and_a_bad_name_are_refused_with_the_reason() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = || NodeOptions::new().name("taken").folder(folder.path());
    let node = options().start().unwrap();

    let error = options().start().unwrap_err().to_string();
    assert!(error.contains("node `taken` already runs in"), "{error}");

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let error = NodeOptions::new().folder(folder.path()).port(port).start().unwrap_err().to_string();
    assert!(error.starts_with(&format!("port {port} is in use by another program")), "{error}");

    let error = NodeOptions::new().name("No Name").start().unwrap_err();
    assert!(matches!(error, NodeError::Name(_)), "{error}");
    assert!(answers(node.port()), "the first one runs on");

    let error = NodeOptions::new().folder(folder.path()).configuration("nonsense = 1").start().unwrap_err();
    let NodeError::Start { log, .. } = error else { panic!("{error}") };
    assert!(log.contains("nonsense"), "{log}");
}

#[test]
fn a_node_does_not_outlive_an_owner_that_is_killed() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut owner = Command::new(env::current_exe().unwrap())
        .args(["--exact", "owner_that_is_killed", "--nocapture"])
        .env(OWNER, folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(owner.stdout.take().unwrap()).lines();
    let port: u16 =
        output.find_map(|line| line.unwrap().strip_prefix("port ").map(|port| port.parse().unwrap())).unwrap();
    assert!(answers(port));

    owner.kill().unwrap();
    owner.wait().unwrap();
    // Each connection ends when the node does; the next one finds the port closed, or the last that the dying node took.
    let ends = |mut connection: TcpStream| connection.read_to_end(&mut Vec::new()).ok();
    let connections = (0..3).map_while(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()).filter_map(ends);
    assert!(connections.count() < 3 && !answers(port));
}

/// Not a test by itself: the part of the owner in the test above.
#[test]
fn owner_that_is_killed() {
    let Some(folder) = env::var_os(OWNER) else { return };
    let node = NodeOptions::new().folder(folder).start().unwrap();
    println!("\nport {}", node.port());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    unreachable!("it is killed before");
}
