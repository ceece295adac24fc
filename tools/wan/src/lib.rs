//! A WAN on one machine: two network namespaces with a TUN device each, and two threads that carry
//! packets between them with delay, rate, loss, jitter and cuts.
//!
//! The devices have offload (`IFF_VNET_HDR`), so that the kernel hands over TCP super-packets of up
//! to 64 KiB and takes them back whole; that is what makes several Gbit/s on one core possible.
//! Loss still falls on single segments of the path's MTU: a super-packet that loses segments is
//! split around them, as [`packet`] says, and TCP sees the gaps that a real path would give it.
//!
//! The namespaces have no name: they live as long as this process holds them, and are gone with it
//! however it ends. Nothing outside them is touched but one list: CUBIC is added to the congestion
//! controls that namespaces may use (`net.ipv4.tcp_allowed_congestion_control`), and stays there.
//!
//! It needs `CAP_NET_ADMIN` and `CAP_SYS_ADMIN` (root), `ip` from iproute2, and `nsenter` and
//! `setpriv` from util-linux.

mod link;
mod loss;
mod namespace;
pub mod packet;
mod packet_queue;
mod path;
mod wan;

pub use namespace::{NamespaceError, Profile};
pub use path::{Path, PathError};
pub use wan::{Side, Statistics, Wan, WanError};
