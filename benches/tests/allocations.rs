//! In a steady flow nothing is allocated: buffers, tables and requests are used again.
//!
//! The allocator of this binary counts what the thread that asks allocates; an allocation that is made bigger counts as another.
#![forbid(unsafe_code)]

use allocation_counter::measure;
use slotway_benches::in_process::{CommandKind, Stage, Workload};

/// Commands after the warm-up, at least.
const COMMANDS: usize = 10_000;

/// Allocations for so many commands.
fn allocations(workload: &Workload) -> (u64, u64) {
    let mut stage = Stage::new(workload);
    let turns = COMMANDS.div_ceil(workload.commands_per_turn());
    let counted = measure(|| (0..turns).for_each(|_| stage.turn()));
    // Whether the replies are still the right ones, byte by byte.
    stage.rehearse();
    let commands = turns * workload.commands_per_turn();
    (counted.count_total, commands as u64)
}

fn assert_none(workload: Workload) {
    let (count, commands) = allocations(&workload);
    assert_eq!(
        count, 0,
        "allocations for {commands} commands: {workload:?}"
    );
}

/// Few clients, so that what a node sends in a turn fits into one read. A rest of a big read is kept in a buffer that is given back.
fn few(kind: CommandKind, pipeline: usize, value_bytes: usize) -> Workload {
    Workload {
        clients: 8,
        ..Workload::new(kind, pipeline).with_values_of(value_bytes)
    }
}

#[test]
fn the_allocator_counts() {
    assert_eq!(
        measure(|| drop(std::hint::black_box(vec![1]))).count_total,
        1
    );
}

#[test]
fn one_request_at_a_time_allocates_nothing() {
    for kind in [CommandKind::Get, CommandKind::Set] {
        assert_none(Workload::new(kind, 1));
    }
}

/// Over three nodes: more than half of the replies come early and are kept until it is their turn.
#[test]
fn pipelines_with_replies_out_of_order_allocate_nothing() {
    for kind in [CommandKind::Get, CommandKind::Set, CommandKind::Mixed] {
        assert_none(Workload::new(kind, 16));
        assert_none(few(kind, 100, 64));
    }
}

#[test]
fn values_of_some_kibibytes_allocate_nothing() {
    for kind in [CommandKind::Get, CommandKind::Set, CommandKind::Mixed] {
        assert_none(few(kind, 1, 8 << 10));
        assert_none(few(kind, 4, 3 << 10));
        assert_none(few(kind, 16, 1 << 10));
    }
}

/// Of a split command only its tables and what is merged are allocated: nothing for a part by itself.
#[test]
fn a_split_command_allocates_as_much_however_many_parts_it_has() {
    for kind in [
        CommandKind::Mget(10),
        CommandKind::Mset(10),
        CommandKind::Del(10),
        CommandKind::Mget(100),
    ] {
        let (count, commands) = allocations(&few(kind, 1, 64));
        assert!(
            count <= commands * 10,
            "{kind:?}: {count} allocations for {commands} commands"
        );
    }
}
