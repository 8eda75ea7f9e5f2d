//! Steps of scans slot by slot.

use super::super::cursor::{Phase, SlotCursor};
use super::super::{Finish, Step};
use super::{cursor_of, finish, keys_of, node_id, plan_cursor, plan_words, snapshot};
use crate::resp::write;
use crate::slot::Slot;
use crate::topology::Snapshot;

const NEW: &str = "8.2.3";

fn three() -> Snapshot {
    snapshot(1, &[(0, 1), (5461, 2), (10_923, 3)])
}

/// A reply to EXEC: of SCAN if there is one, CLUSTER NODES and INFO.
fn unit(scan: Option<(&str, &[&str])>, slots: &str, version: &str, run: &str) -> String {
    let mut out = Vec::new();
    write::array(&mut out, 2 + usize::from(scan.is_some()));
    if let Some((cursor, keys)) = scan {
        write::array(&mut out, 2);
        write::bulk(&mut out, cursor.as_bytes());
        write::array(&mut out, keys.len());
        keys.iter()
            .for_each(|key| write::bulk(&mut out, key.as_bytes()));
    }
    let nodes = format!(
        "{} 127.0.0.1:1@2 myself,master - 0 0 5 connected {slots}\n",
        node_id(0)
    );
    write::bulk(&mut out, nodes.as_bytes());
    let info = format!("redis_version:{version}\r\nredis_mode:cluster\r\nrun_id:{run}\r\n");
    write::bulk(&mut out, info.as_bytes());
    String::from_utf8(out).unwrap()
}

fn page(cursor: &str, keys: &[&str], slots: &str) -> String {
    unit(Some((cursor, keys)), slots, NEW, "run")
}

/// Mode, slot, phase and position.
fn fields(cursor: &str) -> (u64, u64, u64, u64) {
    let bits: u64 = cursor.parse().unwrap();
    (bits & 3, bits >> 2 & 0x3fff, bits >> 16 & 1, bits >> 36)
}

fn request(step: &Step) -> String {
    String::from_utf8(step.request.clone())
        .unwrap()
        .split("\r\n")
        .filter(|line| !line.starts_with(['*', '$']))
        .collect::<Vec<_>>()
        .join(" ")
        .trim_end()
        .to_owned()
}

/// "foo" is in slot 12182, "bar" in 5061, "hello" in 866.
#[test]
fn s3_a_step_is_one_unit_and_goes_on_where_the_node_says() {
    let three = three();
    let step = plan_words(&[b"SCAN", b"0", b"COUNT", b"7"], &three).unwrap();
    assert!(step.is_unit());
    assert_eq!(
        request(&step),
        "MULTI SCAN 0 COUNT 7 CLUSTER NODES INFO server EXEC"
    );
    let native = (9 << 14 | 5061).to_string();
    let reply = finish(&step, &page(&native, &["hello", "bar"], "0-5460"), &three);
    assert_eq!(keys_of(&reply), ["hello", "bar"]);
    let cursor = cursor_of(&reply);
    assert_eq!(fields(&cursor), (1, 5061, 0, 9));
    let step = plan_cursor(&cursor, &three).unwrap();
    assert_eq!(
        request(&step),
        format!("MULTI SCAN {native} CLUSTER NODES INFO server EXEC")
    );
    // The node's end is the next one's beginning.
    let reply = finish(&step, &page("0", &["bar"], "0-5460"), &three);
    assert_eq!(fields(&cursor_of(&reply)), (1, 5461, 0, 0));
    let step = plan_cursor(&cursor_of(&reply), &three).unwrap();
    assert_eq!(step.slot().get(), 5461);
    let reply = finish(&step, &page("0", &["foo"], "5461-16383"), &three);
    assert_eq!(
        (cursor_of(&reply).as_str(), keys_of(&reply)),
        ("0", vec!["foo".to_owned()])
    );
}

#[test]
fn scenario_124_another_process_or_epoch_walks_the_slot_again() {
    let three = three();
    let first = plan_cursor("0", &three).unwrap();
    let native = (9 << 14 | 5061).to_string();
    let cursor = cursor_of(&finish(&first, &page(&native, &["bar"], "0-5460"), &three));
    let step = plan_cursor(&cursor, &three).unwrap();
    let restarted = unit(Some(("0", &["bar"])), "0-5460", NEW, "another");
    let raised = page("0", &["bar"], "0-5460").replace(" 5 connected", " 6 connected");
    for other in [restarted, raised] {
        let reply = finish(&step, &other, &three);
        assert_eq!(fields(&cursor_of(&reply)), (1, 5061, 0, 0));
        assert!(keys_of(&reply).is_empty());
    }
    let mut out = Vec::new();
    let moved = page("0", &["bar"], "0-5060");
    assert_eq!(
        step.finish(moved.as_bytes(), &three, &mut out),
        Finish::NotOwner
    );
    let reply = String::from_utf8(out).unwrap();
    assert_eq!(fields(&cursor_of(&reply)), (1, 5061, 0, 0));
}

#[test]
fn scenario_29_keys_of_slots_that_the_node_does_not_own_are_left_out() {
    let three = three();
    let step = plan_cursor("0", &three).unwrap();
    let reply = finish(
        &step,
        &page("0", &["hello", "bar", "foo"], "0-5060 6000"),
        &three,
    );
    assert_eq!(keys_of(&reply), ["hello"]);
    assert_eq!(
        fields(&cursor_of(&reply)),
        (1, 5061, 0, 0),
        "whose owner is asked next"
    );
}

#[test]
fn s8_a_slot_that_is_given_away_is_walked_at_both_nodes() {
    let three = three();
    let (target, open) = (node_id(2), format!("0-5460 [866->-{}]", node_id(2)));
    let step = plan_cursor("0", &three).unwrap();
    let reply = finish(&step, &page("0", &["hello", "bar"], &open), &three);
    assert_eq!(
        keys_of(&reply),
        ["hello"],
        "what comes later is walked later"
    );
    let cursor = cursor_of(&reply);
    assert_eq!(fields(&cursor), (1, 866, 1, 0));
    let whether = plan_cursor(&cursor, &three).unwrap();
    assert_eq!(request(&whether), "MULTI CLUSTER NODES INFO server EXEC");
    // Closed or in another process: from its beginning.
    for changed in [
        unit(None, "0-5460", NEW, "run"),
        unit(None, &open, NEW, "another"),
    ] {
        let reply = finish(&whether, &changed, &three);
        assert_eq!(fields(&cursor_of(&reply)), (1, 866, 0, 0));
    }
    let as_before = unit(None, &open, NEW, "run");
    let then = whether.finish(as_before.as_bytes(), &three, &mut Vec::new());
    let Finish::Then(step) = then else {
        panic!("{then:?}")
    };
    assert_eq!(step.node().map(|id| id.as_str()), Some(target.as_str()));
    assert_eq!(
        request(&step),
        "MULTI SCAN 866 CLUSTER NODES INFO server EXEC"
    );
    let of_target = page("0", &["hello", "foo"], "10923-16383").replace(&node_id(0), &target);
    let reply = finish(&step, &of_target, &three);
    assert_eq!(keys_of(&reply), ["hello"]);
    let cursor = cursor_of(&reply);
    assert_eq!(fields(&cursor), (1, 866, 1, SlotCursor::WALKED));
    // Or in several steps, between which it must be the same process.
    let native = (4 << 14 | 866).to_string();
    let part = of_target.replace("$1\r\n0\r\n", &format!("${}\r\n{native}\r\n", native.len()));
    let part = cursor_of(&finish(
        &step,
        &part.replace("$3\r\nfoo", "$5\r\nhello"),
        &three,
    ));
    assert_eq!(fields(&part), (1, 866, 1, 5));
    assert!(part.parse::<u64>().unwrap() < 1 << 53);
    let then = plan_cursor(&part, &three).unwrap();
    let Finish::Then(step) = then.finish(as_before.as_bytes(), &three, &mut Vec::new()) else {
        panic!("the target is asked")
    };
    assert_eq!(request(&step).split(' ').nth(2), Some(native.as_str()));
    assert_eq!(cursor_of(&finish(&step, &of_target, &three)), cursor);
    let restarted = of_target.replace("run_id:run", "run_id:new");
    assert_eq!(
        fields(&cursor_of(&finish(&step, &restarted, &three))),
        (1, 866, 0, 0)
    );
    let whether = plan_cursor(&cursor, &three).unwrap();
    assert_eq!(
        fields(&cursor_of(&finish(&whether, &as_before, &three))),
        (1, 867, 0, 0)
    );
    let closed = unit(None, "0-5460", NEW, "run");
    assert_eq!(
        fields(&cursor_of(&finish(&whether, &closed, &three))),
        (1, 866, 0, 0)
    );
}

#[test]
fn s9_a_pinned_slot_is_scanned_alone() {
    let three = three();
    let pinned = |cursor: &str| {
        plan_words(
            &[
                b"SCAN",
                cursor.as_bytes(),
                b"match",
                b"{foo}*",
                b"TYPE",
                b"string",
            ],
            &three,
        )
        .unwrap()
    };
    let step = pinned("0");
    assert_eq!(step.slot().get(), 12_182);
    assert_eq!(
        request(&step),
        "MULTI SCAN 0 match {foo}* TYPE string CLUSTER NODES INFO server EXEC"
    );
    let native = (3 << 14 | 12_182).to_string();
    let cursor = cursor_of(&finish(
        &step,
        &page(&native, &["{foo}1"], "10923-16383"),
        &three,
    ));
    let step = pinned(&cursor);
    assert_eq!(request(&step).split(' ').nth(2), Some(native.as_str()));
    let reply = finish(&step, &page("0", &["{foo}2"], "10923-16383"), &three);
    assert_eq!(
        (cursor_of(&reply).as_str(), keys_of(&reply)),
        ("0", vec!["{foo}2".to_owned()])
    );
    // A slot that is given away is looked for at both nodes, then the scan is over.
    let open = format!("10923-16383 [12182->-{}]", node_id(1));
    let cursor = cursor_of(&finish(&pinned("0"), &page("0", &[], &open), &three));
    assert_eq!(fields(&cursor), (1, 12_182, 1, 0));
    let walked = SlotCursor {
        phase: Phase::Target,
        position: SlotCursor::WALKED,
        ..SlotCursor::at(Slot::new(12_182).unwrap())
    };
    let print = cursor.parse::<u64>().unwrap() >> 17 & 0x7ffff;
    let walked = SlotCursor { print, ..walked }.encode().unwrap();
    let over = finish(
        &pinned(&walked.to_string()),
        &unit(None, &open, NEW, "run"),
        &three,
    );
    assert_eq!(cursor_of(&over), "0");
}

#[test]
fn s5_older_servers_and_those_that_do_not_tell_are_walked_node_by_node() {
    let three = three();
    let first = plan_cursor("0", &three).unwrap();
    let old = unit(Some(("1344", &["foo"])), "0-5460", "7.0.15", "run");
    let reply = finish(&first, &old, &three);
    assert_eq!(
        keys_of(&reply),
        ["foo"],
        "the first page is one of such a scan"
    );
    let cursor = cursor_of(&reply);
    assert_eq!(cursor.parse::<u64>().unwrap() & 3, 2);
    let step = plan_cursor(&cursor, &three).unwrap();
    assert!(!step.is_unit());
    assert_eq!(request(&step), "SCAN 1344");
    // In the middle, it begins anew.
    let in_slot = SlotCursor::at(Slot::new(77).unwrap()).encode().unwrap();
    let middle = plan_cursor(&in_slot.to_string(), &three).unwrap();
    let no_permission = "-EXECABORT Transaction discarded because of: NOPERM this user has no permissions to run the 'cluster|nodes' command\r\n";
    let no_multi = "-UNCERTAIN proxy: the node refused MULTI and may have executed the commands one by one\r\n";
    // Slot 12182 is before no cursor of slot 100: what says 8.2 is something else.
    let pretends = page("100", &["foo"], "0-16383");
    let backwards = page("5", &[], "0-16383");
    for reply in [&old[..], no_permission, no_multi, &pretends, &backwards] {
        let reply = finish(&middle, reply, &three);
        assert!(keys_of(&reply).is_empty());
        let step = plan_cursor(&cursor_of(&reply), &three).unwrap();
        assert_eq!((step.slot().get(), request(&step).as_str()), (0, "SCAN 0"));
    }
}

#[test]
fn errors_are_passed_on() {
    let three = three();
    let step = plan_cursor("0", &three).unwrap();
    let whole = page("0", &[], "0-16383");
    let bad = whole.replace("*2\r\n$1\r\n0\r\n*0\r\n", "-ERR syntax error\r\n");
    assert_eq!(finish(&step, &bad, &three), "-ERR syntax error\r\n");
    for (error, shown) in [
        (
            "-CLUSTERDOWN proxy: nobody\r\n",
            "-CLUSTERDOWN proxy: nobody\r\n",
        ),
        (
            "-EXECABORT Transaction discarded because of: BUSY Redis is busy\r\n",
            "-BUSY Redis is busy\r\n",
        ),
        ("*-1\r\n", "-ERR proxy: unexpected reply of a node\r\n"),
        (
            "*2\r\n*0\r\n*0\r\n",
            "-ERR proxy: unexpected reply of a node\r\n",
        ),
        (
            "*3\r\n*0\r\n$0\r\n\r\n$0\r\n\r\n",
            "-ERR proxy: unexpected reply of a node\r\n",
        ),
    ] {
        assert_eq!(finish(&step, error, &three), shown);
    }
    let too_far = ((1_u64 << 27) << 14 | 5).to_string();
    assert_eq!(
        finish(&step, &page(&too_far, &[], "0-16383"), &three),
        "-ERR proxy: SCAN position overflow\r\n"
    );
}
