//! The rules of verification, each with the attacks that it is there against.

mod attacks;
mod chains;
mod envelopes;
mod log;
mod membership;
mod records;
mod world;
