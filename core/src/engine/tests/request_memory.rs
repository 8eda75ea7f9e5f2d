//! Requests that are big, or half sent: memory is bounded, every one becomes whole in the end, and nobody waits for a dead client.

use std::time::Duration;

use super::driver::{Driver, encode};
use crate::engine::SessionKey;
use crate::metrics::CloseReason;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// What the shell reads from a client at a time, unless it is in the middle of a big argument.
const READ: usize = 16 * KIB;
const SECOND: Duration = Duration::from_secs(1);

/// A client that sends one big request, as far as it is read.
struct Upload {
    client: SessionKey,
    bytes: Vec<u8>,
    sent: usize,
    got: String,
}

impl Upload {
    fn new(driver: &mut Driver, length: usize) -> Self {
        Self {
            client: driver.client(),
            bytes: encode(&format!("SET k {}", "v".repeat(length))),
            sent: 0,
            got: String::new(),
        }
    }

    /// Sends at most `count` bytes; whether any were read.
    fn send(&mut self, driver: &mut Driver, count: usize) -> bool {
        let end = (self.sent + count).min(self.bytes.len());
        if end == self.sent || !driver.engine.wants_input(self.client) {
            return false;
        }
        driver.send_raw(self.client, &self.bytes[self.sent..end]);
        self.sent = end;
        true
    }

    fn is_whole(&self) -> bool {
        self.sent == self.bytes.len()
    }
}

fn uploads(driver: &mut Driver, count: usize, length: usize) -> Vec<Upload> {
    (0..count).map(|_| Upload::new(driver, length)).collect()
}

/// Everybody sends as much as is read; the most bytes that there were.
fn send_all(driver: &mut Driver, uploads: &mut [Upload]) -> usize {
    let mut most = 0;
    loop {
        let mut sent = false;
        for upload in uploads.iter_mut() {
            let size = driver.engine.read_size(upload.client);
            sent |= upload.send(driver, size);
            most = most.max(held(driver));
        }
        if !sent {
            return most;
        }
    }
}

/// Answers every write, and has everybody read what they are given.
fn answer(driver: &mut Driver, uploads: &mut [Upload]) -> usize {
    let count = driver.answer_all(driver.owner("k"), "+OK\r\n");
    for upload in uploads {
        upload.got += &driver.output(upload.client);
    }
    count
}

fn held(driver: &Driver) -> usize {
    driver.engine.report().request_bytes
}

fn with_budget(budget: usize, request: usize) -> Driver {
    Driver::with(|limits| {
        limits.request_bytes = budget;
        limits.request.max_request_bytes = u32::try_from(request).unwrap();
    })
}

#[test]
fn uploads_at_once_stay_within_the_budget_and_all_of_them_end() {
    let mut driver = with_budget(2 * MIB, 601 * KIB);
    let other = driver.client();
    let mut uploads = uploads(&mut driver, 20, 600 * KIB);
    let (mut most, mut rounds) = (0, 0);
    while uploads.iter().any(|upload| upload.got.is_empty()) {
        most = most.max(send_all(&mut driver, &mut uploads));
        assert!(driver.engine.wants_input(other), "small requests go on");
        driver.send(other, "SET k 1");
        answer(&mut driver, &mut uploads);
        assert_eq!(driver.output(other), "+OK\r\n");
        rounds += 1;
        assert!(rounds < 100, "uploads do not end");
    }
    assert!(uploads.iter().all(|upload| upload.got == "+OK\r\n"));
    assert!(most > 2 * MIB, "they were in each other's way: {most}");
    assert!(most < 2 * MIB + 601 * KIB + 21 * 80 * KIB + READ, "{most}");
    assert_eq!(held(&driver), 0);
    driver.engine.check_nothing_left();
}

#[test]
fn the_smallest_budget_lets_one_after_the_other_through() {
    let mut driver = with_budget(0, 301 * KIB);
    let mut uploads = uploads(&mut driver, 5, 300 * KIB);
    for _ in 0..5 {
        let most = send_all(&mut driver, &mut uploads);
        assert!(most < 5 * 80 * KIB + 301 * KIB + READ, "{most}");
        assert!(answer(&mut driver, &mut uploads) <= 2);
    }
    assert!(uploads.iter().all(|upload| upload.got == "+OK\r\n"));
}

#[test]
fn whole_requests_that_no_node_answers_do_not_pile_up() {
    let mut driver = with_budget(MIB, 700 * KIB);
    let mut uploads = uploads(&mut driver, 20, 600 * KIB);
    let most = send_all(&mut driver, &mut uploads);
    assert!(most <= MIB + 700 * KIB + 20 * 80 * KIB + READ, "{most}");
    let whole = uploads.iter().filter(|upload| upload.is_whole()).count();
    assert!(whole < 10, "{whole}");
    // That the node does not answer is not the clients' fault.
    driver.pass(4 * SECOND);
    for _ in 0..20 {
        answer(&mut driver, &mut uploads);
        driver.pass(Duration::from_millis(50));
        send_all(&mut driver, &mut uploads);
    }
    assert!(uploads.iter().all(|upload| upload.got == "+OK\r\n"));
}

#[test]
fn a_client_with_many_requests_under_way_is_read_on_when_they_are_answered() {
    let mut driver = with_budget(MIB, MIB);
    let mut uploads = uploads(&mut driver, 2, 900 * KIB);
    let busy = driver.client();
    // Its replies are known to be small.
    driver.send(busy, "SET k v");
    answer(&mut driver, &mut uploads);
    driver.output(busy);
    send_all(&mut driver, &mut uploads[..1]);
    let request = encode(&format!("SET k {}", "v".repeat(10 * KIB)));
    driver.send_raw(busy, &request.repeat(15));
    assert!(!driver.engine.wants_input(busy));
    answer(&mut driver, &mut uploads);
    assert!(driver.engine.wants_input(busy));
    assert_eq!(driver.output(busy), "+OK\r\n".repeat(15));
}

/// Two clients fill the memory there is with halves of requests; the first one has sent more.
fn jam() -> (Driver, Vec<Upload>) {
    let mut driver = with_budget(MIB, 4 * MIB);
    let mut uploads = uploads(&mut driver, 3, 3 * MIB);
    for (index, count) in [(0, 600), (1, 450), (2, 100)] {
        for _ in 0..count / 16 {
            uploads[index].send(&mut driver, READ);
        }
    }
    assert!(held(&driver) >= MIB);
    assert!(driver.engine.wants_input(uploads[0].client));
    assert!(!driver.engine.wants_input(uploads[1].client));
    (driver, uploads)
}

fn closed(driver: &Driver, upload: &Upload) -> Option<CloseReason> {
    driver.engine.must_close(upload.client)
}

/// `step` once a second, until the foremost client is to be disconnected; after how many seconds.
fn until_closed(
    driver: &mut Driver,
    uploads: &mut [Upload],
    mut step: impl FnMut(&mut Driver, &mut Upload),
) -> Option<u32> {
    for second in 1..=120 {
        driver.pass(SECOND);
        step(driver, &mut uploads[0]);
        if let Some(reason) = closed(driver, &uploads[0]) {
            assert_eq!(reason, CloseReason::InputLimit);
            return Some(second);
        }
    }
    None
}

#[test]
fn a_silent_client_that_others_wait_for_is_disconnected_and_they_go_on() {
    let (mut driver, mut uploads) = jam();
    let time = until_closed(&mut driver, &mut uploads, |_, _| {});
    assert!((5..=6).contains(&time.unwrap()), "{time:?}");
    driver
        .engine
        .remove_session(uploads[0].client, CloseReason::Error);
    let count = driver.engine.metrics().closed[CloseReason::InputLimit.index()];
    assert_eq!(count, 1);
    uploads.remove(0);
    for _ in 0..2 {
        send_all(&mut driver, &mut uploads);
        answer(&mut driver, &mut uploads);
    }
    assert!(uploads.iter().all(|upload| upload.got == "+OK\r\n"));
    assert_eq!(held(&driver), 0);
}

#[test]
fn a_client_that_brings_a_byte_a_second_is_disconnected_if_others_wait_for_it() {
    let (mut driver, mut uploads) = jam();
    let time = until_closed(&mut driver, &mut uploads, |driver, upload| {
        upload.send(driver, 1);
    });
    assert!((5..=6).contains(&time.unwrap()), "{time:?}");
}

#[test]
fn a_slow_client_is_waited_for() {
    let (mut driver, mut uploads) = jam();
    let time = until_closed(&mut driver, &mut uploads, |driver, upload| {
        upload.send(driver, 80 * KIB);
    });
    assert_eq!(time, None);
    assert!(uploads[0].is_whole());
}

#[test]
fn a_client_that_nobody_waits_for_has_all_the_time() {
    let mut driver = with_budget(100 * KIB, MIB);
    let mut uploads = uploads(&mut driver, 1, 900 * KIB);
    for _ in 0..20 {
        uploads[0].send(&mut driver, READ);
    }
    assert!(held(&driver) > 300 * KIB);
    assert_eq!(until_closed(&mut driver, &mut uploads, |_, _| {}), None);
    let mut driver = with_budget(10 * MIB, MIB);
    let mut uploads = self::uploads(&mut driver, 5, 900 * KIB);
    for upload in &mut uploads {
        upload.send(&mut driver, 500 * KIB);
    }
    assert_eq!(until_closed(&mut driver, &mut uploads, |_, _| {}), None);
}

#[test]
fn a_worker_that_was_held_up_itself_blames_no_client() {
    let (mut driver, uploads) = jam();
    driver.stall(60 * SECOND);
    assert_eq!(closed(&driver, &uploads[0]), None);
}

#[test]
fn a_foremost_client_that_leaves_is_followed_by_the_next() {
    let (mut driver, mut uploads) = jam();
    driver.leave(uploads.remove(0).client);
    for _ in 0..2 {
        send_all(&mut driver, &mut uploads);
        answer(&mut driver, &mut uploads);
    }
    assert!(uploads.iter().all(|upload| upload.got == "+OK\r\n"));
}

#[test]
fn what_clients_had_sent_that_left_is_not_counted_for_ever() {
    let (first, second) = Driver::new().two_keys_on_two_nodes();
    let long = "v".repeat(2000);
    let get = encode(&format!("GET {first}"));
    let requests = [
        encode(&format!("SET {first} {long}")),
        encode(&format!("MSET {first} {long} {second} {long}")),
        [encode("EVAL x 0"), get.repeat(5)].concat(),
        [encode("DBSIZE"), get.repeat(5)].concat(),
        encode(&format!("SET {first} {long}"))[..500].to_vec(),
        encode(&format!("SET {first} {}", "v".repeat(2 * MIB))),
    ];
    for (open, topology) in [(true, true), (false, true), (true, false)] {
        for bytes in &requests {
            let mut driver = Driver::without_topology(|limits| limits.session_in_flight = 3);
            driver.open = open;
            if topology {
                driver.adopt(1, &[]);
            }
            let client = driver.client();
            for piece in bytes.chunks(READ) {
                driver.send_raw(client, piece);
            }
            assert!(held(&driver) >= bytes.len(), "it is counted");
            driver.leave(client);
            driver.adopt(2, &[]);
            driver.refuse_pending();
            driver.pass(SECOND / 4);
            for node in 7000..7003 {
                driver.answer_all(node, "-ERR no\r\n");
            }
            assert_eq!(held(&driver), 0);
            driver.engine.check_nothing_left();
        }
    }
}

#[test]
fn a_big_request_that_is_refused_or_not_sent_goes_on_as_it_is() {
    let mut driver = Driver::new();
    let mut upload = Upload::new(&mut driver, 2 * MIB);
    let node = driver.owner("k");
    while upload.send(&mut driver, READ) {}
    let length = upload.bytes.len();
    let place = request_at_node(&driver, length).as_ptr();
    driver.answer_all(node, "-LOADING Redis is loading the dataset in memory\r\n");
    assert_eq!(held(&driver), length);
    driver.pass(SECOND);
    assert_eq!(request_at_node(&driver, length).as_ptr(), place);
    assert_eq!(request_at_node(&driver, length), upload.bytes);
    driver.answer_all(node, "+OK\r\n");
    assert_eq!(driver.output(upload.client), "+OK\r\n");
    driver.engine.check_nothing_left();
}

#[test]
fn more_is_read_of_what_is_only_kept() {
    let mut driver = Driver::new();
    let mut upload = Upload::new(&mut driver, MIB);
    let mut sizes = Vec::new();
    while !upload.is_whole() {
        let size = driver.engine.read_size(upload.client);
        sizes.push((upload.sent / (64 * KIB), size / KIB));
        upload.send(&mut driver, size);
    }
    let (little, much): (Vec<_>, Vec<_>) = sizes.iter().partition(|(_, size)| *size == 16);
    assert!(
        little.iter().all(|(sent, _)| *sent < 2 || *sent >= 15),
        "{sizes:?}"
    );
    assert!(
        much.len() > 10 && much.iter().all(|(_, size)| *size == 64),
        "{sizes:?}"
    );
    let other = driver.client();
    let pipeline: Vec<u8> = (0..9_000).flat_map(|_| encode("PING")).collect();
    driver.send_raw(other, &pipeline);
    assert_eq!(driver.engine.read_size(other), READ, "they are worked off");
}

#[test]
fn a_big_buffer_takes_room_until_it_is_dropped() {
    let mut driver = Driver::with(|limits| {
        limits.upload_bytes = MIB;
        limits.request_bytes = 9 * MIB / 2;
    });
    driver.dropping = Some(Vec::new());
    let node = driver.owner("k");
    let mut first = Upload::new(&mut driver, 4 * MIB);
    while first.send(&mut driver, READ) {}
    driver.reply_where_asked(node, "+OK\r\n");
    assert_eq!(driver.output(first.client), "+OK\r\n");
    let sizes = driver.dropping.take().unwrap();
    assert!(matches!(sizes[..], [size] if size > 3 * MIB), "{sizes:?}");
    assert_eq!(held(&driver), sizes[0]);
    let mut rooms = Vec::new();
    for mut next in uploads(&mut driver, 3, 3 * MIB) {
        if rooms.len() == 2 {
            driver.engine.on_dropped(sizes[0]);
        }
        while next.sent < MIB + READ {
            assert!(next.send(&mut driver, READ));
        }
        let input = driver.engine.session(next.client).unwrap().input.as_ref();
        rooms.push(input.unwrap().bytes.capacity() / MIB);
    }
    assert_eq!(rooms, [3, 2, 3], "room for all of it, but for the second");
}

/// Where the bytes are is where they were read to: they were not copied.
#[test]
fn a_big_request_is_handed_over_to_its_link_as_it_is() {
    for (behind, is_open) in [("", true), ("", false), ("GET k", true), ("GET k", false)] {
        let mut driver = Driver::new();
        let mut upload = Upload::new(&mut driver, 3 * MIB);
        let client = upload.client;
        let node = driver.owner("k");
        if is_open {
            // The session has big values already, and a link for them.
            driver.send(client, &format!("SET k {}", "v".repeat(100 * KIB)));
            driver.answer_all(node, "+OK\r\n");
            driver.output(client);
        }
        driver.open = is_open;
        let length = upload.bytes.len();
        if !behind.is_empty() {
            upload.bytes.extend_from_slice(&encode(behind));
        }
        while upload.sent + READ < length {
            upload.send(&mut driver, READ);
        }
        let input = driver.engine.session(client).unwrap().input.as_ref();
        let input = &input.unwrap().bytes;
        let place = input.as_ptr();
        assert!(input.capacity() < length + 128 * KIB, "the room it needs");
        driver.send_raw(client, &upload.bytes[upload.sent..]);
        assert_eq!(held(&driver), upload.bytes.len());
        if !is_open {
            driver.connect_pending(0);
        }
        let found = request_at_node(&driver, length).as_ptr();
        assert_eq!(found, place, "{behind:?}, {is_open}");
        let count = driver.answer_all(node, "+OK\r\n");
        assert_eq!(driver.output(client), "+OK\r\n".repeat(count));
        driver.engine.check_nothing_left();
    }
}

/// The request of this length that is the oldest one of its link.
fn request_at_node(driver: &Driver, length: usize) -> &[u8] {
    let mut links = driver.engine.links.iter();
    let found = links.find_map(|(_, link)| {
        let request = link.request(link.oldest()?);
        (request.len() == length).then_some(request)
    });
    found.expect("it is at the node")
}
