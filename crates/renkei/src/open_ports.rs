//! Ports of backends that every user of this machine can dial, past the mesh.

use std::net::{IpAddr, UdpSocket};

use renkei_site::{BackendAddress, Host};

/// The TCP port of a backend that every user of this machine can connect to.
pub(crate) fn open_port(backend: &BackendAddress) -> Option<u16> {
    let backend = backend.tcp()?;
    let here = match backend.host() {
        Host::Ip(ip) => is_of_this_machine(*ip),
        Host::Name(name) => is_localhost(name),
    };
    here.then(|| backend.port())
}

/// The same on whatever machine the proxy of a service runs: loopback is always its own.
pub(crate) fn loopback_port(backend: &BackendAddress) -> Option<u16> {
    let backend = backend.tcp()?;
    let is_loopback = match backend.host() {
        Host::Ip(ip) => ip.is_loopback(),
        Host::Name(name) => is_localhost(name),
    };
    is_loopback.then(|| backend.port())
}

fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// Only an address of its own can be bound.
fn is_of_this_machine(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}
