//! CLIENT TRACKING where nodes refuse, room is short, or one client's affairs touch another's [N2].

use std::time::Duration;

use super::driver::{Driver, bulk};
use crate::engine::SessionKey;
use crate::local::ListenerSettings;

const OK: &str = "+OK\r\n";
const FULL: &str = "-ERR max number of clients reached\r\n";
const TOO_MANY: &str = "-ERR proxy: too many tracking sessions\r\n";

fn client(driver: &mut Driver) -> SessionKey {
    driver.client_of(ListenerSettings {
        tracking: true,
        ..ListenerSettings::default()
    })
}

#[test]
fn a_receiver_needs_room_once_n2() {
    let mut driver = Driver::with(|limits| limits.private_links = 2);
    let client = client(&mut driver);
    let node = driver.owner("k");
    driver.send(client, "CLIENT TRACKING ON");
    driver.send(client, "GET k");
    driver.pass(Duration::from_millis(10));
    driver.answer_all(node, &bulk("1"));
    assert_eq!(driver.output(client), OK.to_owned() + &bulk("1"));
    assert_eq!(driver.connections_to(node), 2);
}

#[test]
fn a_full_node_is_not_asked_again_and_again_for_a_receiver_n2() {
    let mut driver = Driver::new();
    let client = client(&mut driver);
    driver.send(client, "CLIENT TRACKING ON");
    driver.turns_away = Some(FULL);
    driver.send(client, "GET k");
    for _ in 0..100 {
        driver.stall(Duration::from_millis(2));
    }
    assert_eq!(driver.output(client), OK.to_owned() + TOO_MANY);
    assert_eq!(driver.engine.metrics().links_opened, 1);
    driver.turns_away = None;
    driver.pass(Duration::from_secs(3));
    driver.send(client, "GET k");
    driver.pass(Duration::from_millis(10));
    driver.reply_where_asked(driver.owner("k"), &bulk("1"));
    assert_eq!(driver.output(client), bulk("1"));
}

#[test]
fn a_client_that_hears_of_all_keys_waits_longer_and_longer_for_a_full_node_n2() {
    let mut driver = Driver::new();
    let client = client(&mut driver);
    driver.send(client, "HELLO 3");
    driver.output(client);
    driver.turns_away = Some(FULL);
    driver.send(client, "CLIENT TRACKING ON BCAST");
    driver.pass(Duration::from_secs(20));
    let attempts = driver.engine.metrics().links_opened;
    assert!((3..60).contains(&attempts), "{attempts} to three nodes");
}

#[test]
fn what_another_client_tracks_is_told_though_the_own_tracking_ends_n2() {
    let mut driver = Driver::new();
    let client = client(&mut driver);
    driver.send(client, "HELLO 3");
    driver.send(client, "CLIENT TRACKING ON");
    driver.output(client);
    let (slow, fast) = driver.two_keys_on_two_nodes();
    driver.send(client, &format!("GET {slow}"));
    driver.send(client, &format!("GET {fast}"));
    driver.reply_resp3(driver.owner(&fast), &bulk("2"));
    driver.engine.on_redirected(client, b"*1\r\n$1\r\nk\r\n");
    assert_eq!(driver.output(client), "", "it is held behind a reply");
    driver.send(client, "RESET");
    driver.send(client, "HELLO 3");
    driver.reply_resp3(driver.owner(&slow), &bulk("1"));
    let output = driver.output(client);
    let notice = format!(">2\r\n$10\r\ninvalidate\r\n*1\r\n{}", bulk("k"));
    assert!(output.contains(&notice), "{output}");
    driver.engine.check_nothing_left();
}

#[test]
fn nothing_is_read_over_a_receiver_n2() {
    let mut driver = Driver::new();
    let client = client(&mut driver);
    let node = driver.owner("k");
    driver.send(client, "CLIENT TRACKING ON");
    driver.open = false;
    driver.send(client, "GET k");
    // The receiver is given up, and opened anew for the request that waits for it. What follows is not read over that.
    driver.send(client, "HELLO 3");
    driver.stall(Duration::from_millis(2));
    driver.stall(Duration::from_millis(2));
    driver.send(client, "GET k");
    for _ in 0..driver.pending.len() {
        driver.connect_pending(0);
    }
    driver.open = true;
    driver.pass(Duration::from_millis(20));
    let links = driver.in_database(node, 0);
    let reads = links
        .iter()
        .filter(|(_, sent)| sent.contains(&"GET k".to_owned()));
    assert!(
        reads.clone().count() > 0
            && reads
                .clone()
                .all(|(_, sent)| sent[0].starts_with("CLIENT TRACKING ON")),
        "{links:?}"
    );
}
