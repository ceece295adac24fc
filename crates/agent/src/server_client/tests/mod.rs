//! A node against a server that speaks the real protocols, over TLS on a loopback address.

mod following;
mod joining;
mod server;
