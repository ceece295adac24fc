//! Paths of HTTP requests in the one form that rules are compared with.
//!
//! Servers differ in what they make of `//`, `..`, `;x`, `%2F` or `%252e`. A path that two of them
//! could read differently is refused, so that what was decided is what is done. What remains has
//! one canonical form, in which a character is percent-encoded only if it must be: two paths have
//! the same form exactly if they decode to the same bytes.

use std::fmt;

use thiserror::Error;

/// The path of a request, in its canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpPath(String);

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HttpPathError {
    /// It is in no form that is passed on.
    #[error("the request target is not a path")]
    NotAPath,
    /// `.` or `..`.
    #[error("the path has a dot segment")]
    DotSegment,
    /// `//`.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// `;`, plain or encoded, which some servers cut off.
    #[error("the path has a semicolon")]
    Semicolon,
    /// `\`, plain or encoded, which some servers take for a slash.
    #[error("the path has a backslash")]
    Backslash,
    /// `%2F`.
    #[error("the path has an encoded slash")]
    EncodedSlash,
    /// `%2E` at a place where it would make a dot segment, or anywhere else.
    #[error("the path has an encoded dot")]
    EncodedDot,
    /// `%25` before two digits: encoded twice.
    #[error("the path is encoded twice")]
    EncodedTwice,
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
        let path = canonical(text.as_bytes())?;
        let mut segments = path.split('/').skip(1).peekable();
        while let Some(segment) = segments.next() {
            match segment {
                "." | ".." => return Err(HttpPathError::DotSegment),
                "" if segments.peek().is_some() => return Err(HttpPathError::EmptySegment),
                _ => {}
            }
        }
        Ok(Self(path))
    }

    /// The canonical form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HttpPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn canonical(text: &[u8]) -> Result<String, HttpPathError> {
    let mut path = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return Ok(path),
            [b'%', high, low, rest @ ..] => {
                let byte = unescape(*high, *low).ok_or(HttpPathError::BadEncoding)?;
                push_escaped(byte, rest, &mut path)?;
                rest
            }
            [byte, rest @ ..] => {
                push_plain(*byte, &mut path)?;
                rest
            }
        }
    }
}

fn push_plain(byte: u8, path: &mut String) -> Result<(), HttpPathError> {
    match byte {
        b'/' => path.push('/'),
        b';' => return Err(HttpPathError::Semicolon),
        b'\\' => return Err(HttpPathError::Backslash),
        _ if stands_for_itself(byte) => path.push(char::from(byte)),
        _ if byte.is_ascii_control() => return Err(HttpPathError::Control),
        b'%' => return Err(HttpPathError::BadEncoding),
        // Not allowed, but sent by some clients, and read by all servers in one way.
        _ => escape(byte, path),
    }
    Ok(())
}

fn push_escaped(byte: u8, rest: &[u8], path: &mut String) -> Result<(), HttpPathError> {
    match byte {
        b'/' => return Err(HttpPathError::EncodedSlash),
        b'.' => return Err(HttpPathError::EncodedDot),
        b';' => return Err(HttpPathError::Semicolon),
        b'\\' => return Err(HttpPathError::Backslash),
        b'%' if matches!(rest, [high, low, ..] if unescape(*high, *low).is_some()) => {
            return Err(HttpPathError::EncodedTwice);
        }
        _ if byte.is_ascii_control() => return Err(HttpPathError::Control),
        _ if stands_for_itself(byte) => path.push(char::from(byte)),
        _ => escape(byte, path),
    }
    Ok(())
}

/// What may stand in a segment as it is (RFC 3986 3.3), `;` aside.
fn stands_for_itself(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte)
}

fn escape(byte: u8, path: &mut String) {
    path.push_str(&format!("%{byte:02X}"));
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
