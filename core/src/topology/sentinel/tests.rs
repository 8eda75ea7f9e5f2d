use super::*;
use crate::resp::{Value, parse_value};

const RUN_ID: &str = "7e8760495f6953a103ef82a394e018f6de363f02";

fn at(text: &str) -> Address {
    text.parse().unwrap()
}

fn report(primary: &str, config_epoch: u64, sentinels: usize) -> Report {
    Report {
        primary: at(primary),
        run_id: None,
        config_epoch,
        sentinels,
        tilted: false,
    }
}

fn known(primary: &str, config_epoch: u64) -> Choice {
    Choice {
        primary: at(primary),
        run_id: None,
        config_epoch,
        votes: 2,
        is_quorum: true,
    }
}

fn is_quorum(reports: &[Report], terms: Terms<'_>) -> bool {
    choose(reports, terms).is_ok_and(|choice| choice.is_quorum)
}

fn chosen(reports: &[Report], terms: Terms<'_>) -> Result<String, NoChoice> {
    choose(reports, terms).map(|choice| choice.primary.to_string())
}

fn bulk<'a>(words: &[&'a str]) -> Value<'a> {
    Value::Array(
        words
            .iter()
            .map(|word| Value::Bulk(word.as_bytes()))
            .collect(),
    )
}

fn state<'a>(port: &'a str, epoch: &'a str) -> Value<'a> {
    bulk(&[
        "name",
        "m",
        "ip",
        "10.0.0.1",
        "port",
        port,
        "runid",
        RUN_ID,
        "flags",
        "master",
        "config-epoch",
        epoch,
        "num-slaves",
        "2",
        "num-other-sentinels",
        "2",
        "quorum",
        "2",
    ])
}

#[test]
fn n11_reads_the_primary_with_its_epoch() {
    let report = parse_primary(&state("6379", "7"), &bulk(&["10.0.0.1", "6379"]), false).unwrap();
    assert_eq!(
        report,
        Report {
            primary: at("10.0.0.1:6379"),
            run_id: Some(RUN_ID.to_owned()),
            config_epoch: 7,
            sentinels: 3,
            tilted: false,
        }
    );
}

#[test]
fn n13_a_node_that_is_being_promoted_has_not_the_run_id_of_the_former_primary() {
    let report = parse_primary(&state("6379", "8"), &bulk(&["10.0.0.2", "6379"]), true).unwrap();
    assert_eq!(report.primary, at("10.0.0.2:6379"));
    assert_eq!(report.run_id, None);
    assert!(report.tilted);
}

#[test]
fn n11_a_service_nobody_knows_is_told_apart_from_a_broken_reply() {
    let unknown = Value::Error(b"ERR No such master with that name");
    let parsed = parse_primary(&unknown, &Value::Null, false);
    assert_eq!(parsed, Err(ReplyProblem::UnknownService));
    assert_eq!(parse_sentinels(&unknown), Err(ReplyProblem::UnknownService));
    let odd = Value::Integer(3);
    assert_eq!(
        parse_primary(&odd, &bulk(&["10.0.0.1", "1"]), false),
        Err(ReplyProblem::Shape)
    );
    assert_eq!(parse_sentinels(&odd), Err(ReplyProblem::Shape));
}

#[test]
fn n20_addresses_nobody_can_connect_to_are_refused() {
    for (host, port) in [("", "6379"), ("?", "6379"), ("10.0.0.1", "0")] {
        let parsed = parse_primary(&state("6379", "1"), &bulk(&[host, port]), false);
        assert!(
            matches!(parsed, Err(ReplyProblem::Address(_))),
            "{host}:{port}"
        );
    }
}

#[test]
fn n20_a_primary_on_loopback_is_one_for_sentinels_there_only() {
    for (named, from, out_of_reach) in [
        ("127.0.0.1:6379", "10.0.0.1:26379", true),
        ("localhost:6379", "sentinel-1:26379", true),
        ("::1:6379", "10.0.0.1:26379", true),
        ("127.0.0.1:6379", "127.0.0.5:26379", false),
        ("10.0.0.2:6379", "127.0.0.1:26379", false),
        ("redis-1:6379", "sentinel-1:26379", false),
    ] {
        let (host, port) = named.rsplit_once(':').unwrap();
        let named = Address::new(host, port.parse().unwrap());
        assert_eq!(is_out_of_reach(&named, &at(from)), out_of_reach, "{named}");
    }
}

#[test]
fn n12_a_sentinel_is_known_by_its_run_id() {
    let info = b"# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\ntcp_port:1\r\n";
    assert_eq!(run_id(info), Some(&b"abc"[..]));
    assert_eq!(run_id(b"# Sentinel\r\nsentinel_masters:1\r\n"), None);
}

#[test]
fn n19_names_and_maps_are_understood() {
    let bytes = b"*1\r\n%3\r\n$2\r\nip\r\n$9\r\nsentinel2\r\n$4\r\nport\r\n$5\r\n26379\r\n$5\r\nflags\r\n$8\r\nsentinel\r\n";
    let (value, _) = parse_value(bytes).unwrap().unwrap();
    assert_eq!(parse_sentinels(&value), Ok(vec![at("sentinel2:26379")]));
}

#[test]
fn n19_a_name_and_an_address_are_one_server_if_the_process_is_one() {
    let called = |primary: &str, run_id: Option<&str>| Report {
        run_id: run_id.map(str::to_owned),
        ..report(primary, 1, 2)
    };
    let terms = Terms {
        configured: 2,
        ..Terms::default()
    };
    let (name, address) = ("server-1:6379", "10.0.0.1:6379");
    let both = [called(name, Some(RUN_ID)), called(address, Some(RUN_ID))];
    let choice = choose(&both, terms).unwrap();
    assert!(choice.is_quorum && choice.votes == 2);
    assert!(both.iter().all(|report| report.names(&choice)));
    for other in [None, Some("another")] {
        let two = [called(name, Some(RUN_ID)), called(address, other)];
        let disagreement = NoChoice::NoQuorum {
            agreed: 1,
            needed: 2,
        };
        assert_eq!(choose(&two, terms), Err(disagreement));
    }
    // One that calls the server as nobody else does has no say in where it is.
    for odd in 0..3 {
        let names = (0..3).map(|number| if number == odd { address } else { name });
        let three: Vec<Report> = names.map(|name| called(name, Some(RUN_ID))).collect();
        assert_eq!(chosen(&three, terms), Ok(name.to_owned()));
    }
}

#[test]
fn n26_tilt_is_read_from_info() {
    assert!(is_tilted(
        b"# Sentinel\r\nsentinel_masters:1\r\nsentinel_tilt:1\r\n"
    ));
    assert!(!is_tilted(
        b"# Sentinel\r\nsentinel_tilt:0\r\nsentinel_tilt_since_seconds:-1\r\n"
    ));
}

#[test]
fn n12_the_newest_configuration_that_a_majority_names_wins() {
    let terms = Terms {
        configured: 3,
        ..Terms::default()
    };
    let (old, new) = (report("10.0.0.1:1", 4, 3), report("10.0.0.2:1", 5, 3));
    let agree = [old.clone(), new.clone(), new.clone()];
    assert_eq!(chosen(&agree, terms).unwrap(), "10.0.0.2:1");
    // The leader of a failover is ahead of the others for a moment.
    let ahead = [old.clone(), old.clone(), new.clone()];
    assert_eq!(chosen(&ahead, terms).unwrap(), "10.0.0.1:1");
    assert!(is_quorum(&ahead, terms) && is_quorum(&agree, terms));
    // Two of three do not answer.
    assert_eq!(chosen(&agree[2..], terms).unwrap(), "10.0.0.2:1");
    assert!(!is_quorum(&agree[2..], terms));
    // One that was cut off comes back.
    let behind = [old, new.clone(), new];
    assert_eq!(chosen(&behind, terms).unwrap(), "10.0.0.2:1");
}

#[test]
fn n12_one_that_lies_is_outvoted_whatever_it_claims() {
    let terms = Terms {
        configured: 3,
        ..Terms::default()
    };
    let honest = report("10.0.0.1:1", 4, 3);
    for liar in [
        report("6.6.6.6:1", 99, 1),
        report("6.6.6.6:1", 99, 1_000_000),
    ] {
        let reports = [honest.clone(), liar, honest.clone()];
        assert_eq!(chosen(&reports, terms).unwrap(), "10.0.0.1:1");
    }
}

#[test]
fn n12_two_that_do_not_agree_choose_nobody() {
    let terms = Terms {
        configured: 3,
        ..Terms::default()
    };
    let reports = [report("10.0.0.1:1", 4, 3), report("10.0.0.2:1", 5, 3)];
    assert_eq!(
        chosen(&reports, terms),
        Err(NoChoice::NoQuorum {
            agreed: 1,
            needed: 2
        })
    );
    assert_eq!(chosen(&[], terms), Err(NoChoice::NoReport));
}

#[test]
fn n16_a_single_sentinel_that_is_left_is_believed_but_not_about_the_past() {
    let in_use = known("10.0.0.2:1", 5);
    let terms = Terms {
        configured: 3,
        current: Some(&in_use),
        ..Terms::default()
    };
    assert_eq!(
        chosen(&[report("10.0.0.2:1", 5, 3)], terms).unwrap(),
        "10.0.0.2:1"
    );
    // In the same configuration there is no other.
    assert!(chosen(&[report("10.0.0.3:1", 5, 3)], terms).is_err());
    assert_eq!(
        chosen(&[report("10.0.0.3:1", 6, 3)], terms).unwrap(),
        "10.0.0.3:1"
    );
    assert!(chosen(&[report("10.0.0.1:1", 4, 3)], terms).is_err());
    // All Sentinels were set up anew: their epochs begin again.
    let anew = [report("10.0.0.1:1", 0, 3), report("10.0.0.1:1", 0, 3)];
    assert_eq!(chosen(&anew, terms).unwrap(), "10.0.0.1:1");
}

#[test]
fn n10_the_operator_may_want_more_or_fewer_to_agree() {
    let reports = [
        report("10.0.0.1:1", 4, 5),
        report("10.0.0.1:1", 4, 5),
        report("10.0.0.2:1", 5, 5),
    ];
    let in_use = known("10.0.0.1:1", 4);
    let terms = |quorum| Terms {
        configured: 5,
        quorum: Some(quorum),
        current: Some(&in_use),
    };
    assert_eq!(chosen(&reports, terms(1)).unwrap(), "10.0.0.2:1");
    assert_eq!(chosen(&reports, terms(2)).unwrap(), "10.0.0.1:1");
    assert!(chosen(&reports, terms(5)).is_err());
}

#[test]
fn n26_a_tilted_sentinel_counts_only_if_no_other_answers() {
    let terms = Terms {
        configured: 2,
        quorum: Some(1),
        current: None,
    };
    let tilted = Report {
        tilted: true,
        ..report("10.0.0.9:1", 9, 2)
    };
    let sound = report("10.0.0.1:1", 4, 2);
    assert_eq!(
        chosen(&[tilted.clone(), sound], terms).unwrap(),
        "10.0.0.1:1"
    );
    assert_eq!(chosen(&[tilted], terms).unwrap(), "10.0.0.9:1");
}

#[test]
fn n14_events_of_other_services_are_not_of_interest() {
    for (channel, payload, concerned) in [
        ("+switch-master", "web 10.0.0.1 1 10.0.0.2 1", true),
        ("+switch-master", "webs 10.0.0.1 1 10.0.0.2 1", false),
        ("+sdown", "master web 10.0.0.1 1", true),
        ("+sdown", "master web2 10.0.0.1 1", false),
        (
            "+sdown",
            "slave 10.0.0.3:1 10.0.0.3 1 @ web 10.0.0.1 1",
            true,
        ),
        ("+sdown", "slave web 10.0.0.3 1 @ other 10.0.0.1 1", false),
        ("+odown", "master web 10.0.0.1 1 #quorum 2/2", true),
        ("+tilt", "#tilt mode entered", true),
        ("+sdown", "", false),
    ] {
        let found = concerns("web", channel.as_bytes(), payload.as_bytes());
        assert_eq!(found, concerned, "{channel} {payload}");
    }
}

#[test]
fn the_event_before_a_promotion_says_who_is_promoted_n14() {
    let announced = |channel: &str, payload: &str| {
        let announced = announcement("web", channel.as_bytes(), payload.as_bytes())?;
        Some((
            announced.promoted.to_string(),
            announced.primary.to_string(),
        ))
    };
    let found = |promoted: &str, primary: &str| Some((promoted.to_owned(), primary.to_owned()));
    assert_eq!(
        announced(
            ANNOUNCED_ON,
            "slave 10.0.0.2:6379 10.0.0.2 6379 @ web 10.0.0.1 6379"
        ),
        found("10.0.0.2:6379", "10.0.0.1:6379")
    );
    assert_eq!(
        announced(ANNOUNCED_ON, "slave [::2]:1 ::2 1 @ web ::1 1"),
        found("[::2]:1", "[::1]:1")
    );
    for (channel, payload) in [
        ("+promoted-slave", "slave a:1 a 1 @ web b 1"),
        (ANNOUNCED_ON, "slave a:1 a 1 @ webb b 1"),
        (ANNOUNCED_ON, "slave a:1 a 1 @ we b 1"),
        (ANNOUNCED_ON, "sentinel a:1 a 1 @ web b 1"),
        (ANNOUNCED_ON, "slave a:1 a 0 @ web b 1"),
        (ANNOUNCED_ON, "slave a:1 a @ web b 1"),
        (ANNOUNCED_ON, "slave a:1 a 1 @ web"),
        (ANNOUNCED_ON, "slave a:1 a 1"),
        (ANNOUNCED_ON, ""),
    ] {
        assert_eq!(announced(channel, payload), None, "{channel} {payload}");
    }
    assert_eq!(announcement("web", ANNOUNCED_ON.as_bytes(), b"\xff"), None);
}
