//! What is understood of the bytes that connections carry, for protocols that need more than
//! bytes both ways.

pub(crate) mod alpn;
mod backends;
pub(crate) mod http;
pub(crate) mod kafka;

pub(crate) use backends::{Backends, Connected, Unreachable};
