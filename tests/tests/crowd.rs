//! The short form of the crowd suite: less of everything, memory and replies checked, times only shown. For times: `make crowd`.

use anyhow::{Result, ensure};
use harness::Version;
use harness::crowd::{Options, Sizes, Verdict, run};

harness::on_release!(
    valkey_9_1,
    Valkey91,
    crowds_cost_no_more_memory_than_documented_and_no_reply,
);

fn crowds_cost_no_more_memory_than_documented_and_no_reply(version: Version) -> Result<()> {
    let options = Options {
        version,
        sizes: Sizes::SHORT,
        control: false,
        only: None,
    };
    let mut text = Vec::new();
    let ended = run(&options, &mut text);
    let text = String::from_utf8_lossy(&text);
    let records = ended.map_err(|error| error.context(text.clone().into_owned()))?;
    let greedy = records
        .iter()
        .any(|record| record.verdict() == Verdict::Memory);
    ensure!(!greedy, "{text}");
    Ok(())
}
