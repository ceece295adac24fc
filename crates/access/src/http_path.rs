//! Paths of HTTP requests in the one form that rules are compared with.
//!
//! Servers differ in what they make of `//`, `..`, `;x`, `%2F` or `%252e`, and some decode a path
//! more than once. A path that two of them could read differently has no form, so that what was
//! decided is what is done. All others have one, in which a character is percent-encoded only if
//! it must be: two paths have the same form exactly if they decode to the same bytes, and decoding
//! those again changes nothing.

use std::fmt;

use thiserror::Error;

/// The path of a request, in its canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpPath(String);

/// The path of a request as it came, with its canonical form if it has one. A rule that reads the
/// path needs the form; for all others the path may be anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestPath {
    sent: String,
    form: Result<HttpPath, HttpPathError>,
}

impl RequestPath {
    /// Takes the path of a request target in origin form, without its query, or the `*` of a
    /// target in asterisk form.
    pub fn new(sent: &str) -> Self {
        Self {
            sent: sent.to_owned(),
            form: HttpPath::parse(sent),
        }
    }

    /// The canonical form, or why there is none.
    pub fn form(&self) -> Result<&HttpPath, HttpPathError> {
        self.form.as_ref().map_err(|error| *error)
    }
}

impl fmt::Display for RequestPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.form {
            Ok(form) => form.fmt(f),
            // What people read is one line of ASCII.
            Err(_) => self.sent.escape_default().fmt(f),
        }
    }
}

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HttpPathError {
    /// It is in no form that is passed on.
    #[error("the request target is not a path")]
    NotAPath,
    /// A segment is `.` or `..`.
    #[error("the path has a dot segment")]
    DotSegment,
    /// Two slashes follow each other.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// `;`, plain or encoded, which some servers cut off.
    #[error("the path has a semicolon")]
    Semicolon,
    /// `\`, plain or encoded, which some servers take for a slash.
    #[error("the path has a backslash")]
    Backslash,
    /// A slash is written `%2F`.
    #[error("the path has an encoded slash")]
    EncodedSlash,
    /// `%2E` at a place where it would make a dot segment, or anywhere else.
    #[error("the path has an encoded dot")]
    EncodedDot,
    /// Decoded once, it has an encoded character: `%252e`, `%25%32e`, or `%25u002e`, the form
    /// of some servers of their own.
    #[error("the path is encoded twice")]
    EncodedTwice,
    /// More bytes of UTF-8 than the character needs (RFC 3629 3), such as `%C0%AE` for a dot.
    #[error("the path has an overlong character")]
    Overlong,
    /// `%00` and the like.
    #[error("the path has a control character")]
    Control,
    /// `%` without two hexadecimal digits, or a character that has to be encoded.
    #[error("the path is badly encoded")]
    BadEncoding,
}

impl HttpPath {
    /// Reads the path of a request target in origin form, without its query, or the `*` of a
    /// target in asterisk form.
    pub fn parse(text: &str) -> Result<Self, HttpPathError> {
        if text == "*" {
            return Ok(Self(text.to_owned()));
        }
        if !text.starts_with('/') {
            return Err(HttpPathError::NotAPath);
        }
        let decoded = decode(text.as_bytes())?;
        if decoded.windows(3).any(is_escape) || decoded.windows(6).any(is_wide_escape) {
            return Err(HttpPathError::EncodedTwice);
        }
        if decoded.windows(2).any(is_overlong) {
            return Err(HttpPathError::Overlong);
        }
        let mut segments = decoded.split(|byte| *byte == b'/').skip(1).peekable();
        while let Some(segment) = segments.next() {
            match segment {
                b"." | b".." => return Err(HttpPathError::DotSegment),
                b"" if segments.peek().is_some() => return Err(HttpPathError::EmptySegment),
                _ => {}
            }
        }
        Ok(Self(encode(&decoded)))
    }

    /// The canonical form, in which equal paths are equal texts.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HttpPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn decode(text: &[u8]) -> Result<Vec<u8>, HttpPathError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        let byte;
        (byte, rest) = match rest {
            [] => return Ok(decoded),
            [b'%', high, low, rest @ ..] => {
                let byte = unescape(*high, *low).ok_or(HttpPathError::BadEncoding)?;
                match byte {
                    b'/' => return Err(HttpPathError::EncodedSlash),
                    b'.' => return Err(HttpPathError::EncodedDot),
                    _ => (byte, rest),
                }
            }
            [b'%', ..] => return Err(HttpPathError::BadEncoding),
            // Some are not allowed, but sent by some clients, and read by all servers in one way.
            [byte, rest @ ..] => (*byte, rest),
        };
        match byte {
            b';' => return Err(HttpPathError::Semicolon),
            b'\\' => return Err(HttpPathError::Backslash),
            _ if byte.is_ascii_control() => return Err(HttpPathError::Control),
            _ => decoded.push(byte),
        }
    }
}

fn encode(decoded: &[u8]) -> String {
    let mut path = String::with_capacity(decoded.len());
    for byte in decoded {
        match *byte {
            b'/' => path.push('/'),
            byte if stands_for_itself(byte) => path.push(char::from(byte)),
            byte => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

/// What may stand in a segment as it is (RFC 3986 3.3), `;` aside.
fn stands_for_itself(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte)
}

fn is_escape(bytes: &[u8]) -> bool {
    matches!(bytes, [b'%', high, low] if unescape(*high, *low).is_some())
}

fn is_wide_escape(bytes: &[u8]) -> bool {
    matches!(bytes, [b'%', b'u' | b'U', digits @ ..] if digits.iter().all(u8::is_ascii_hexdigit))
}

fn is_overlong(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [0xC0 | 0xC1, 0x80..=0xBF] | [0xE0, 0x80..=0x9F] | [0xF0, 0x80..=0x8F]
    )
}

fn unescape(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_resource_has_one_form() {
        for (text, form) in [
            ("/", "/"),
            ("*", "*"),
            ("/v1/records", "/v1/records"),
            ("/v1/records/", "/v1/records/"),
            ("/%76%31/r%65cords", "/v1/records"),
            ("/a%2bb/c%40d", "/a+b/c@d"),
            ("/a%20b/%e6%97%a5", "/a%20b/%E6%97%A5"),
            ("/a\"b", "/a%22b"),
            ("/50%25", "/50%25"),
            ("/100%25%20used", "/100%25%20used"),
            ("/%C0/%E9", "/%C0/%E9"),
            ("/...", "/..."),
            ("/.well-known/x", "/.well-known/x"),
            ("/a*", "/a*"),
        ] {
            assert_eq!(
                HttpPath::parse(text).map(|path| path.0).as_deref(),
                Ok(form)
            );
        }
    }

    #[test]
    fn what_servers_read_differently_is_refused() {
        use HttpPathError as E;
        for (text, error) in [
            ("", E::NotAPath),
            ("v1", E::NotAPath),
            ("**", E::NotAPath),
            ("http://x/v1", E::NotAPath),
            ("/v1/../admin", E::DotSegment),
            ("/v1/..", E::DotSegment),
            ("/./v1", E::DotSegment),
            ("//admin", E::EmptySegment),
            ("/v1//records", E::EmptySegment),
            ("/v1//", E::EmptySegment),
            ("/v1/..;/admin", E::Semicolon),
            ("/admin;x=1", E::Semicolon),
            ("/admin%3bx", E::Semicolon),
            ("/v1/..\\admin", E::Backslash),
            ("/v1/..%5cadmin", E::Backslash),
            ("/v1/..%2fadmin", E::EncodedSlash),
            ("/v1/%2e%2e/admin", E::EncodedDot),
            ("/v1/.%2E/admin", E::EncodedDot),
            ("/v1/%252e%252e/admin", E::EncodedTwice),
            ("/%25%32e%25%32e/", E::EncodedTwice),
            ("/a/%252%65", E::EncodedTwice),
            ("/a/x%25%32f", E::EncodedTwice),
            ("/a/%25%35c", E::EncodedTwice),
            ("/a/%25252e", E::EncodedTwice),
            ("/a/%25u002e", E::EncodedTwice),
            ("/a/%u002e", E::BadEncoding),
            ("/v1/%c0%ae%c0%ae/admin", E::Overlong),
            ("/v1/..%e0%80%afadmin", E::Overlong),
            ("/v1%00", E::Control),
            ("/v1%0d%0aHost:", E::Control),
            ("/v1\n", E::Control),
            ("/v1%", E::BadEncoding),
            ("/v1%2", E::BadEncoding),
            ("/v1%zz", E::BadEncoding),
            ("/v1%+1", E::BadEncoding),
        ] {
            assert_eq!(HttpPath::parse(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_form_is_stable_and_has_nothing_to_misread(text in "/[ -~]{0,40}") {
            if let Ok(path) = HttpPath::parse(&text) {
                prop_assert_eq!(&HttpPath::parse(path.as_str()).unwrap(), &path);
                let misread = ["//", "/./", "/../", "\\", ";", "%2F", "%2E", "%5C", "%00"];
                prop_assert!(misread.iter().all(|part| !path.as_str().contains(part)));
            }
        }

        #[test]
        fn however_often_it_is_decoded_it_stays_what_was_decided(
            text in "/([a-f0-9%./;]|%25|%2[EeFf5]|%3[0-9]|%4[0-9]|%6[0-9]){0,16}",
        ) {
            let decoded = |text: &[u8]| {
                let mut decoded = Vec::new();
                let mut rest = text;
                while let [first, more @ ..] = rest {
                    rest = more;
                    match (first, more) {
                        (b'%', [high, low, more @ ..]) if unescape(*high, *low).is_some() => {
                            decoded.extend(unescape(*high, *low));
                            rest = more;
                        }
                        (byte, _) => decoded.push(*byte),
                    }
                }
                decoded
            };
            if let Ok(path) = HttpPath::parse(&text) {
                let once = decoded(text.as_bytes());
                prop_assert_eq!(&decoded(&once), &once);
                prop_assert_eq!(&decoded(path.as_str().as_bytes()), &once);
            }
        }

        #[test]
        fn encoding_more_changes_nothing(text in "(/[a-z0-9@+ -]{1,8}){1,4}") {
            let all = |byte: u8| match byte {
                b'/' => "/".to_owned(),
                _ => format!("%{byte:02x}"),
            };
            let encoded: String = text.bytes().map(all).collect();
            prop_assert_eq!(HttpPath::parse(&encoded), HttpPath::parse(&text));
        }
    }
}
