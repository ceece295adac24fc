//! Functions and imports that are refused before anything runs.
//!
//! Rules decide on connections of strangers, within the process that carries everybody's
//! traffic: they must neither reach outside nor make it allocate without bound in one step,
//! where neither the count of instructions nor the time is looked at.

use super::{
    RegoError,
    tokens::{Kind, Token},
};

const OUTSIDE: &str = "reaches outside the policy";
const UNBOUNDED: &str = "can allocate memory without bound";

/// Each function as the names between the dots.
const REFUSED: [([&str; 2], &str); 7] = [
    (["http", "send"], OUTSIDE),
    (["net", "lookup_ip_addr"], OUTSIDE),
    (["opa", "runtime"], OUTSIDE),
    (["numbers", "range"], UNBOUNDED),
    (["numbers", "range_step"], UNBOUNDED),
    (["net", "cidr_expand"], UNBOUNDED),
    (["bits", "lsh"], UNBOUNDED),
];

/// Refuses what cannot be had here, at its place.
pub(super) fn check(tokens: &[Token]) -> Result<(), RegoError> {
    for pair in tokens.windows(2) {
        let [first, second] = pair else { continue };
        if first.is_name("import") && second.is_name("data") {
            return Err(first.fault("there is nothing to import: `data` holds this module alone"));
        }
    }
    check_calls(tokens)
}

/// Looks for `a.b` and `a["b"]`; comments and messages may say anything.
fn check_calls(tokens: &[Token]) -> Result<(), RegoError> {
    for window in tokens.windows(3) {
        let [first, between, second] = window else {
            continue;
        };
        let joined = between.is_symbol(".") || between.is_symbol("[");
        if first.kind != Kind::Name || !joined {
            continue;
        }
        let path = [first.text.as_str(), second.text.as_str()];
        if let Some((_, why)) = REFUSED.iter().find(|(function, _)| *function == path) {
            let name = path.join(".");
            return Err(first.fault(format!("{name} is not available here: it {why}")));
        }
    }
    Ok(())
}
