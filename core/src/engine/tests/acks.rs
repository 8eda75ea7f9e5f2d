//! WAIT and WAITAOF [A1]-[A5].

use std::time::Duration;

use super::driver::{Driver, bulk};
use crate::engine::{LinkLoss, SessionKey};
use crate::metrics::CloseReason;

const PORTS: [u16; 3] = [7000, 7001, 7002];
const INTERRUPTED: &str =
    "-ERR proxy: WAIT interrupted by failover, what was written may be lost\r\n";

/// A client that has asked.
fn asked(driver: &mut Driver, command: &str) -> SessionKey {
    let client = driver.client();
    driver.send(client, command);
    assert_eq!(driver.output(client), "");
    client
}

/// Every node answers behind the mark, this one with that.
fn counted(driver: &mut Driver, counts: [&str; 3]) {
    for (port, count) in PORTS.into_iter().zip(counts) {
        driver.reply_where_asked(port, &format!("+PONG\r\n+OK\r\n{count}"));
    }
}

#[test]
fn the_least_number_of_all_primaries_is_the_answer_a4() {
    let mut driver = Driver::new();
    let client = asked(&mut driver, "WAIT 2 100");
    for port in PORTS {
        let requests = driver.all_requests(port);
        assert_eq!(requests.len(), 3, "{requests:?}");
        assert_eq!(requests[0], "PING");
        assert!(requests[1].starts_with("FUNCTION RESTORE "), "{requests:?}");
        assert_eq!(requests[2], "WAIT 2 100");
    }
    counted(&mut driver, [":3\r\n", ":1\r\n", ":2\r\n"]);
    assert_eq!(driver.output(client), ":1\r\n");
    driver.send(client, "WAITAOF 1 1 100");
    counted(
        &mut driver,
        [
            "*2\r\n:1\r\n:2\r\n",
            "*2\r\n:0\r\n:3\r\n",
            "*2\r\n:1\r\n:1\r\n",
        ],
    );
    assert_eq!(driver.output(client), "*2\r\n:0\r\n:1\r\n");
    driver.engine.check_nothing_left();
}

#[test]
fn what_is_behind_comes_after_and_the_error_is_the_servers() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "WAIT x 0");
    driver.send(client, "PING");
    counted(&mut driver, ["-ERR value is not an integer\r\n"; 3]);
    assert_eq!(
        driver.output(client),
        "-ERR value is not an integer\r\n+PONG\r\n"
    );
    driver.engine.check_nothing_left();
}

#[test]
fn without_the_mark_no_number_is_given_a1() {
    let mut driver = Driver::new();
    let client = asked(&mut driver, "WAIT 1 0");
    let old = "-ERR unknown command `FUNCTION`, with args beginning with: \r\n";
    for (port, said) in PORTS.into_iter().zip(["+OK\r\n", old, "+OK\r\n"]) {
        driver.reply_where_asked(port, &format!("+PONG\r\n{said}:1\r\n"));
    }
    assert_eq!(
        driver.output(client),
        ":1\r\n",
        "PING is enough before 7.0 [A2]"
    );
    for refused in [
        "-NOPERM no\r\n",
        "-ERR unknown command 'FUNCTION', with args\r\n",
    ] {
        driver.send(client, "WAIT 1 0");
        for (port, said) in PORTS.into_iter().zip(["+OK\r\n", refused, "+OK\r\n"]) {
            driver.reply_where_asked(port, &format!("+PONG\r\n{said}:1\r\n"));
        }
        let output = driver.output(client);
        assert!(
            output.starts_with("-ERR proxy: the node must let the proxy"),
            "{output}"
        );
    }
    driver.engine.check_nothing_left();
}

#[test]
fn a_lost_connection_or_another_primary_is_told_a4() {
    let mut driver = Driver::new();
    let client = asked(&mut driver, "WAIT 1 0");
    let link = driver.link_where_asked(7001);
    driver.lose(link, LinkLoss::Closed);
    for port in [7000, 7002] {
        driver.reply_where_asked(port, "+PONG\r\n+OK\r\n:1\r\n");
    }
    assert_eq!(driver.output(client), INTERRUPTED);
    // While it waits.
    driver.pass(Duration::from_secs(1));
    driver.send(client, "WAIT 1 0");
    driver.take_over(2, 7001, 7000);
    counted(&mut driver, [":1\r\n"; 3]);
    assert_eq!(driver.output(client), INTERRUPTED);
    // Before it asks; then all is said.
    driver.take_over(3, 7002, 7000);
    driver.send(client, "WAIT 1 0");
    assert_eq!(driver.output(client), INTERRUPTED);
    let other = asked(&mut driver, "WAIT 1 0");
    for port in [7000, 7001] {
        driver.reply_where_asked(port, "+PONG\r\n+OK\r\n:1\r\n");
    }
    assert_eq!(driver.output(other), ":1\r\n", "it came later");
}

#[test]
fn a_client_that_leaves_leaves_nothing_b6() {
    let mut driver = Driver::new();
    let client = asked(&mut driver, "WAIT 1 0");
    driver.reply_where_asked(7000, "+PONG\r\n+OK\r\n:1\r\n");
    driver.leave(client);
    for port in [7001, 7002] {
        assert_eq!(driver.connections_to(port), 0);
    }
    driver.engine.check_nothing_left();
}

#[test]
fn one_that_is_unblocked_gets_what_there_is_b9() {
    let mut driver = Driver::new();
    let client = asked(&mut driver, "WAIT 1 0");
    for port in PORTS {
        driver.reply_where_asked(port, "+PONG\r\n+OK\r\n");
    }
    driver.engine.unblock(client, false);
    driver.settle();
    // The nodes do not help: after a while their connections are closed.
    driver.pass(Duration::from_secs(3));
    assert_eq!(driver.output(client), ":0\r\n");
    driver.engine.check_nothing_left();
}

#[test]
fn in_a_transaction_it_is_refused_a5() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "MULTI");
    driver.send(client, "WAIT 1 0");
    driver.send(client, "EXEC");
    let output = driver.output(client);
    assert!(
        output.contains("'wait' is not allowed in a transaction") && output.contains("-EXECABORT"),
        "{output}"
    );
}

#[test]
fn who_leaves_before_its_turn_does_not_wait_b6_d12() {
    let ends: [fn(&mut Driver, SessionKey); 3] = [
        |driver, client| driver.engine.end_session(client, CloseReason::Client),
        |driver, client| driver.engine.note_hang_up(client),
        |driver, _| driver.engine.drain(),
    ];
    for end in ends {
        let mut driver = Driver::new();
        let client = driver.client();
        let node = driver.owner("k");
        driver.send(client, "GET k");
        driver.send(client, "WAIT 1 0");
        end(&mut driver, client);
        driver.reply(node, &bulk("v"));
        assert!(driver.engine.must_close(client).is_some());
        driver.leave(client);
        driver.engine.check_nothing_left();
    }
}

#[test]
fn a_failover_is_told_before_any_other_error_a4() {
    let mut driver = Driver::new();
    let client = asked(&mut driver, "WAIT 1 0");
    driver.take_over(2, 7001, 7000);
    for port in PORTS {
        driver.reply_where_asked(port, "+PONG\r\n-OOM no\r\n:1\r\n");
    }
    assert_eq!(driver.output(client), INTERRUPTED);
    driver.send(client, "WAIT 1 0");
    let link = driver.link_where_asked(7002);
    driver.reply_where_asked(7000, "+PONG\r\n-NOPERM no\r\n:1\r\n");
    driver.lose(link, LinkLoss::Closed);
    assert_eq!(driver.output(client), INTERRUPTED);
}

#[test]
fn one_that_fails_ends_the_others() {
    let mut driver = Driver::new();
    let client = asked(&mut driver, "WAIT 1 0");
    driver.reply_where_asked(7001, "+PONG\r\n+OK\r\n");
    driver.reply_where_asked(7002, "+PONG\r\n+OK\r\n");
    driver.reply_where_asked(7000, "+PONG\r\n-NOPERM no\r\n:1\r\n");
    driver.pass(Duration::from_secs(3));
    let output = driver.output(client);
    assert!(output.starts_with("-ERR proxy: the node must"), "{output}");
    driver.engine.check_nothing_left();
}

#[test]
fn one_is_unblocked_though_its_node_says_nothing_b9() {
    let mut driver = Driver::new();
    let client = asked(&mut driver, "WAIT 1 0");
    assert_eq!(driver.engine.report().blocked, 1, "it is one client");
    driver.engine.unblock(client, false);
    driver.settle();
    driver.pass(Duration::from_secs(3));
    assert_eq!(driver.output(client), ":0\r\n");
    driver.engine.check_nothing_left();
}

#[test]
fn its_time_runs_without_a_topology_b5() {
    let mut driver = Driver::without_topology(|_| {});
    let client = driver.client();
    driver.send(client, "WAIT 1 100");
    driver.pass(Duration::from_secs(1));
    assert_eq!(driver.output(client), ":0\r\n");
    driver.send(client, "WAITAOF 1 0 0");
    driver.engine.unblock(client, true);
    driver.settle();
    let output = driver.output(client);
    assert!(output.starts_with("-UNBLOCKED "), "{output}");
}
