//! Telling the service manager how far the process is: `sd_notify(3)`.
//!
//! Messages go as datagrams to the socket named by `NOTIFY_SOCKET`; a name that begins with `@`
//! is an abstract one. Without the variable there is nothing to notify.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

use rustix::time::{ClockId, clock_gettime};

use crate::files;

/// The way to the service manager.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    manager: SocketAddr,
}

impl Notifier {
    /// The service manager that started this process, if it waits for messages.
    ///
    /// # Errors
    /// When `NOTIFY_SOCKET` is set and is no address of a unix socket.
    pub fn from_env() -> io::Result<Option<Self>> {
        match std::env::var_os("NOTIFY_SOCKET") {
            Some(name) if !name.is_empty() => Self::to(&name).map(Some),
            _ => Ok(None),
        }
    }

    /// The manager that listens at a path or, after `@`, an abstract name.
    ///
    /// # Errors
    /// When the name is no address of a unix socket.
    pub fn to(name: &OsStr) -> io::Result<Self> {
        let manager = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::from(io::ErrorKind::InvalidInput)),
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read must not hold up the process.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, manager })
    }

    /// The process is ready, or ready again after a reload.
    ///
    /// # Errors
    /// When the manager cannot be reached.
    pub fn ready(&self, status: &str) -> io::Result<()> {
        self.send(&format!("READY=1\n{}", status_line(status)))
    }

    /// The process reads its configuration again; [`Notifier::ready`] follows.
    ///
    /// # Errors
    /// When the manager cannot be reached.
    pub fn reloading(&self) -> io::Result<()> {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now
            .tv_sec
            .saturating_mul(1_000_000)
            .saturating_add(now.tv_nsec / 1_000);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\n"))
    }

    /// The process drains and ends.
    ///
    /// # Errors
    /// When the manager cannot be reached.
    pub fn stopping(&self, status: &str) -> io::Result<()> {
        self.send(&format!("STOPPING=1\n{}", status_line(status)))
    }

    fn send(&self, message: &str) -> io::Result<()> {
        let (message, manager) = (message.to_owned(), self.manager.clone());
        let Some(path) = self.manager.as_pathname() else {
            self.socket.send_to_addr(message.as_bytes(), &manager)?;
            return Ok(());
        };
        let socket = self.socket.try_clone()?;
        files::run(path, move || {
            socket.send_to_addr(message.as_bytes(), &manager)?;
            Ok(())
        })
    }
}

/// One line: a line break would begin another assignment.
fn status_line(status: &str) -> String {
    format!("STATUS={}\n", status.replace(['\n', '\r', '\0'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(manager: &UnixDatagram) -> String {
        let mut buffer = [0_u8; 512];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_at_a_path_is_told_each_stage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::to(path.as_os_str()).unwrap();
        notifier.ready("4 services\nMAINPID=1").unwrap();
        assert_eq!(received(&manager), "READY=1\nSTATUS=4 services MAINPID=1\n");
        notifier.reloading().unwrap();
        let message = received(&manager);
        let (first, micros) = message.trim_end().split_once("\nMONOTONIC_USEC=").unwrap();
        assert_eq!(first, "RELOADING=1");
        assert!(micros.parse::<u64>().unwrap() > 0);
        notifier.stopping("draining").unwrap();
        assert_eq!(received(&manager), "STOPPING=1\nSTATUS=draining\n");
    }

    #[test]
    fn a_manager_at_an_abstract_name_is_told() {
        let name = format!("renkei-test-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        Notifier::to(OsStr::new(&format!("@{name}")))
            .unwrap()
            .ready("up")
            .unwrap();
        assert_eq!(received(&manager), "READY=1\nSTATUS=up\n");
    }

    #[test]
    fn a_relative_name_is_refused() {
        assert!(Notifier::to(OsStr::new("notify")).is_err());
    }
}
