//! From the text of a file to its tree.

use super::fields::Reader;
use crate::{
    Fault, Faults, MAX_TEXT, Place,
    node::{self, Node},
};

/// The text without a byte order mark, which would shift every place.
pub(super) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// The tree of a file and a reader of it.
pub(crate) fn tree(name: &str, text: &str, what: &str) -> Result<(Node, Reader), Faults> {
    let text = without_mark(text);
    if text.len() > MAX_TEXT {
        let mut faults = Faults::new(name, "");
        let message = format!(
            "the file has {} bytes; at most {MAX_TEXT} are read",
            text.len()
        );
        faults.push(Place::START, message, format!("is this the {what}?"));
        return Err(faults);
    }
    let mut faults = Faults::new(name, text);
    match node::parse(text) {
        Ok(root) => Ok((root, Reader::new(faults))),
        Err(Fault {
            place,
            message,
            hint,
        }) => {
            faults.push(place, message, hint);
            Err(faults)
        }
    }
}
