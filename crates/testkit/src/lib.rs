//! For tests only: a certificate authority that can also do wrong, and programs that run beside
//! Renkei in a test. Product code never depends on this crate.

mod authority;
mod child;

pub use authority::{Fault, Issued, TestAuthority};
pub use child::{Child, free_address, free_address_on, python, wait_for};
