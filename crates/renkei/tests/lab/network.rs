//! Machines as network namespaces. One reaches another only where a wire connects them: no machine
//! forwards packets.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Command,
};

use renkei_testkit::{Child, in_namespace, wait_for};

use super::{SOON, run, said};

/// A machine with one address. It is gone when this value and the processes in it are.
pub(crate) struct Machine {
    name: &'static str,
    address: Ipv4Addr,
    /// A process that holds the namespace.
    holder: Child,
}

impl Machine {
    /// Needs root.
    pub(crate) fn new(name: &'static str, address: [u8; 4]) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes network namespaces: run it as root"
        );
        let mut holder = Command::new("unshare");
        holder.args(["--net", "--", "sleep", "infinity"]);
        let machine = Self {
            name,
            address: address.into(),
            holder: Child::start_bound(name, holder),
        };
        let comm = format!("/proc/{}/comm", machine.holder.id());
        wait_for("a network namespace", SOON, || {
            let now = std::fs::read_to_string(&comm).ok()?;
            (now.trim() == "sleep").then_some(())
        });
        machine.ip(&["link", "set", "lo", "up"]);
        machine.shell("echo 0 > /proc/sys/net/ipv4/ip_forward");
        machine
    }

    /// The namespace, as a file.
    pub(crate) fn namespace(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.id()).into()
    }

    /// An address of this machine.
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }

    /// Lays a wire between two machines, and a route to the other's address on each.
    pub(crate) fn wire(&self, other: &Self) {
        let (here, there) = (to(other), to(self));
        let holder = other.holder.id().to_string();
        let link = ["link", "add", &here, "type", "veth", "peer", "name", &there];
        self.ip(&[&link[..], &["netns", &holder]].concat());
        for (machine, device, peer) in [(self, here, other), (other, there, self)] {
            let (own, peer) = (machine.address.to_string(), peer.address.to_string());
            machine.ip(&["address", "add", &own, "peer", &peer, "dev", &device]);
            machine.ip(&["link", "set", &device, "up"]);
        }
    }

    /// No connection to this machine comes from outside.
    pub(crate) fn refuse_connections(&self) {
        let rules = "table inet closed { chain input { type filter hook input priority 0; \
                     iifname != lo tcp flags & (syn | ack) == syn reject with tcp reset; }; }";
        self.shell(&format!("nft '{rules}'"));
    }

    /// Whether a TCP connection from here to there is opened.
    pub(crate) fn connects(&self, to: SocketAddr) -> bool {
        let open = format!("exec 3<>/dev/tcp/{}/{}", to.ip(), to.port());
        let mut connect = Command::new("timeout");
        run(&mut self.inside(connect.args(["20", "bash", "-c", &open])))
            .status
            .success()
    }

    /// The command as it runs on this machine.
    pub(crate) fn inside(&self, command: &Command) -> Command {
        in_namespace(&self.namespace(), command)
    }

    fn ip(&self, words: &[&str]) {
        self.done(Command::new("ip").args(words));
    }

    fn shell(&self, script: &str) {
        self.done(Command::new("sh").args(["-c", script]));
    }

    fn done(&self, command: &mut Command) {
        let output = run(&mut self.inside(command));
        assert!(output.status.success(), "{command:?}: {}", said(&output));
    }
}

/// The name of the device at the end of a wire.
fn to(machine: &Machine) -> String {
    format!("to-{}", machine.name)
}
