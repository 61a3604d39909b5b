use super::*;
use crate::status::{
    ConfigStatus, Learned, LossCount, LossStatus, NodeStatus, SpokenStatus, TranslationStatus,
};

const NOW_UNIX_S: u64 = 1_800_000_000;

fn known(release: &str, learned: Learned) -> Option<KnownRelease> {
    Some(KnownRelease { release: release.to_owned(), learned })
}

fn idle() -> Status {
    Status {
        node: NodeStatus {
            id: "n1".to_owned(),
            protocol: "redis".to_owned(),
            store: Some("127.0.0.1:6401".to_owned()),
            release: known("redis-8.0", Learned::Probe),
            version: "0.1.0".to_owned(),
            uptime_s: 11_530,
        },
        config: ConfigStatus { loaded_at_unix_s: NOW_UNIX_S, last_error: None },
        translation: TranslationStatus {
            mode: "auto".to_owned(),
            loss: "refuse".to_owned(),
            spoken: None,
            changes: Vec::new(),
        },
        second_connection: "strip".to_owned(),
        links: Vec::new(),
        limits: Vec::new(),
        refusals: Vec::new(),
    }
}

#[test]
fn a_node_without_links() {
    let mut status = idle();
    status.node.release = None;
    status.second_connection = "translate".to_owned();
    assert_eq!(
        super::status(&status, NOW_UNIX_S),
        "node n1: redis store at 127.0.0.1:6401, release unknown\n\
         segue 0.1.0, up 3h 12m; translation auto, loss refuse, second connection translate\n\
         \n\
         no links\n"
    );
}

#[test]
fn what_an_upgrade_has_spoken_is_told_and_what_outranks_it() {
    let mut status = idle();
    let second_line = |status: &Status| {
        let text = super::status(status, NOW_UNIX_S);
        text.lines().nth(1).unwrap().to_owned()
    };
    let spoken = |in_force| {
        let (release, who) = ("redis-6.0".to_owned(), "upgrade transaction 3".to_owned());
        Some(SpokenStatus { release, who, in_force, orphaned: false })
    };
    status.translation.spoken = spoken(true);
    assert_eq!(
        second_line(&status),
        "segue 0.1.0, up 3h 12m; translation auto, held to redis-6.0 by upgrade transaction 3, loss refuse"
    );
    status.translation.mode = "off".to_owned();
    status.translation.spoken = spoken(false);
    assert_eq!(
        second_line(&status),
        "segue 0.1.0, up 3h 12m; translation off, not held to redis-6.0 by upgrade transaction 3: off outranks it, \
         loss refuse"
    );
}

#[test]
fn limits_are_shown_with_how_near_they_are() {
    let mut status = idle();
    let limit = |limit: &str, max, used, hits| LimitStatus { limit: limit.to_owned(), max, used, hits };
    status.limits =
        vec![limit("links_max", 20_000, Some(17), 0), limit("handshake_timeout_ms", 10_000, None, 3)];
    let text = super::status(&status, NOW_UNIX_S);
    let shown = "no links\n\n\
        LIMIT                 USED    MAX  HITS\n\
        links_max               17  20000     0\n\
        handshake_timeout_ms     -  10000     3\n";
    assert!(text.ends_with(shown), "{text}");
}

#[test]
fn a_reload_that_failed_is_told() {
    let mut status = idle();
    status.config.last_error = Some("segue.toml:3: no\nsegue.toml:4: no".to_owned());
    let text = super::status(&status, NOW_UNIX_S);
    let told = "config not reloaded:\n  segue.toml:3: no\n  segue.toml:4: no\n\nno links\n";
    assert!(text.ends_with(told), "{text}");
}

#[test]
fn links_and_refusals() {
    let rewritten = LinkStatus {
        id: 3,
        listen: "127.0.0.1:7401".to_owned(),
        dialer: EndStatus {
            peer: Some("n2".to_owned()),
            address: "127.0.0.1:40112".to_owned(),
            release: known("redis-6.0", Learned::Config),
            tls: Some("TLSv1.3".to_owned()),
        },
        listener: EndStatus {
            peer: Some("n1".to_owned()),
            address: "127.0.0.1:6401".to_owned(),
            release: known("redis-8.0", Learned::Probe),
            tls: None,
        },
        bus: false,
        verdict: "rewrite".to_owned(),
        target: Some("redis-6.0".to_owned()),
        unspoken: None,
        bytes_from_dialer: 1_234,
        bytes_from_listener: 3 << 20,
        messages_rewritten: 17,
        losses: 2,
        offset_shift_bytes: 120,
        own_offsets: true,
        held_bytes: 0,
        age_s: 61,
    };
    let new = LinkStatus {
        id: 12,
        dialer: EndStatus { peer: None, address: "10.0.0.9:51000".to_owned(), release: None, tls: None },
        bus: false,
        verdict: "handshake".to_owned(),
        target: None,
        bytes_from_dialer: 0,
        bytes_from_listener: 0,
        messages_rewritten: 0,
        losses: 0,
        offset_shift_bytes: 0,
        own_offsets: false,
        age_s: 0,
        ..rewritten.clone()
    };
    let refusal = |at_unix_s, reason: &str, detail: &str| RefusalStatus {
        at_unix_s,
        listen: "127.0.0.1:7401".to_owned(),
        peer: Some("n3".to_owned()),
        reason: reason.to_owned(),
        detail: detail.to_owned(),
    };
    let status = Status {
        links: vec![rewritten, new],
        refusals: vec![
            refusal(NOW_UNIX_S - 12, "unsupported-pair", "no translation from redis-8.0 to redis-4.0"),
            refusal(NOW_UNIX_S - 90_000, "something-new", "a\x1b[2Jb"),
        ],
        ..idle()
    };
    let expected = "\
node n1: redis store at 127.0.0.1:6401, redis-8.0 (probe)
segue 0.1.0, up 3h 12m; translation auto, loss refuse

LINK  DIALER → LISTENER                                    RELEASES                                VERDICT                 SENT →    ← SENT  REWRITTEN  LOSSES  SHIFT  HELD    AGE
   3  n2 (127.0.0.1:40112, TLSv1.3) → n1 (127.0.0.1:6401)  redis-6.0 (config) → redis-8.0 (probe)  rewrite to redis-6.0  1.21 KiB  3.00 MiB         17       2   +120   0 B  1m 1s
  12  10.0.0.9:51000 → n1 (127.0.0.1:6401)                 release unknown → redis-8.0 (probe)     handshake                  0 B       0 B          0       0      0   0 B     0s

refused, newest first:
  12s ago, 127.0.0.1:7401 with n3: unsupported-pair
    no translation from redis-8.0 to redis-4.0
    what to do: bring one of the two ends to a release in between
  1d 1h ago, 127.0.0.1:7401 with n3: something-new
    a\\u{1b}[2Jb
";
    assert_eq!(super::status(&status, NOW_UNIX_S), expected);
}

#[test]
fn no_losses() {
    assert_eq!(losses(&LossesStatus::default(), NOW_UNIX_S), "nothing was left out\n");
}

#[test]
fn losses_by_kind_and_one_by_one() {
    let one = |nth: u64| LossStatus {
        at_unix_s: NOW_UNIX_S - nth,
        kind: "hash-field-ttl".to_owned(),
        grade: "data".to_owned(),
        peer: Some("n2".to_owned()),
        what: "field TTLs of a hash".to_owned(),
        key: Some(format!("h{nth}")),
        db: 3,
    };
    let count = |kind: &str, grade: &str, peer: Option<&str>, count| LossCount {
        kind: kind.to_owned(),
        grade: grade.to_owned(),
        peer: peer.map(str::to_owned),
        count,
    };
    let status = LossesStatus {
        total: 23,
        counts: vec![
            count("hash-field-ttl", "data", Some("n2"), 22),
            count("stream-counters", "bookkeeping", None, 1),
        ],
        recent: (1..=22).map(one).collect(),
    };
    let text = losses(&status, NOW_UNIX_S);
    let (head, tail) = text.split_once("newest first:\n").unwrap();
    assert_eq!(
        head,
        "23 left out since start\n\n\
         KIND             GRADE        PEER  COUNT\n\
         hash-field-ttl   data         n2       22\n\
         stream-counters  bookkeeping  -         1\n\n"
    );
    let lines: Vec<_> = tail.lines().collect();
    assert_eq!(lines.len(), LOSSES_SHOWN_MAX + 1);
    let first = "  1s ago, n2: hash-field-ttl: field TTLs of a hash (key \"h1\" in database 3)";
    assert_eq!(lines.first(), Some(&first));
    assert_eq!(lines.last(), Some(&"  and 2 more: segue losses --json"));
}
