//! One connection of an application, as it sees it.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::SOON;

/// An open connection to an echo.
pub(crate) struct Connection(TcpStream);

impl Connection {
    /// Opens it and sends a first word there and back.
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(SOON)).expect("timeout");
        let mut connection = Self(stream);
        connection.say();
        connection
    }

    /// A word there and back.
    pub(crate) fn say(&mut self) {
        self.try_say().expect("a word there and back");
    }

    fn try_say(&mut self) -> io::Result<()> {
        let mut got = [0; 4];
        self.0.write_all(b"word")?;
        self.0.read_exact(&mut got)?;
        assert_eq!(&got, b"word");
        Ok(())
    }

    /// It ends within a while, whether by a reset or not.
    pub(crate) fn assert_ended(mut self) {
        let end = self.0.read(&mut [0; 4]);
        let timed_out = |error: &io::Error| error.kind() == ErrorKind::WouldBlock;
        assert!(!end.as_ref().is_err_and(timed_out), "{end:?}");
        assert_eq!(end.unwrap_or(0), 0);
    }

    /// It has been reset, or is within a while: neither silence nor a clean end.
    pub(crate) fn assert_reset(self) {
        self.assert_reset_within(SOON);
    }

    /// The same within a certain time.
    pub(crate) fn assert_reset_within(mut self, limit: Duration) {
        self.0.set_read_timeout(Some(limit)).expect("timeout");
        let error = self.0.read(&mut [0; 4]).expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}
