//! Partial resyncs: by which id and offset a replica asks, and what becomes of it.

use bytes::Bytes;
use segue_wire::{Effect, Effects, LossPolicy, Mode, Refusal, Side, StreamKey};

use crate::link::{BRANCH, EMPTY_12, ID, Link, MARK, branch_key, command, trunk_key};

const DOUBTFUL: Bytes = Bytes::from_static(&[0]);
const BRANCHED_OFF: Bytes = Bytes::from_static(&[2]);
/// A replica that counts as its master does, and has not all.
const INCOMPLETE: Bytes = Bytes::from_static(&[0x83]);

/// A link that a replica dials anew, with what was saved of the stream it asks for.
fn redialled(saved: Option<Bytes>, id: &str, offset: usize) -> Link {
    let mut link = Link::new(LossPolicy::Refuse);
    link.saved[0] = saved;
    link.handshake(id, &(offset + 1).to_string());
    link
}

fn asks(link: &mut Link, psync: &str) -> bool {
    link.master_got().ends_with(&command(&format!("PSYNC {psync}")))
}

#[test]
fn a_branch_goes_on_where_the_replica_stopped() {
    let mut link = Link::streaming(LossPolicy::Refuse);
    let set = command("SET k v PXAT 1999999999999");
    link.master(&set);
    let said = link.replica_got().len();
    let effects = link.finish();
    let [Effect::Save(key, saved)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(*key, branch_key());

    // It had all of it: the master goes on after the command.
    let mut next = redialled(Some(saved.clone()), BRANCH, 100 + said);
    assert!(asks(&mut next, &format!("{ID} {}", 101 + set.len())));
    next.replica_got();
    next.master("+CONTINUE\r\n");
    next.master(command("SET a b"));
    assert_eq!(next.replica_got(), format!("+CONTINUE {BRANCH}\r\n{}", command("SET a b")));
    assert!(next.effects.iter().any(|effect| matches!(effect, Effect::Save(..))));

    // It had nothing of it: the master says it again.
    assert!(asks(&mut redialled(Some(saved.clone()), BRANCH, 100), &format!("{ID} 101")));

    // An offset inside the translation, or a doubtful state: a full sync, never a guess.
    assert!(asks(&mut redialled(Some(saved.clone()), BRANCH, 102), "? -1"));
    assert!(asks(&mut redialled(Some(DOUBTFUL), BRANCH, 100), "? -1"));
    // Without a state the master says itself that it knows no such stream.
    assert!(asks(&mut redialled(None, BRANCH, 100), &format!("{BRANCH} 101")));
}

#[test]
fn by_the_masters_own_id_a_replica_goes_on_unless_that_is_in_doubt() {
    let mut next = redialled(None, ID, 54);
    assert!(asks(&mut next, &format!("{ID} 55")));
    next.replica_got();
    let new_id = "f".repeat(40);
    next.master(format!("+CONTINUE {new_id}\r\n"));
    assert_eq!(next.replica_got(), format!("+CONTINUE {new_id}\r\n"));
    assert!(next.finish().is_empty(), "there is nothing to keep");
    assert!(asks(&mut redialled(Some(DOUBTFUL), ID, 54), "? -1"));
}

#[test]
fn where_the_counts_would_part_the_link_ends_first() {
    let open = || Link::open(Some("redis-6.2"), Some("redis-8.0.2"), Mode::Auto, LossPolicy::Refuse);
    let mut link = open();
    link.handshake(ID, "101");
    link.master("+CONTINUE\r\n");
    link.replica_got();
    let claim = command("XCLAIM s g c 0 1-1 TIME 5 RETRYCOUNT 1 FORCE JUSTID LASTID 1-1");
    link.master(command("SET k v PXAT 1999999999999") + &claim + &command("DEL k"));
    assert_eq!(link.replica_got(), command("SET k v PXAT 1999999999999"));
    let saved = Effect::Save(trunk_key(ID), BRANCHED_OFF);
    assert_eq!(link.effects[link.effects.len() - 2..], [saved, Effect::Close]);
    assert_eq!(link.notes.len(), 2, "nothing was translated: {:?}", link.notes);
    assert!(link.finish().is_empty());

    let mut next = open();
    next.saved[0] = Some(BRANCHED_OFF);
    next.handshake(ID, "151");
    assert!(asks(&mut next, &format!("{ID} 151")));
    next.replica_got();
    next.master("+CONTINUE\r\n".to_owned() + &claim);
    let said = next.replica_got();
    assert!(said.starts_with(&format!("+CONTINUE {BRANCH}\r\n")) && said.contains("EVAL"), "{said}");

    // The master has gone too far meanwhile: this time it is told at once, or it would never end.
    let mut next = open();
    next.saved[0] = Some(BRANCHED_OFF);
    next.handshake(ID, "151");
    next.master(format!("+FULLRESYNC {ID} 900\r\n"));
    assert!(next.replica_got().ends_with(&format!("+FULLRESYNC {BRANCH} 900\r\n")));
    let mut first = open();
    first.handshake("?", "-1");
    first.master(format!("+FULLRESYNC {ID} 900\r\n"));
    assert!(first.replica_got().ends_with(&format!("+FULLRESYNC {ID} 900\r\n")));
}

#[test]
fn a_sidecar_that_was_killed_left_where_the_replica_stands() {
    let mut link = Link::streaming(LossPolicy::Refuse);
    link.master(command("SET a b"));
    let equal = link.saved_branch().unwrap();
    let (plain, set) = (command("SET a b").len(), command("SET k v PXAT 1999999999999"));
    link.master(&set);
    link.master(command("SET a b"));
    let shifted = link.saved_branch().unwrap();
    let said = link.replica_got().len();

    // The replica has all, or stopped before the translated command.
    for (saved, has, master) in [
        (&shifted, said, plain + set.len() + plain),
        (&shifted, said - plain, plain + set.len()),
        (&shifted, plain, plain),
        (&equal, plain, plain),
    ] {
        let mut next = redialled(Some(saved.clone()), BRANCH, 100 + has);
        assert!(asks(&mut next, &format!("{ID} {}", 101 + master)), "replica at {has}");
    }
    // It has more than the journal knows: the host crashed, and the end of the journal with it.
    assert!(asks(&mut redialled(Some(equal), BRANCH, 100 + said), "? -1"));
}

#[test]
fn what_a_send_relies_on_is_saved_before_it() {
    let mut link = Link::new(LossPolicy::Refuse);
    link.saved[0] = Some(BRANCHED_OFF);
    link.handshake(ID, "101");
    let mut feed = |text: &str| {
        let mut out = Effects::new();
        link.session.feed(Side::Listener, &mut text.as_bytes().into(), &mut out).unwrap();
        out.drain().collect::<Vec<_>>()
    };
    let begun = feed("+CONTINUE\r\n");
    let [Effect::Save(trunk, _), Effect::Save(branch, _), Effect::Send(Side::Dialer, _)] = &begun[..] else {
        panic!("{begun:?}")
    };
    assert_eq!((trunk, branch), (&trunk_key(ID), &branch_key()));
    for text in ["SET a b", "SET k v PXAT 1999999999999"] {
        let fed = feed(&command(text));
        assert!(matches!(&fed[..], [Effect::Append(..), Effect::Send(Side::Dialer, _)]), "{fed:?}");
    }
}

#[test]
fn the_state_before_is_kept_until_the_replica_is_known_to_follow_the_new_one() {
    let mut link = Link::streaming(LossPolicy::Refuse);
    link.master(command("SET k v PXAT 1999999999999"));
    let saved = link.saved_branch();
    let mut next = redialled(saved.clone(), BRANCH, 100);
    next.effects.clear();
    let new_id = "f".repeat(40);
    next.master(format!("+CONTINUE {new_id}\r\n"));
    assert!(next.effects.contains(&Effect::Forget(trunk_key(ID))), "the master's id is another now");
    assert!(!next.effects.contains(&Effect::Forget(branch_key())));
    next.replica(command("REPLCONF ACK 100"));
    assert_eq!(next.effects.last(), Some(&Effect::Forget(branch_key())));

    // Another follower of the same branch, a sub-replica: it is not its own to forget.
    let other = saved.unwrap().iter().map(|&byte| if byte == b'n' { b'm' } else { byte }).collect::<Vec<_>>();
    let mut next = redialled(Some(other.into()), BRANCH, 100);
    next.master("+CONTINUE\r\n");
    next.replica(command("REPLCONF ACK 100"));
    assert!(!next.effects.contains(&Effect::Forget(branch_key())));
}

#[test]
fn between_equal_releases_a_branch_means_nothing() {
    let same = || Link::open(Some("redis-8.0.2"), Some("redis-8.0.2"), Mode::Auto, LossPolicy::Refuse);
    let branch = {
        let mut link = Link::streaming(LossPolicy::Refuse);
        link.master(command("SET a b"));
        link.saved_branch().unwrap()
    };
    for (saved, id, psync, forgotten) in [
        (DOUBTFUL, ID, "? -1".to_owned(), vec![trunk_key(ID)]),
        (branch, BRANCH, "? -1".to_owned(), vec![branch_key(), trunk_key(ID)]),
        (BRANCHED_OFF, ID, format!("{ID} 101"), vec![trunk_key(ID)]),
        (INCOMPLETE, ID, "? -1".to_owned(), vec![trunk_key(ID)]),
    ] {
        let mut link = same();
        link.saved[0] = Some(saved);
        link.handshake(id, "101");
        assert!(asks(&mut link, &psync), "{id}");
        if psync == "? -1" {
            // Until the master gives it, what is known of the replica stays true.
            link.master("-LOADING not yet\r\n");
            link.replica(command(&format!("PSYNC {id} 101")));
            assert!(asks(&mut link, &psync) && !link.effects.contains(&Effect::Forget(forgotten[0].clone())));
            link.master("+FULLRESYNC x 0\r\n");
        }
        let forgotten = forgotten.into_iter().map(Effect::Forget);
        let last: Vec<_> = forgotten.chain([Effect::Splice]).collect();
        assert!(link.effects.ends_with(&last), "{:?}", link.effects);
    }
}

#[test]
fn a_replica_that_has_not_all_goes_on_only_while_losses_are_allowed() {
    let lost = command("HPEXPIREAT h 1999999999999 FIELDS 1 f");
    let saved_before_send = |link: &Link, key: &StreamKey| {
        let saved = link.effects.iter().rev().find_map(|effect| match effect {
            Effect::Save(saved, state) if saved == key => Some(state.clone()),
            _ => None,
        });
        saved.unwrap()
    };
    let asked = |release, on_loss, saved: &Bytes, id| {
        let mut next = Link::open(Some(release), Some("redis-8.0.2"), Mode::Auto, on_loss);
        next.saved[0] = Some(saved.clone());
        next.handshake(id, "101");
        next
    };
    for (release, id, key) in [("redis-7.0", ID, trunk_key(ID)), ("redis-6.0", BRANCH, branch_key())] {
        let open = |on_loss| Link::open(Some(release), Some("redis-8.0.2"), Mode::Auto, on_loss);
        let mut link = open(LossPolicy::Degrade);
        link.handshake("?", "-1");
        link.master(format!("+FULLRESYNC {ID} 100\r\n$EOF:{MARK}\r\n"));
        link.master([EMPTY_12, MARK.as_bytes()].concat());
        link.replica(command("REPLCONF ACK 100"));
        let saves = |link: &Link| link.effects.iter().filter(|e| matches!(e, Effect::Save(..))).count();
        let begun = saves(&link);
        link.master(command("SET a b"));
        assert_eq!(saves(&link), begun, "{release}: nothing is lost yet");
        link.master(&lost);
        let all = saves(&link);
        assert!(all > begun, "{release}");
        link.master(&lost);
        assert_eq!(saves(&link), all, "{release}: once is enough");

        let saved = saved_before_send(&link, &key);
        assert!(
            asks(&mut asked(release, LossPolicy::Degrade, &saved, id), &format!("{ID} 101")),
            "{release}"
        );
        let mut next = asked(release, LossPolicy::Refuse, &saved, id);
        assert!(asks(&mut next, "? -1"), "{release}");
        // The mark holds until the replica has the whole snapshot.
        next.master(format!("+FULLRESYNC {ID} 900\r\n$EOF:{MARK}\r\n"));
        assert!(!next.effects.contains(&Effect::Forget(trunk_key(ID))), "{release}");
        next.master([EMPTY_12, MARK.as_bytes()].concat());
        let forgotten = next.effects.contains(&Effect::Forget(trunk_key(ID)));
        let replaced = next.effects.contains(&Effect::Save(trunk_key(ID), BRANCHED_OFF));
        assert_eq!((forgotten, replaced), (release == "redis-7.0", release == "redis-6.0"));

        // Going on, it still lacks what it lacked.
        let mut next = asked(release, LossPolicy::Degrade, &saved, id);
        next.master("+CONTINUE\r\n");
        let kept = saved_before_send(&next, &key);
        assert_eq!(kept[0] & 0x80, 0x80, "{release}");
    }
    // With the translation off nothing better can be had.
    let mut off = Link::open(Some("redis-7.0"), Some("redis-8.0.2"), Mode::Off, LossPolicy::Refuse);
    off.saved[0] = Some(INCOMPLETE);
    off.handshake(ID, "101");
    assert!(asks(&mut off, &format!("{ID} 101")) && !off.effects.contains(&Effect::Forget(trunk_key(ID))));
}

#[test]
fn a_master_hands_over_only_to_a_replica_whose_count_never_differed() {
    for (releases, passes) in
        [(["redis-8.0.2", "redis-6.2"], "same"), (["redis-6.2", "redis-8.0.2"], "rewritten")]
    {
        let open = || Link::open(Some(releases[0]), Some(releases[1]), Mode::Auto, LossPolicy::Refuse);
        let mut link = open();
        link.saved[1] = Some(BRANCHED_OFF);
        link.handshake(ID, "101 FAILOVER");
        assert_eq!(*link.refusal(), Refusal::ShiftedOffsets, "{passes}");
        let mut link = open();
        link.handshake(ID, "101 FAILOVER");
        assert!(asks(&mut link, &format!("{ID} 101 FAILOVER")), "{passes}");
    }
}
