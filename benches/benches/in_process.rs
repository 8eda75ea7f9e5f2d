//! The engine without sockets, in commands per second and allocations per command:
//! `cargo bench --package slotway-benches --bench in_process`.

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use slotway_benches::in_process::{CommandKind, Stage, Workload};

/// That of the proxy, and it counts.
#[global_allocator]
static ALLOCATOR: AllocProfiler<mimalloc::MiMalloc> = AllocProfiler::new(mimalloc::MiMalloc);

fn main() {
    divan::main();
}

/// One iteration is one turn of 40 clients.
fn measure(bencher: Bencher<'_, '_>, workload: &Workload) {
    let mut stage = Stage::new(workload);
    bencher
        .counter(ItemsCount::new(workload.commands_per_turn()))
        .bench_local(|| stage.turn());
}

#[divan::bench(args = [1, 16, 100])]
fn get(bencher: Bencher<'_, '_>, pipeline: usize) {
    measure(bencher, &Workload::new(CommandKind::Get, pipeline));
}

#[divan::bench(args = [1, 16, 100])]
fn set(bencher: Bencher<'_, '_>, pipeline: usize) {
    measure(bencher, &Workload::new(CommandKind::Set, pipeline));
}

#[divan::bench(args = [1, 16, 100])]
fn get_of_1_kib(bencher: Bencher<'_, '_>, pipeline: usize) {
    let workload = Workload::new(CommandKind::Get, pipeline);
    measure(bencher, &workload.with_values_of(1024));
}

#[divan::bench(args = [1, 16])]
fn set_of_1_kib(bencher: Bencher<'_, '_>, pipeline: usize) {
    let workload = Workload::new(CommandKind::Set, pipeline);
    measure(bencher, &workload.with_values_of(1024));
}

#[divan::bench(args = [2, 10, 100])]
fn mget(bencher: Bencher<'_, '_>, keys: usize) {
    measure(bencher, &Workload::new(CommandKind::Mget(keys), 1));
}

/// One iteration is one unit of three commands for each client.
#[divan::bench]
fn three_commands(bencher: Bencher<'_, '_>) {
    measure(bencher, &Workload::new(CommandKind::Three, 1));
}

#[divan::bench]
fn transaction(bencher: Bencher<'_, '_>) {
    measure(bencher, &Workload::new(CommandKind::Transaction, 1));
}

#[divan::bench(args = [10])]
fn mset(bencher: Bencher<'_, '_>, keys: usize) {
    measure(bencher, &Workload::new(CommandKind::Mset(keys), 1));
}
