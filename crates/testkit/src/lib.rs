//! For tests only: a certificate authority that can also do wrong, and programs that run with
//! Renkei in a test. Product code never depends on this crate.

mod authority;
mod child;
mod kafka;
mod programs;
mod silent;

pub use authority::{Fault, Issued, TestAuthority};
pub use child::{Child, free_address, free_address_on, in_namespace, wait_for};
pub use kafka::{ACCOUNT, Kafka};
pub use programs::{find_program, program, python};
pub use silent::Silent;
