//! Bounds of what a session carries and collects.

/// The longest frame carried: Kafka's own default limit for requests.
pub const MAX_FRAME: usize = 100 * 1024 * 1024;

/// The longest answer that is collected to be rewritten. At most this much, and a header, stays
/// behind in a buffer that a session has been given.
pub const MAX_REWRITTEN: usize = 16 * 1024 * 1024;
