//! Where a pair of proxies runs: both on this machine's loopback, or one on each side of a WAN.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
};

use renkei_testkit::free_address;
use renkei_wan::{Side, Wan};

/// The loopback of this machine, or a WAN.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'a> {
    Loopback,
    Wan(&'a Wan),
}

impl Place<'_> {
    /// A command on one side; it ends with this program.
    pub(crate) fn command(self, side: Side, program: &Path) -> Command {
        match self {
            Self::Wan(wan) => wan.command(side, program),
            Self::Loopback => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL", "--"]).arg(program);
                command
            }
        }
    }

    /// A free address that only programs of the same side reach.
    pub(crate) fn inside(self) -> SocketAddr {
        // The namespaces of a WAN are empty: what is free here is free there.
        free_address()
    }

    /// A free address of `side` that the other side reaches.
    pub(crate) fn reachable(self, side: Side) -> SocketAddr {
        let ip: IpAddr = match self {
            Self::Loopback => Ipv4Addr::LOCALHOST.into(),
            Self::Wan(_) => side.address().into(),
        };
        SocketAddr::new(ip, free_address().port())
    }
}
