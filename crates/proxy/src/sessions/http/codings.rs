//! Transfer codings below `chunked` (RFC 9112 7): a body that is compressed for the transfer is
//! passed on as it is, with its codings named.

use hyper::{
    HeaderMap,
    header::{HeaderValue, TRANSFER_ENCODING},
};

/// The registered ones, and their old names (RFC 9112 7.2).
const KNOWN: [&str; 5] = ["compress", "deflate", "gzip", "x-compress", "x-gzip"];

/// A message whose transfer codings are not known here, or are not in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CodingError {
    /// RFC 9112 7: such a request is answered with 501.
    #[error("the message has a transfer coding that is not known here")]
    Unknown,
    /// RFC 9112 6.1: `chunked` is applied once, at the end.
    #[error("the message is chunked more than once")]
    ChunkedTwice,
}

/// The `Transfer-Encoding` to send, if the message has other codings than `chunked`. This side
/// applies `chunked` at the end, whether or not it was there.
pub(super) fn codings_of(headers: &HeaderMap) -> Result<Option<HeaderValue>, CodingError> {
    let mut codings = Vec::new();
    let mut chunked = false;
    for value in headers.get_all(TRANSFER_ENCODING) {
        let value = value.to_str().map_err(|_| CodingError::Unknown)?;
        for coding in value.split(',').map(str::trim) {
            let is = |name: &&&str| coding.eq_ignore_ascii_case(name);
            if coding.is_empty() {
                continue;
            }
            if chunked {
                return Err(CodingError::ChunkedTwice);
            }
            match KNOWN.iter().find(is) {
                Some(known) => codings.push(*known),
                None if is(&&"chunked") => chunked = true,
                None => return Err(CodingError::Unknown),
            }
        }
    }
    if codings.is_empty() {
        return Ok(None);
    }
    codings.push("chunked");
    Ok(HeaderValue::from_str(&codings.join(", ")).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_are_kept_in_their_order() {
        let codings = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TRANSFER_ENCODING, HeaderValue::from_static(value));
            }
            let codings = codings_of(&headers)?;
            Ok(codings.map(|value| value.to_str().unwrap().to_owned()))
        };
        let some = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(codings(&[]), Ok(None));
        assert_eq!(codings(&["chunked"]), Ok(None));
        assert_eq!(codings(&[", Chunked ,"]), Ok(None));
        assert_eq!(codings(&["GZIP, chunked"]), some("gzip, chunked"));
        assert_eq!(
            codings(&["deflate", "gzip,chunked"]),
            some("deflate, gzip, chunked")
        );
        assert_eq!(codings(&["gzip"]), some("gzip, chunked"));
        for (values, error) in [
            (["chunked, chunked"], CodingError::ChunkedTwice),
            (["chunked, gzip"], CodingError::ChunkedTwice),
            (["identity, chunked"], CodingError::Unknown),
            (["xchunked"], CodingError::Unknown),
            (["gzip;q=1, chunked"], CodingError::Unknown),
        ] {
            assert_eq!(codings(&values), Err(error), "{values:?}");
        }
    }
}
