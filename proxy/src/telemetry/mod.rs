//! Logging: one line per event on standard error, as text or JSON; panics are logged with where they happened.

use std::backtrace::Backtrace;
use std::io::IsTerminal;

use slotway_core::config::{LogConfig, LogFormat, LogLevel};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

/// Starts logging. A second call has no effect: whoever embeds the proxy may have its own subscriber.
pub fn init(log: LogConfig) {
    let level = level(log.level);
    // Libraries speak of their own insides: only their warnings concern the reader.
    let ours = Targets::new()
        .with_targets([("slotway", level), ("slotway_core", level)])
        .with_default(level.min(LevelFilter::WARN));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let installed = match log.format {
        LogFormat::Json => registry()
            .with(lines.json().flatten_event(true).with_filter(ours))
            .try_init(),
        LogFormat::Text => registry()
            .with(
                lines
                    .with_ansi(std::io::stderr().is_terminal())
                    .with_filter(ours),
            )
            .try_init(),
    };
    if installed.is_ok() {
        log_panics();
    }
}

const fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        tracing::error!(
            thread = thread.name().unwrap_or("unnamed"),
            location = info.location().map(tracing::field::display),
            reason = info.payload_as_str().unwrap_or("not text"),
            backtrace = %Backtrace::force_capture(),
            "panic"
        );
    }));
}
