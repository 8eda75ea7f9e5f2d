//! SCAN: units at the owners of slots [S3] [S8], and one primary after the other [S5].

use super::driver::{Driver, bulk, node_id};
use crate::topology::Hint;

/// The replies to a unit: with a page of SCAN if there is one, and of the node with this number, which owns these slots.
fn unit(page: Option<&str>, port: u16, slots: &str, version: &str) -> String {
    let nodes = format!(
        "{} 127.0.0.1:1@2 myself,master - 0 0 1 connected {slots}\n",
        node_id(port)
    );
    let info = format!("redis_version:{version}\r\nredis_mode:cluster\r\nrun_id:{port}\r\n");
    let parts = 2 + usize::from(page.is_some());
    format!(
        "+OK\r\n{}*{parts}\r\n{}{}{}",
        "+QUEUED\r\n".repeat(parts),
        page.unwrap_or_default(),
        bulk(&nodes),
        bulk(&info)
    )
}

fn page(cursor: &str, key: &str) -> String {
    format!("*2\r\n{}*1\r\n{}", bulk(cursor), bulk(key))
}

fn cursor_in(reply: &str) -> String {
    reply.split("\r\n").nth(2).unwrap().to_owned()
}

#[test]
fn older_servers_are_walked_one_after_the_other_s5() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "SCAN 0 COUNT 10");
    assert_eq!(
        driver.requests(7000),
        [
            "MULTI",
            "SCAN 0 COUNT 10",
            "CLUSTER NODES",
            "INFO server",
            "EXEC"
        ]
    );
    driver.reply(
        7000,
        &unit(Some(&page("17", "key")), 7000, "0-5460", "7.0.15"),
    );
    let mut cursor = cursor_in(&driver.output(client));
    let mut asked = Vec::new();
    for (port, next) in [(7000, "0"), (7001, "0"), (7002, "0")] {
        driver.send(client, &format!("SCAN {cursor} COUNT 10"));
        asked.push(driver.requests(port).last().cloned().unwrap_or_default());
        driver.reply(port, &page(next, "key"));
        let output = driver.output(client);
        cursor = cursor_in(&output);
        assert!(output.ends_with("*1\r\n$3\r\nkey\r\n"), "{output}");
    }
    assert_eq!(cursor, "0");
    assert_eq!(
        asked,
        ["SCAN 17 COUNT 10", "SCAN 0 COUNT 10", "SCAN 0 COUNT 10"]
    );
    driver.send(client, "SCAN nonsense");
    assert_eq!(driver.output(client), "-ERR invalid cursor\r\n");
}

#[test]
fn a_node_that_refuses_transactions_is_walked_as_an_old_one_s5() {
    for refusal in [
        "-NOPERM no\r\n+x\r\n+x\r\n+x\r\n-ERR EXEC without MULTI\r\n",
        "+OK\r\n+QUEUED\r\n-NOPERM no\r\n+QUEUED\r\n-EXECABORT Transaction discarded because of previous errors.\r\n",
    ] {
        let mut driver = Driver::new();
        let client = driver.client();
        driver.send(client, "SCAN 0");
        driver.reply(7000, refusal);
        let output = driver.output(client);
        assert!(output.ends_with("*0\r\n"), "{output}");
        driver.send(client, &format!("SCAN {}", cursor_in(&output)));
        assert_eq!(driver.requests(7000)[5..], ["SCAN 0"]);
        driver.reply(7000, &page("0", "key"));
        assert!(driver.output(client).ends_with("*1\r\n$3\r\nkey\r\n"));
    }
}

#[test]
fn the_node_that_is_being_given_the_slot_is_asked_when_its_owner_has_said_so_s8() {
    let mut driver = Driver::new();
    let client = driver.client();
    // hello is in slot 866, which the first node gives to the third.
    let target = node_id(7002);
    let open = format!("0-5460 [866->-{target}]");
    driver.send(client, "SCAN 0");
    driver.reply(7000, &unit(Some(&page("0", "hello")), 7000, &open, "8.2.3"));
    let cursor = cursor_in(&driver.output(client));
    driver.send(client, &format!("SCAN {cursor}"));
    assert_eq!(
        driver.requests(7000)[5..],
        ["MULTI", "CLUSTER NODES", "INFO server", "EXEC"]
    );
    driver.reply(7000, &unit(None, 7000, &open, "8.2.3"));
    assert_eq!(
        driver.requests(7002),
        ["MULTI", "SCAN 866", "CLUSTER NODES", "INFO server", "EXEC"]
    );
    assert_eq!(driver.output(client), "");
    driver.reply(
        7002,
        &unit(Some(&page("0", "hello")), 7002, "10923-16383", "8.2.3"),
    );
    let output = driver.output(client);
    assert!(output.ends_with("*1\r\n$5\r\nhello\r\n"), "{output}");
}

#[test]
fn a_node_that_owns_the_slot_no_more_has_the_table_read_again_s3() {
    let mut driver = Driver::new();
    let client = driver.client();
    driver.send(client, "SCAN 0");
    driver.hints.clear();
    driver.reply(
        7000,
        &unit(Some(&page("0", "hello")), 7000, "5000-5460", "8.2.3"),
    );
    let output = driver.output(client);
    assert!(output.ends_with("*0\r\n"), "{output}");
    assert_ne!(cursor_in(&output), "0");
    assert!(matches!(driver.hints[..], [Hint::Refresh { .. }]));
}
