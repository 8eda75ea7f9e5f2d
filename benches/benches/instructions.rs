//! Instruction counts of every step of the request path and of the engine as a whole, by callgrind. `make bench-instructions`
//! compares them with `instructions.toml`; README.md says how far they can be trusted.
#![expect(
    missing_docs,
    reason = "the macros of gungraun make public items without documentation"
)]

use gungraun::{library_benchmark, library_benchmark_group, main};
use slotway_benches::in_process::{CommandKind, Stage, Workload};
use slotway_benches::micro::{self, MGET, MGET_OF_ONE_SLOT, Run, SET};

#[library_benchmark]
#[bench::get(micro::decode("GET {}"))]
#[bench::set(micro::decode(SET))]
#[bench::mget_10(micro::decode(MGET))]
fn decode(mut run: Run) -> Run {
    run();
    run
}

#[library_benchmark]
#[bench::get(micro::lookup("GET {}"))]
#[bench::zrangebyscore(micro::lookup("zrangebyscore {} 1 2"))]
#[bench::config_get(micro::lookup("CONFIG GET {}"))]
fn lookup(mut run: Run) -> Run {
    run();
    run
}

#[library_benchmark]
#[bench::of_8_bytes(micro::slot(8))]
#[bench::of_16_bytes(micro::slot(16))]
#[bench::of_40_bytes(micro::slot(40))]
#[bench::of_a_tag_of_8_bytes(micro::slot_of_tag(8))]
#[bench::of_16_bytes_bytewise(micro::slot_bytewise(16))]
fn slot(mut run: Run) -> Run {
    run();
    run
}

#[library_benchmark]
#[bench::get(micro::plan("GET {}"))]
#[bench::set(micro::plan(SET))]
#[bench::mget_10_of_one_slot(micro::plan(MGET_OF_ONE_SLOT))]
#[bench::mget_10(micro::plan(MGET))]
#[bench::eval(micro::plan("EVAL return 1 {}"))]
fn plan(mut run: Run) -> Run {
    run();
    run
}

#[library_benchmark]
#[bench::owner(micro::owner())]
fn snapshot(mut run: Run) -> Run {
    run();
    run
}

#[library_benchmark]
#[bench::mget_of_10_parts(micro::merge_mget(10))]
fn merge(mut run: Run) -> Run {
    run();
    run
}

#[library_benchmark]
#[bench::ok(micro::scan("+OK\r\n"))]
#[bench::integer(micro::scan(":12345\r\n"))]
#[bench::bulk_64(micro::scan(&micro::bulk(64)))]
#[bench::array_10(micro::scan(&micro::array()))]
#[bench::error(micro::scan("-ERR no such key\r\n"))]
fn scan(mut run: Run) -> Run {
    run();
    run
}

library_benchmark_group!(
    name = steps,
    benchmarks = [decode, lookup, slot, plan, snapshot, merge, scan]
);

fn stage(kind: CommandKind, pipeline: usize) -> (Stage, usize) {
    let workload = Workload::new(kind, pipeline);
    (Stage::new(&workload), workload.turns())
}

#[library_benchmark]
#[bench::get(stage(CommandKind::Get, 1))]
#[bench::set(stage(CommandKind::Set, 1))]
#[bench::get_pipeline_16(stage(CommandKind::Get, 16))]
#[bench::set_pipeline_16(stage(CommandKind::Set, 16))]
#[bench::get_pipeline_100(stage(CommandKind::Get, 100))]
#[bench::mget_10(stage(CommandKind::Mget(10), 1))]
#[bench::three_commands(stage(CommandKind::Three, 1))]
#[bench::transaction(stage(CommandKind::Transaction, 1))]
fn engine((mut stage, turns): (Stage, usize)) -> Stage {
    for _ in 0..turns {
        stage.turn();
    }
    stage
}

library_benchmark_group!(name = whole, benchmarks = [engine]);

main!(library_benchmark_groups = [steps, whole]);
