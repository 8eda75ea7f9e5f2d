//! The short form of the chaos suite: each fault once, in a fixed order, from a fixed seed. For more of it: `make chaos`.

use anyhow::{Result, ensure};
use harness::Version;
use harness::chaos::{Options, run};

harness::on_full_matrix!(every_fault_once_breaks_no_promise);

fn every_fault_once_breaks_no_promise(version: Version) -> Result<()> {
    let options = Options {
        version,
        time: None,
        seed: 1,
        only: None,
    };
    let mut text = Vec::new();
    let ended = run(&options, &mut text);
    let text = String::from_utf8_lossy(&text);
    let broken = ended.map_err(|error| error.context(text.clone().into_owned()))?;
    ensure!(broken == 0, "{text}");
    Ok(())
}
