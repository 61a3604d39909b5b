//! Who is not let in, and what is too much.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use segue::cluster::{NotAgreed, raft};
use segue_bench::authority::Authority;
use tokio::runtime::Handle;

use super::lab::{Lab, Notes, leader, note, notes, stands, stop};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_certificates_of_the_mesh_that_name_their_node_are_let_in() {
    let (authority, another) = (Authority::new("the mesh").unwrap(), Authority::new("another").unwrap());
    let mut lab = Lab::new(3);
    lab.verify_name = true;
    for at in 0..3 {
        lab.set_keys(at, &authority.issue(&format!("n{}", at + 1)).unwrap());
    }
    let mut joined = lab.start_all().await;
    leader(&joined).await;
    note(&joined[0], "a").await;
    joined[2].stop().await;

    // Of another authority, and then with the name of another node.
    let named_n9 = authority.issue("n9").unwrap();
    let wrong = another.issue("n3").unwrap();
    for (files, reason) in [(wrong, "tls"), (named_n9, "wrong-name")] {
        lab.set_keys(2, &files);
        joined[2] = lab.start(2).await;
        let refused = async {
            while lab.counted(0, "segue_mesh_refusals_total", reason) < 1.0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(super::PATIENCE, refused)
            .await
            .unwrap_or_else(|_| panic!("not refused: {reason}"));
        stands(&joined[0], "n3 is not there", |standing| !standing.members[2].reachable).await;
        joined[2].stop().await;
    }
    note(&joined[0], "b").await;
    lab.set_keys(2, &authority.issue("n3").unwrap());
    joined[2] = lab.start(2).await;
    notes(&joined[2], &super::texts(&["a", "b"])).await;
    stop(&joined).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_or_from_nobody_costs_one_connection() {
    let mut lab = Lab::new(2);
    let joined = lab.start_all().await;
    leader(&joined).await;
    let one = &joined[0];
    let too_large = raft::BODY_BYTES_MAX + 1;
    for (head, status) in [
        (
            format!(
                "POST /word/0 HTTP/1.1\r\nhost: x\r\nsegue-node: n2\r\ncontent-length: {too_large}\r\n\r\n"
            ),
            "413",
        ),
        ("POST /hello HTTP/1.1\r\nhost: x\r\nsegue-node: n9\r\ncontent-length: 0\r\n\r\n".to_owned(), "403"),
        ("POST /hello HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".to_owned(), "400"),
    ] {
        let address = lab.address(0);
        let answer = tokio::task::spawn_blocking(move || asked(address, &head)).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {answer}");
    }
    let entry = "x".repeat(raft::ENTRY_BYTES_MAX);
    assert!(matches!(one.propose(entry).await, Err(NotAgreed::Failed(why)) if why.contains("too many")));
    one.say(vec![b'x'; raft::WORD_BYTES_MAX + 1].into());
    assert!(one.words().iter().all(|word| &*word.node != "n1"));
    assert_eq!(note(one, "all is well").await, 0);
    stop(&joined).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_another_node_is_not_taken() {
    let mut lab = Lab::new(2);
    let one = lab.start(0).await;
    one.stop().await;
    let mut settings = lab.settings(1);
    settings.folder = lab.folder(0);
    let error = raft::start::<Notes>(settings, &Handle::current()).await.err().unwrap().to_string();
    assert!(error.contains("is the log of node \"n1\", and this is \"n2\""), "{error}");
}

/// What comes back until the other end closes.
fn asked(address: std::net::SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
