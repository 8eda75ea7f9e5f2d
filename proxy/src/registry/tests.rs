use std::net::SocketAddr;
use std::sync::mpsc;

use slotway_core::command::id;
use slotway_core::resp::Protocol;

use super::*;

fn client(id: u64) -> ClientState {
    let address = SocketAddr::from(([127, 0, 0, 1], 1000));
    ClientState::new(id, address, address, false)
}

fn ids(registry: &ClientRegistry) -> Vec<u64> {
    let mut ids = Vec::new();
    registry.for_each(&mut |row| ids.push(row.id));
    ids.sort_unstable();
    ids
}

#[test]
fn ids_are_unique_and_grow_across_threads() {
    let registry = ClientRegistry::new();
    let mut all: Vec<u64> = std::thread::scope(|scope| {
        let take = || (0..1000).map(|_| registry.next_id()).collect::<Vec<u64>>();
        let threads = [scope.spawn(take), scope.spawn(take)];
        threads
            .into_iter()
            .flat_map(|thread| {
                let ids = thread.join().unwrap();
                assert!(ids.is_sorted());
                ids
            })
            .collect()
    });
    all.sort_unstable();
    assert_eq!(all, (1..=2000).collect::<Vec<u64>>());
}

#[test]
fn clients_are_there_from_insert_to_remove() {
    let registry = ClientRegistry::new();
    registry.insert(&client(1), 0, 10);
    registry.insert(&client(2), 1, 11);
    assert_eq!((ids(&registry), registry.len()), (vec![1, 2], 2));
    registry.remove(1);
    assert_eq!(ids(&registry), [2]);
    assert!(!registry.with(1, &mut |_| panic!("client 1 is gone")));
    registry.remove(2);
    assert!(registry.is_empty());
}

#[test]
fn a_row_shows_what_was_noted_last() {
    let registry = ClientRegistry::new();
    let mut state = client(5);
    let entry = registry.insert(&state, 3, 42);
    let show = |check: &dyn Fn(&ClientRow<'_>)| assert!(registry.with(5, &mut |row| check(row)));
    show(&|row| {
        assert_eq!(
            (row.descriptor, row.command, row.user, row.name),
            (42, "", b"default".as_slice(), b"".as_slice())
        );
    });
    entry.note_command(id::CLIENT_LIST);
    entry.note_buffers(7, 9);
    state.name = b"worker".to_vec();
    state.user = Some(b"app".as_slice().into());
    state.protocol = Protocol::Resp3;
    state.readonly = Some(true);
    registry.update(&state);
    show(&|row| {
        assert_eq!(
            (row.command, row.input_bytes, row.output_bytes),
            ("client|list", 7, 9)
        );
        assert_eq!(
            (row.name, row.user),
            (b"worker".as_slice(), b"app".as_slice())
        );
        assert!(row.readonly && row.protocol == Protocol::Resp3);
    });
}

#[test]
fn a_touch_ends_idleness_but_not_age() {
    let registry = ClientRegistry::new();
    let entry = registry.insert(&client(1), 0, 1);
    let ages = |now: Timestamp| {
        let record = registry.clients.get(&1).unwrap();
        let row = record.row(now);
        (row.age_seconds, row.idle_seconds)
    };
    let later = |seconds: u64| entry.connected.after(Duration::from_secs(seconds));
    assert_eq!(ages(later(60)), (60, 60));
    entry.touch(later(60));
    assert_eq!(ages(later(65)), (65, 5));
}

#[test]
fn an_order_reaches_the_clients_worker() {
    let registry = ClientRegistry::new();
    registry.insert(&client(1), 4, 1);
    registry.insert(&client(2), 4, 1);
    assert!(!registry.kill(2), "no workers yet");
    let (sender, receiver) = mpsc::channel();
    let tell = move |worker, order| sender.send((worker, order)).unwrap();
    assert!(registry.set_teller(5, tell));
    assert!(registry.kill(2));
    assert!(!registry.kill(2), "once is enough");
    assert!(!registry.with(2, &mut |_| {}), "it is shown to nobody");
    assert_eq!(receiver.try_recv(), Ok((4, ClientOrder::Kill(2))));
    assert!(!registry.kill(3), "no such client");
    assert!(receiver.try_recv().is_err());
    assert!(!registry.unblock(1, true), "it does not wait");
    registry.note_waits(1, true);
    assert!(registry.unblock(1, true));
    assert!(!registry.unblock(1, true), "once is enough");
    let (id, is_error) = (1, true);
    assert_eq!(
        receiver.try_recv(),
        Ok((4, ClientOrder::Unblock { id, is_error }))
    );
    assert!(receiver.try_recv().is_err());
    assert!(!registry.set_teller(5, |_, _| ()), "the first one stays");
}

#[test]
fn who_says_nothing_of_himself_takes_little() {
    let registry = ClientRegistry::new();
    let mut state = client(1);
    registry.insert(&state, 0, 1);
    let is_kept = || registry.clients.get(&1).unwrap().has_attributes();
    assert!(!is_kept());
    state.name = b"worker".to_vec();
    registry.update(&state);
    registry.note_subscriptions(1, [1, 0, 0]);
    state.reset(false);
    registry.update(&state);
    assert!(is_kept(), "it has a subscription");
    registry.note_subscriptions(1, [0; 3]);
    assert!(!is_kept());
    // The table has up to twice as many places as clients.
    assert!(size_of::<Record>() <= 16);
}
