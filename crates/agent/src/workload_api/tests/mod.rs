//! Clients that nobody here wrote fetch from a running agent, and one that breaks the rules.

mod bounds;
mod python;
mod rules;
mod rust;
