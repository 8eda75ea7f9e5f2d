//! `slotway check`: is the configuration right, and what does it mean?

use std::io::Write;

use slotway_core::config::{Config, reference};

use super::RunArgs;
use super::load::load;

/// Builds the configuration as `slotway run` would and says what it comes to.
pub(super) fn check(arguments: &RunArgs, out: &mut dyn Write) -> anyhow::Result<u8> {
    let config = load(arguments)?;
    summarize(&config, out)?;
    Ok(0)
}

/// Prints the file that documents every key.
pub(super) fn print_reference(out: &mut dyn Write) -> anyhow::Result<u8> {
    out.write_all(reference().as_bytes())?;
    Ok(0)
}

fn summarize(config: &Config, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "The configuration is valid.")?;
    for listener in &config.listeners {
        let password = if listener.requirepass.is_some() {
            "clients need the password"
        } else {
            "no password"
        };
        writeln!(out, "  listens on  {}, {password}", listener.listen)?;
    }
    let seeds = config.upstream.seeds.iter().map(ToString::to_string);
    match (&config.upstream.server, &config.upstream.sentinel) {
        (Some(server), _) => writeln!(out, "  server      {server}")?,
        (None, Some(sentinel)) => {
            let addresses = sentinel.addresses.iter().map(ToString::to_string);
            let addresses = addresses.collect::<Vec<_>>().join(", ");
            writeln!(
                out,
                "  sentinels   {addresses}, service {}",
                sentinel.service
            )?;
        }
        (None, None) => writeln!(
            out,
            "  cluster     {}",
            seeds.collect::<Vec<_>>().join(", ")
        )?,
    }
    match config.admin {
        Some(address) => writeln!(out, "  admin       http://{address}")?,
        None => writeln!(out, "  admin       off")?,
    }
    writeln!(out, "  workers     {}", config.workers)
}
