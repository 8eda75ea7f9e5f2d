//! The command line: what the user typed, to one of the program's jobs, to an exit code.
//!
//! Exit codes: 0 done, 1 something failed while running, 2 the command line or the configuration is wrong; 130 and 143 when a
//! second signal cut a shutdown short.

mod check;
mod load;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::demo::{self, DemoArgs};
use crate::explain::{self, ExplainArgs};
use crate::shutdown::Signals;
use crate::supervisor::Reload;
use crate::{supervisor, telemetry};

pub(crate) use load::{UsageError, load_from};

const EXAMPLES: &str = "\
Examples:
  slotway --cluster redis-1:6379,redis-2:6379             proxy on 127.0.0.1:6379
  slotway --cluster 10.0.0.1:7000 --listen 0.0.0.0:6379   proxy for other machines
  slotway --server redis-1:6379                           proxy for one server that is no cluster
  slotway run --config /etc/slotway.toml                  everything from a file
  slotway check --config /etc/slotway.toml                is the file right?
  slotway explain MSET a 1 b 2                            how is this command routed?
  slotway demo                                            a throw-away cluster with the proxy in front

Every key of the configuration file can also be set as an environment variable, such as SLOTWAY_CLUSTER or
SLOTWAY_LIMITS_PARK_TIMEOUT. A flag wins over a variable, a variable over the file, the file over the default.
`slotway check --print-reference` prints every key with its meaning, range and default.";

/// A stateless proxy that makes a Redis or Valkey Cluster look like one server, or stands before one that is none.
#[derive(Debug, Parser)]
#[command(name = "slotway", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy (also what `slotway` does without a command).
    Run(RunArgs),
    /// Check a configuration and say what it means, or every fault it has.
    Check(CheckArgs),
    /// Say how a command is routed: its class, its keys, their slots, and with --admin their nodes.
    Explain(ExplainArgs),
    /// Start a throw-away cluster with the proxy in front of it, until Ctrl-C.
    Demo(DemoArgs),
}

/// Flags of `slotway run`. They stay text here: the configuration checks them together with everything else.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct RunArgs {
    /// Configuration file (TOML) [env: SLOTWAY_CONFIG].
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Address for clients [default: 127.0.0.1:6379] [env: SLOTWAY_LISTEN].
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: Option<String>,
    /// Address of the admin endpoint, or "off" [default: 127.0.0.1:9379] [env: SLOTWAY_ADMIN].
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) admin: Option<String>,
    /// Threads that serve clients [default: cores of this machine or container] [env: SLOTWAY_WORKERS].
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<String>,
    /// Some nodes of the cluster; the others are found from them [env: SLOTWAY_CLUSTER].
    #[arg(long, value_name = "HOST:PORT,...")]
    pub(crate) cluster: Option<String>,
    /// The one server that has all keys, instead of a cluster [env: SLOTWAY_UPSTREAM_SERVER].
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) server: Option<String>,
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Print the reference file, with every key, instead.
    #[arg(long, conflicts_with_all = ["config", "listen", "admin", "workers", "cluster", "server"])]
    print_reference: bool,
}

/// Runs the program with the process's own arguments.
#[must_use]
pub fn main() -> ExitCode {
    // One decision for both streams: colours in a file are worse than none on a terminal.
    let colours = io::stdout().is_terminal() && io::stderr().is_terminal();
    ExitCode::from(dispatch(
        std::env::args_os(),
        &mut io::stdout().lock(),
        &mut io::stderr(),
        colours,
    ))
}

/// Parses `arguments` and does what they say. The code is the exit code.
fn dispatch(
    arguments: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
    err: &mut dyn Write,
    colours: bool,
) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" with exit code 0, and belong on standard output.
            let target: &mut dyn Write = if error.use_stderr() { err } else { out };
            let text = error.render();
            let _ = if colours {
                write!(target, "{}", text.ansi())
            } else {
                write!(target, "{text}")
            };
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    let result = match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(arguments) => run(&arguments),
        Command::Check(arguments) if arguments.print_reference => check::print_reference(out),
        Command::Check(arguments) => check::check(&arguments.run, out),
        Command::Explain(arguments) => explain::explain(arguments, out),
        Command::Demo(arguments) => demo::demo(&arguments, out),
    };
    result.unwrap_or_else(|error| {
        let code = if error.is::<UsageError>() { 2 } else { 1 };
        // The whole chain of causes on one line; a broken standard error leaves nobody to tell.
        let _ = writeln!(err, "slotway: {error:#}");
        code
    })
}

fn run(arguments: &RunArgs) -> anyhow::Result<u8> {
    let config = load::load(arguments)?;
    telemetry::init(config.log);
    let runtime = supervisor::runtime()?;
    let code = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let arguments = arguments.clone();
        let reload = Reload::on_hangup(move || load::load(&arguments))?;
        supervisor::serve(config, &mut signals, Some(reload), |_| {}).await
    });
    // Whatever still runs on this thread (an answer to a scraper) has no business delaying the end.
    runtime.shutdown_background();
    code
}
