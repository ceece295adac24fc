//! Heads with more fields than the parser of HTTP takes: it has room for 100, and more room costs
//! every message. What is more goes around it: those fields are taken out before the parser sees
//! the head, and added to what it has read. The limit of a head is its size in bytes.

use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};

/// So many fields go to the parser in any case, and those by which it finds the end of a message.
pub(super) const PARSED: usize = 80;
/// Those by which the parser acts.
const ACTED_ON: [&str; 8] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Fields that the parser has not seen, in their order.
#[derive(Debug, Default)]
pub(super) struct Surplus(Vec<(HeaderName, HeaderValue)>);

impl Surplus {
    /// Adds them behind the others.
    pub(super) fn add_to(self, headers: &mut HeaderMap) {
        for (name, value) in self.0 {
            // There are fewer than a map can hold, as their bytes are limited.
            if headers.try_append(name, value).is_err() {
                return;
            }
        }
    }
}

/// Whether the lines that follow are allowed to be folded (RFC 9112 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    Request,
    Response,
}

/// The length of the rest of a head, which begins with a line, up to the empty line at its end.
pub(super) fn end_of_head(lines: &[u8]) -> Option<usize> {
    let mut start = 0;
    loop {
        let line = lines.get(start..)?;
        let length = line.iter().position(|byte| *byte == b'\n')? + 1;
        start += length;
        if matches!(line.get(..length), Some(b"\n" | b"\r\n")) {
            return Some(start);
        }
    }
}

/// Takes fields out of the rest of a head; what is no valid field stays for the parser to refuse.
pub(super) fn divide(lines: &[u8], message: Message) -> (Vec<u8>, Surplus) {
    let (mut parsed, mut surplus) = (Vec::new(), Surplus::default());
    let mut rest = lines;
    while !rest.is_empty() {
        let length = field_length(rest);
        let (field, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        rest = after;
        match read_field(field, message) {
            Some(field) => surplus.0.push(field),
            None => parsed.extend_from_slice(field),
        }
    }
    (parsed, surplus)
}

/// The length of a line and of those that continue it.
fn field_length(lines: &[u8]) -> usize {
    let mut ends = lines
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .map(|(index, _)| index + 1);
    let folded = |end: &usize| matches!(lines.get(*end), Some(b' ' | b'\t'));
    ends.find(|end| !folded(end)).unwrap_or(lines.len())
}

/// The field, if it is valid and the parser need not see it.
fn read_field(field: &[u8], message: Message) -> Option<(HeaderName, HeaderValue)> {
    let colon = field.iter().position(|byte| *byte == b':')?;
    let (name, value) = field.split_at_checked(colon)?;
    let name = match message {
        Message::Request => name,
        Message::Response => name.trim_ascii_end(),
    };
    let name = HeaderName::from_bytes(name).ok()?;
    let value = value.get(1..)?.trim_ascii();
    let value = match value.contains(&b'\n') {
        false => HeaderValue::from_bytes(value),
        true if message == Message::Request => return None,
        true => {
            let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            HeaderValue::from_bytes(&lines.collect::<Vec<_>>().join(&b' '))
        }
    };
    let parsed = ACTED_ON.contains(&name.as_str());
    value.ok().filter(|_| !parsed).map(|value| (name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn divided(lines: &str, message: Message) -> (String, Vec<String>) {
        let (parsed, surplus) = divide(lines.as_bytes(), message);
        let field = |(name, value): (HeaderName, HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        let fields = surplus.0.into_iter().map(field).collect();
        (String::from_utf8(parsed).unwrap(), fields)
    }

    #[test]
    fn valid_fields_go_around_the_parser_and_all_else_to_it() {
        let lines = "X-A:  1 \r\nHost: a\r\nx-b: 2\nconnection: close\r\nx-c:\r\nno field\r\n\
                     bad : 1\r\nx-d: 3\r\n 4\r\n\r\n";
        let kept = "Host: a\r\nconnection: close\r\nno field\r\n";
        let (parsed, fields) = divided(lines, Message::Request);
        assert_eq!(parsed, format!("{kept}bad : 1\r\nx-d: 3\r\n 4\r\n\r\n"));
        assert_eq!(fields, ["x-a: 1", "x-b: 2", "x-c: "]);
        let (parsed, fields) = divided(lines, Message::Response);
        assert_eq!(parsed, format!("{kept}\r\n"));
        assert_eq!(fields, ["x-a: 1", "x-b: 2", "x-c: ", "bad: 1", "x-d: 3 4"]);
    }

    #[test]
    fn a_head_ends_with_an_empty_line() {
        for (lines, end) in [
            ("a: 1\r\n\r\nrest", Some(8)),
            ("a: 1\n\nrest", Some(6)),
            ("\r\nrest", Some(2)),
            ("a: 1\r\n", None),
            ("a: 1\r\n\r", None),
            ("", None),
        ] {
            assert_eq!(end_of_head(lines.as_bytes()), end, "{lines:?}");
        }
    }
}
