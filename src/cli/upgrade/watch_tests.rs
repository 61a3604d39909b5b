use super::{super::tests::upgrading, *};

#[test]
fn lines_come_once_and_in_order() {
    let mut lines = Lines::default();
    let mut status = upgrading();
    let first = lines.of(&status);
    assert!(
        first.contains("Z upgrade 1, redis-6.0 to redis-8.0: rolling\n")
            && first.contains("Z next: n2: stop the store"),
        "{first}"
    );
    assert_eq!(lines.of(&status), "");
    for text in ["gate-before begins", "gate-before is done"] {
        let line = JournalLine {
            at_ms: 1,
            transaction: 1,
            node: Some("n2".to_owned()),
            action: None,
            text: text.to_owned(),
        };
        status.journal.insert(0, line);
    }
    assert_eq!(
        lines.of(&status),
        "1970-01-01T00:00:00Z n2: gate-before begins\n1970-01-01T00:00:00Z n2: gate-before is done\n"
    );
    let gone = Failure::failed("gone");
    assert_eq!((lines.away(&gone).as_str(), lines.away(&gone).as_str()), ("segue: gone\n", ""));
}
