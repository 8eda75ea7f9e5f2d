//! Reads that replicas answer: who gets them, and in which order.

use std::time::Duration;

use super::driver::{Driver, bulk, node_id};
use crate::engine::SessionKey;
use crate::local::{ListenerSettings, ReadPolicy};
use crate::topology::{Address, NodeId, ReadPrimary, Reader, Readers};

const MILLISECOND: Duration = Duration::from_millis(1);

/// Replica `number` of the primary at `primary`, by its port.
pub(super) fn replica_of(primary: u16, number: u16) -> u16 {
    primary + 100 * number
}

pub(super) fn reader(primary: u16, number: u16) -> Reader {
    let port = replica_of(primary, number);
    Reader {
        id: NodeId::new(&node_id(port)),
        address: Address::new("127.0.0.1", port),
        primary: NodeId::new(&node_id(primary)),
        near: false,
        latency: MILLISECOND,
        behind: Duration::ZERO,
    }
}

pub(super) fn only(replicas: Vec<Reader>) -> Readers {
    Readers {
        replicas,
        primaries: Vec::new(),
    }
}

/// So many replicas of the node that owns `k`.
pub(super) fn driver_with(count: u16) -> (Driver, u16) {
    let mut driver = Driver::new();
    let owner = driver.owner("k");
    let replicas = (1..=count).map(|number| reader(owner, number));
    driver.set_readers(&only(replicas.collect()));
    (driver, owner)
}

pub(super) fn reading(driver: &mut Driver, reads: ReadPolicy) -> SessionKey {
    driver.client_of(ListenerSettings {
        reads,
        ..ListenerSettings::default()
    })
}

/// What `port` was asked, but for what opens a connection.
pub(super) fn asked(driver: &Driver, port: u16) -> Vec<String> {
    let mut requests = driver.all_requests(port);
    requests.retain(|request| request != "READONLY");
    requests
}

#[test]
fn reads_go_to_a_replica_and_all_else_to_the_primary() {
    let (mut driver, owner) = driver_with(1);
    let replica = replica_of(owner, 1);
    let client = reading(&mut driver, ReadPolicy::Replica);
    for command in ["GET k", "EVAL_RO return 1 k", "OBJECT ENCODING k"] {
        let command = command.replace("return 1", "return(1) 1");
        driver.send(client, &command);
        assert_eq!(asked(&driver, replica).last(), Some(&command));
        driver.reply(replica, "+v\r\n");
        assert_eq!(driver.output(client), "+v\r\n");
    }
    assert_eq!(
        driver.all_requests(replica).first().map(String::as_str),
        Some("READONLY"),
        "or the replica would point to its primary"
    );
    assert!(driver.requests(owner).is_empty());
    for command in ["SET k v", "EVAL return(1) 1 k", "GETSET k v", "PUBLISH k v"] {
        driver.send(client, command);
        driver.answer_all(owner, "+OK\r\n");
        assert_eq!(driver.output(client), "+OK\r\n");
    }
    assert_eq!(asked(&driver, replica).len(), 3);
}

#[test]
fn a_transaction_and_a_client_that_tracks_keys_read_at_the_primary() {
    let (mut driver, owner) = driver_with(1);
    let client = driver.client_of(ListenerSettings {
        reads: ReadPolicy::PreferReplica,
        tracking: true,
        ..ListenerSettings::default()
    });
    driver.send(client, "MULTI");
    driver.send(client, "GET k");
    driver.send(client, "EXEC");
    assert_eq!(driver.requests(owner), ["MULTI", "GET k", "EXEC"]);
    driver.reply(owner, "+OK\r\n+QUEUED\r\n*1\r\n$-1\r\n");
    driver.send(client, "HELLO 3");
    driver.send(client, "CLIENT TRACKING ON");
    driver.send(client, "GET k");
    assert_eq!(
        driver.resp3_requests(owner).last().map(String::as_str),
        Some("GET k")
    );
    assert!(asked(&driver, replica_of(owner, 1)).is_empty());
}

#[test]
fn each_policy_has_its_node_when_all_are_there_and_when_one_is_not() {
    use ReadPolicy::{Any, Nearest, PreferPrimary, PreferReplica, Primary, Replica};
    let is_at_replica = |policy, replicas: u16| {
        let (mut driver, owner) = driver_with(replicas);
        let client = reading(&mut driver, policy);
        driver.send(client, "GET k");
        let at_replica = !asked(&driver, replica_of(owner, 1)).is_empty();
        assert_ne!(
            at_replica,
            !driver.requests(owner).is_empty(),
            "{policy:?} at one of them"
        );
        at_replica
    };
    assert!(!is_at_replica(Primary, 1));
    assert!(!is_at_replica(PreferPrimary, 1));
    assert!(is_at_replica(Replica, 1));
    assert!(is_at_replica(PreferReplica, 1));
    for policy in [Primary, PreferPrimary, PreferReplica, Any, Nearest] {
        assert!(!is_at_replica(policy, 0), "{policy:?}: there is no replica");
    }
}

#[test]
fn a_read_waits_for_a_write_of_its_key_and_a_write_for_a_read_o2() {
    let (mut driver, owner) = driver_with(1);
    let replica = replica_of(owner, 1);
    let client = reading(&mut driver, ReadPolicy::Replica);
    driver.send(client, "GET k");
    driver.send(client, "SET k 1");
    driver.send(client, "GET k");
    assert_eq!(asked(&driver, replica), ["GET k"]);
    assert!(driver.requests(owner).is_empty(), "the read would see it");
    driver.reply(replica, &bulk("0"));
    assert_eq!(driver.requests(owner), ["SET k 1"]);
    assert_eq!(asked(&driver, replica).len(), 1, "it would be overtaken");
    driver.reply(owner, "+OK\r\n");
    assert_eq!(asked(&driver, replica).len(), 2);
    driver.reply(replica, &bulk("1"));
    assert_eq!(
        driver.output(client),
        format!("{}+OK\r\n{}", bulk("0"), bulk("1"))
    );
}

#[test]
fn reads_and_writes_of_other_keys_do_not_wait() {
    let (mut driver, owner) = driver_with(1);
    let replica = replica_of(owner, 1);
    let client = reading(&mut driver, ReadPolicy::Replica);
    for command in ["GET {k}a", "SET {k}b 1", "GET {k}c", "SET {k}d 1"] {
        driver.send(client, command);
    }
    assert_eq!(asked(&driver, replica), ["GET {k}a", "GET {k}c"]);
    assert_eq!(driver.requests(owner), ["SET {k}b 1", "SET {k}d 1"]);
    driver.reply(owner, "+b\r\n+d\r\n");
    driver.reply(replica, "+a\r\n+c\r\n");
    assert_eq!(driver.output(client), "+a\r\n+b\r\n+c\r\n+d\r\n");
}

#[test]
fn the_parts_of_a_split_read_go_to_the_replicas_of_their_shards() {
    let mut driver = Driver::new();
    let (first, second) = driver.two_keys_on_two_nodes();
    let owners = [driver.owner(&first), driver.owner(&second)];
    driver.set_readers(&only(
        owners.iter().map(|owner| reader(*owner, 1)).collect(),
    ));
    let client = reading(&mut driver, ReadPolicy::Replica);
    driver.send(client, &format!("SET {first} 1"));
    driver.send(client, &format!("MGET {first} {second}"));
    assert_eq!(
        asked(&driver, replica_of(owners[1], 1)),
        [format!("MGET {second}")]
    );
    assert!(
        asked(&driver, replica_of(owners[0], 1)).is_empty(),
        "behind the write"
    );
    driver.reply(owners[0], "+OK\r\n");
    driver.reply(replica_of(owners[1], 1), "*1\r\n+2\r\n");
    driver.reply(replica_of(owners[0], 1), "*1\r\n+1\r\n");
    assert_eq!(driver.output(client), "+OK\r\n*2\r\n+1\r\n+2\r\n");
    driver.send(client, &format!("DEL {first} {second}"));
    assert_eq!(driver.requests(owners[1]), [format!("DEL {second}")]);
}

#[test]
fn readonly_and_readwrite_are_obeyed_y10() {
    let (mut driver, owner) = driver_with(1);
    let replica = replica_of(owner, 1);
    let client = driver.client();
    let read = |driver: &mut Driver, port: u16| {
        driver.output(client);
        let before = asked(driver, port).len();
        driver.send(client, "GET k");
        assert_eq!(asked(driver, port).len(), before + 1);
        driver.reply(port, "+v\r\n");
    };
    read(&mut driver, owner);
    driver.send(client, "READONLY");
    read(&mut driver, replica);
    driver.send(client, "READWRITE");
    read(&mut driver, owner);
    driver.send(client, "READONLY");
    driver.send(client, "RESET");
    read(&mut driver, owner);
    let spread = reading(&mut driver, ReadPolicy::Replica);
    driver.send(spread, "READWRITE");
    driver.send(spread, "GET k");
    driver.reply(owner, "+v\r\n");
    assert_eq!(
        driver.output(spread),
        "+OK\r\n+v\r\n",
        "it wants what is new"
    );
}

#[test]
fn a_client_reads_what_it_wrote_where_that_is_wanted() {
    let (mut driver, owner) = driver_with(1);
    let replica = replica_of(owner, 1);
    let client = driver.client_of(ListenerSettings {
        reads: ReadPolicy::Replica,
        read_your_writes: true,
        ..ListenerSettings::default()
    });
    driver.pass(60 * MILLISECOND);
    let fresh = |driver: &mut Driver, behind: Duration| {
        let reader = Reader {
            behind,
            ..reader(owner, 1)
        };
        driver.set_readers(&only(vec![reader]));
    };
    fresh(&mut driver, Duration::ZERO);
    driver.send(client, "GET k");
    driver.reply(replica, "+old\r\n");
    driver.send(client, "SET k new");
    driver.pass(MILLISECOND);
    driver.reply(owner, "+OK\r\n");
    driver.send(client, "GET k");
    assert_eq!(
        driver.requests(owner),
        ["SET k new", "GET k"],
        "nobody knows if the replica has it"
    );
    driver.reply(owner, "+new\r\n");
    driver.pass(Duration::from_secs(1));
    // It was there before the first moment of which it is known that the write was over.
    fresh(&mut driver, Duration::from_millis(800));
    driver.send(client, "GET k");
    assert_eq!(
        driver.requests(owner).len(),
        3,
        "it had all that was written before this write"
    );
    driver.reply(owner, "+new\r\n");
    fresh(&mut driver, Duration::from_millis(700));
    driver.send(client, "GET k");
    assert_eq!(asked(&driver, replica).len(), 2);
    driver.reply(replica, "+new\r\n");
    let other = reading(&mut driver, ReadPolicy::Replica);
    driver.send(other, "GET k");
    assert_eq!(asked(&driver, replica).len(), 3);
}

#[test]
fn a_node_in_the_own_zone_is_chosen_before_the_others() {
    let mut driver = Driver::new();
    let owner = driver.owner("k");
    let near = |number| Reader {
        near: number == 2,
        ..reader(owner, number)
    };
    for (near_primary, any_at) in [(false, replica_of(owner, 2)), (true, owner)] {
        let primaries = vec![ReadPrimary {
            id: NodeId::new(&node_id(owner)),
            near: near_primary,
            latency: MILLISECOND,
        }];
        let replicas = match near_primary {
            true => vec![near(1), near(3)],
            false => (1..=3).map(near).collect(),
        };
        driver.set_readers(&Readers {
            replicas,
            primaries,
        });
        for _ in 0..10 {
            let client = reading(&mut driver, ReadPolicy::Any);
            let before = asked(&driver, any_at).len();
            driver.send(client, "GET k");
            assert_eq!(asked(&driver, any_at).len(), before + 1);
        }
    }
}

#[test]
fn the_nearest_node_is_the_one_that_answers_soonest_and_has_least_to_do() {
    let mut driver = Driver::new();
    let owner = driver.owner("k");
    let far = Reader {
        latency: Duration::from_millis(4),
        ..reader(owner, 2)
    };
    driver.set_readers(&Readers {
        replicas: vec![reader(owner, 1), far],
        primaries: vec![ReadPrimary {
            id: NodeId::new(&node_id(owner)),
            near: false,
            latency: Duration::from_secs(1),
        }],
    });
    for _ in 0..8 {
        let client = reading(&mut driver, ReadPolicy::Nearest);
        driver.send(client, "GET k");
    }
    let count = |port| asked(&driver, port).len();
    assert_eq!(count(replica_of(owner, 1)), 7);
    assert_eq!(
        count(replica_of(owner, 2)),
        1,
        "what waits there has to be waited for"
    );
    assert_eq!(count(owner), 0);
}

#[test]
fn sessions_are_spread_and_each_stays_where_it_is() {
    let (mut driver, owner) = driver_with(2);
    let mut at = [0, 0];
    for _ in 0..64 {
        let client = reading(&mut driver, ReadPolicy::Replica);
        let counts =
            |driver: &Driver| [1, 2].map(|number| asked(driver, replica_of(owner, number)).len());
        let before = counts(&driver);
        for _ in 0..3 {
            driver.send(client, "GET k");
        }
        let now = counts(&driver);
        let here = usize::from(now[1] > before[1]);
        assert_eq!(now[here], before[here] + 3);
        at[here] += 1;
    }
    assert!(at.iter().all(|count| *count >= 16), "{at:?}");
}

#[test]
fn a_read_behind_a_transaction_sees_what_that_wrote() {
    let (mut driver, owner) = driver_with(1);
    let client = driver.client_of(ListenerSettings {
        reads: ReadPolicy::Any,
        read_your_writes: true,
        ..ListenerSettings::default()
    });
    driver.pass(60 * MILLISECOND);
    driver.set_readers(&only(vec![reader(owner, 1)]));
    for command in ["MULTI", "SET k v", "EXEC", "MGET k"] {
        driver.send(client, command);
    }
    driver.reply(owner, "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n");
    assert!(asked(&driver, replica_of(owner, 1)).is_empty());
    assert_eq!(driver.requests(owner).len(), 4);
}

#[test]
fn a_read_that_waits_goes_where_the_client_has_said_by_then() {
    let (mut driver, owner) = driver_with(1);
    let client = reading(&mut driver, ReadPolicy::Any);
    for command in ["SET k v", "GET k", "READWRITE"] {
        driver.send(client, command);
    }
    driver.reply(owner, "+OK\r\n");
    assert_eq!(driver.requests(owner), ["SET k v", "GET k"]);
}
