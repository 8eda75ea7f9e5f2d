//! The signals that end the process.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{self, SignalKind};

/// Time in which a further signal is an echo of the first: whoever passes a signal on (timeout, make, a terminal with a wrapper)
/// often sends it to the process and to its group.
const ECHO: Duration = Duration::from_millis(20);

/// A signal that asks the process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT, Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP: the terminal was closed.
    Hangup,
}

impl Signal {
    /// The name people know it by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::Hangup => "SIGHUP",
        }
    }

    /// Exit code of a process that the signal ended: 128 plus its number, as shells have it.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
            Self::Hangup => 129,
        }
    }
}

/// Receives the signals from its creation on; until the process ends they no longer end it by themselves.
#[derive(Debug)]
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: Option<unix::Signal>,
}

impl Signals {
    /// Starts to receive SIGINT and SIGTERM.
    ///
    /// # Errors
    /// When the system does not let us.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
            hangup: None,
        })
    }

    /// Receives SIGHUP too: for a program that lives as long as its terminal.
    ///
    /// # Errors
    /// When the system does not let us.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    pub fn with_terminal(self) -> io::Result<Self> {
        let hangup = Some(unix::signal(SignalKind::hangup())?);
        Ok(Self { hangup, ..self })
    }

    /// The next signal.
    ///
    /// # Cancel safety
    /// A signal that arrives while nobody waits is kept; several of one kind count as one.
    pub async fn next(&mut self) -> Signal {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = hangup => Signal::Hangup,
        }
    }

    /// Lets the echoes of a signal pass. Nobody presses Ctrl-C twice that fast.
    pub async fn settle(&mut self) {
        let echoes = async {
            loop {
                self.next().await;
            }
        };
        let _: Result<(), _> = tokio::time::timeout(ECHO, echoes).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raise() {
        let id = std::process::id().to_string();
        let raised = std::process::Command::new("kill")
            .args(["-HUP", &id])
            .status();
        assert!(raised.unwrap().success());
    }

    /// SIGHUP, because other tests of this process wait for SIGTERM.
    #[tokio::test(flavor = "current_thread")]
    async fn an_echo_is_no_second_signal() {
        let mut signals = Signals::new().unwrap().with_terminal().unwrap();
        raise();
        assert_eq!(signals.next().await, Signal::Hangup);
        raise();
        signals.settle().await;
        let second = tokio::time::timeout(ECHO, signals.next()).await;
        assert!(second.is_err());
        raise();
        assert_eq!(signals.next().await, Signal::Hangup, "later ones count");
    }
}
