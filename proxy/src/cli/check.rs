//! `slotway check`: is the configuration right, and what does it mean?

use std::io::Write;

use slotway_core::config::{Config, Secret, UpstreamConfig, reference};
use slotway_core::topology::Address;

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
        let password = shown(listener.requirepass.as_ref());
        let name = config.upstreams[listener.upstream].name.as_ref();
        let upstream = name.map_or_else(String::new, |name| format!(", upstream {name}"));
        writeln!(
            out,
            "  listens on  {}, {password}{upstream}",
            listener.listen
        )?;
    }
    for upstream in &config.upstreams {
        if let Some(name) = &upstream.name {
            writeln!(out, "  upstream    {name}")?;
        }
        summarize_upstream(upstream, out)?;
    }
    if let Some(sentinel) = &config.sentinel {
        let services = config.listeners.iter();
        let services = services.filter_map(|listener| listener.service.as_deref());
        let services = services.collect::<Vec<_>>().join(", ");
        let password = shown(sentinel.requirepass.as_ref());
        let address = sentinel.listen;
        writeln!(out, "  Sentinel    {address}, {password}, for {services}")?;
    }
    match config.admin {
        Some(address) => writeln!(out, "  admin       http://{address}")?,
        None => writeln!(out, "  admin       off")?,
    }
    let each = if config.upstreams.len() > 1 {
        " for each upstream"
    } else {
        ""
    };
    writeln!(out, "  workers     {}{each}", config.workers)
}

/// What a password comes to.
const fn shown(password: Option<&Secret>) -> &'static str {
    match password {
        Some(_) => "clients need the password",
        None => "no password",
    }
}

fn summarize_upstream(upstream: &UpstreamConfig, out: &mut dyn Write) -> std::io::Result<()> {
    let listed = |addresses: &[Address]| {
        let addresses = addresses.iter().map(ToString::to_string);
        addresses.collect::<Vec<_>>().join(", ")
    };
    match (&upstream.server, &upstream.sentinel) {
        (Some(server), _) => writeln!(out, "  server      {server}"),
        (None, Some(sentinel)) => {
            let addresses = listed(&sentinel.addresses);
            let service = &sentinel.service;
            writeln!(out, "  sentinels   {addresses}, service {service}")
        }
        (None, None) => writeln!(out, "  cluster     {}", listed(&upstream.seeds)),
    }
}
