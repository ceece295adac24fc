//! What the system asks of the process through signals.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT for the first time: drain, then end.
    Terminate,
    /// SIGTERM or SIGINT again: end now.
    Force,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// The stream of requests. From its creation on, these signals no longer end the process.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    terminating: bool,
}

impl Signals {
    /// Starts to listen; within a tokio runtime.
    ///
    /// # Errors
    /// When the system refuses the handlers.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            terminating: false,
        })
    }

    /// The next request. Cancellation loses none.
    pub async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hangup.recv() => return Request::Reload,
        }
        if std::mem::replace(&mut self.terminating, true) {
            Request::Force
        } else {
            Request::Terminate
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn signals_become_requests_and_the_second_end_is_force() {
        let mut signals = Signals::new().unwrap();
        for (sent, expected) in [
            (Signal::HUP, Request::Reload),
            (Signal::TERM, Request::Terminate),
            (Signal::HUP, Request::Reload),
            (Signal::INT, Request::Force),
            (Signal::TERM, Request::Force),
        ] {
            kill_process(getpid(), sent).unwrap();
            assert_eq!(signals.next().await, expected, "{sent:?}");
        }
    }
}
