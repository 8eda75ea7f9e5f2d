//! The steps of the request path one by one, in nanoseconds: `cargo bench --package slotway-benches --bench micro`.
//!
//! Every sample does a step thousands of times; the column of items per second is for single steps.

use divan::Bencher;
use divan::counter::ItemsCount;
use slotway_benches::micro::{self, MGET, MGET_OF_ONE_SLOT, OPERATIONS, Run, SET};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

fn measure(bencher: Bencher<'_, '_>, run: Run) {
    bencher
        .counter(ItemsCount::new(OPERATIONS))
        .bench_local(run);
}

/// The request behind a short name.
fn request(name: &str) -> &'static str {
    match name {
        "set" => SET,
        "mget 10" => MGET,
        "mget 10, one slot" => MGET_OF_ONE_SLOT,
        "eval" => "EVAL return 1 {}",
        "config get" => "CONFIG GET {}",
        "zrangebyscore" => "zrangebyscore {} 1 2",
        _ => "GET {}",
    }
}

#[divan::bench(args = ["get", "set", "mget 10"])]
fn decode(bencher: Bencher<'_, '_>, name: &str) {
    measure(bencher, micro::decode(request(name)));
}

#[divan::bench(args = ["get", "zrangebyscore", "config get"])]
fn lookup(bencher: Bencher<'_, '_>, name: &str) {
    measure(bencher, micro::lookup(request(name)));
}

#[divan::bench(args = [4, 8, 16, 40, 100])]
fn slot(bencher: Bencher<'_, '_>, key_bytes: usize) {
    measure(bencher, micro::slot(key_bytes));
}

#[divan::bench(args = [4, 8, 16, 40, 100])]
fn slot_bytewise(bencher: Bencher<'_, '_>, key_bytes: usize) {
    measure(bencher, micro::slot_bytewise(key_bytes));
}

#[divan::bench(args = [8])]
fn slot_of_tag(bencher: Bencher<'_, '_>, tag_bytes: usize) {
    measure(bencher, micro::slot_of_tag(tag_bytes));
}

#[divan::bench(args = ["get", "set", "mget 10, one slot", "mget 10", "eval"])]
fn plan(bencher: Bencher<'_, '_>, name: &str) {
    measure(bencher, micro::plan(request(name)));
}

#[divan::bench]
fn snapshot_owner(bencher: Bencher<'_, '_>) {
    measure(bencher, micro::owner());
}

#[divan::bench(args = [2, 10, 100])]
fn merge_mget(bencher: Bencher<'_, '_>, parts: u32) {
    measure(bencher, micro::merge_mget(parts));
}

#[divan::bench(args = ["+OK", ":12345", "$-1", "-ERR no such key"])]
fn scan(bencher: Bencher<'_, '_>, reply: &str) {
    measure(bencher, micro::scan(&format!("{reply}\r\n")));
}

#[divan::bench(args = [64, 1024])]
fn scan_bulk(bencher: Bencher<'_, '_>, bytes: usize) {
    measure(bencher, micro::scan(&micro::bulk(bytes)));
}

#[divan::bench]
fn scan_array_of_10(bencher: Bencher<'_, '_>) {
    measure(bencher, micro::scan(&micro::array()));
}
