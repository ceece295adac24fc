//! Single values of the file: addresses, identities, names, durations, paths.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use renkei_spiffe::{SpiffeId, TrustDomain};

use super::fields::Wrong;
use crate::{
    BackendAddress, BackendError, Bandwidth, HostPort, Lifetimes, PinnedIdentity,
    address::{is_dns_label, is_dns_name},
    lifetime::{parse_duration, write_duration},
};

/// The name that Renkei keeps for its own identities.
const RESERVED: &str = "renkei";
/// More lanes of a trunk bring nothing.
const MAX_LANES: usize = 16;

pub(crate) fn listen(text: &str) -> Result<SocketAddr, Wrong> {
    let wrong = |message: String| {
        Wrong::new(
            message,
            "write an IP address and a port, such as 127.0.0.1:9092",
        )
    };
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(wrong(format!(
            "{text:?} has port 0; others could not find the listener"
        ))),
        Ok(address) => Ok(address),
        Err(_) => match HostPort::parse(text) {
            Ok(_) => Err(wrong(format!("{text:?} is not an IP address to listen on"))),
            Err(error) => Err(wrong(format!("{text:?} is not an address: {error}"))),
        },
    }
}

/// A listener that only processes of this node can reach.
pub(crate) fn listen_locally(text: &str, why: &str) -> Result<SocketAddr, Wrong> {
    let address = listen(text)?;
    if address.ip().is_loopback() {
        return Ok(address);
    }
    let hint = format!("write 127.0.0.1:{}", address.port());
    Err(Wrong::new(
        format!("{text:?} is not a loopback address; {why}"),
        hint,
    ))
}

pub(crate) fn dial(text: &str) -> Result<HostPort, Wrong> {
    let hint = "write HOST:PORT, such as 10.0.0.5:9092 or \"[2001:db8::5]:9092\"";
    HostPort::parse(text)
        .map_err(|error| Wrong::new(format!("{text:?} is not an address: {error}"), hint))
}

/// Where a service runs.
pub(crate) fn backend(text: &str) -> Result<BackendAddress, Wrong> {
    BackendAddress::parse(text).map_err(|error| {
        let hint = match error {
            BackendError::Address(_) => {
                "write HOST:PORT, such as 10.0.0.5:9092, or unix:PATH, such as unix:/run/app.sock"
            }
            BackendError::Abstract => "let the service listen at a path with a mode of its own",
            _ => "write the whole path, such as unix:/run/postgresql/.s.PGSQL.5432",
        };
        Wrong::new(format!("{text:?} is not an address: {error}"), hint)
    })
}

pub(crate) fn trust_domain(text: &str) -> Result<TrustDomain, Wrong> {
    let hint = match text.strip_prefix("spiffe://") {
        Some(bare) => format!("write {}", bare.trim_end_matches('/')),
        None => "write a DNS name of your own, such as osaka.example".to_owned(),
    };
    let bad = |why: String| Wrong::new(format!("{text:?} is not a trust domain: {why}"), hint);
    match TrustDomain::parse(text) {
        Ok(_) if !is_dns_name(text) => Err(bad("it is not a DNS name".to_owned())),
        Ok(name) => Ok(name),
        Err(error) => Err(bad(error.to_string())),
    }
}

/// An identity in its short or full form. Without the site's own trust domain, which may itself
/// be at fault, a bare name has no owner.
pub(crate) fn identity(text: &str, own: Option<&TrustDomain>) -> Result<Option<SpiffeId>, Wrong> {
    let parsed = match own {
        Some(own) => SpiffeId::parse_short(text, own).map(Some),
        None if text.starts_with("spiffe://") => SpiffeId::parse(text).map(Some),
        None if text.contains('/') => SpiffeId::parse(&format!("spiffe://{text}")).map(Some),
        None => Ok(None),
    };
    let hint = "write NAME, TRUST-DOMAIN/NAME or spiffe://TRUST-DOMAIN/NAME";
    let bad = |why: String| Wrong::new(format!("{text:?} is not an identity: {why}"), hint);
    match parsed {
        Ok(Some(id)) if id.path().is_empty() => Err(bad("it names a whole trust domain".into())),
        Ok(id) => Ok(id),
        Err(error) => Err(bad(error.to_string())),
    }
}

/// An identity of the site itself, as `id` gives it: `/PATH`, or in the forms of [`identity`].
pub(crate) fn own_identity(
    text: &str,
    own: Option<&TrustDomain>,
) -> Result<Option<SpiffeId>, Wrong> {
    let Some(own) = own else { return Ok(None) };
    let read = match text.starts_with('/') {
        true => SpiffeId::with_path(own.clone(), text),
        false => SpiffeId::parse_short(text, own),
    };
    let hint = "write a path such as /ns/prod/sa/web, or spiffe://TRUST-DOMAIN/PATH";
    let bad = |why: String| {
        Wrong::new(
            format!("{text:?} is not an identity of this site: {why}"),
            hint,
        )
    };
    let id = read.map_err(|error| bad(error.to_string()))?;
    if id.trust_domain() != own {
        let why = format!("{} is not this site's trust domain", id.trust_domain());
        return Err(bad(why));
    }
    match id.path().split('/').nth(1) {
        None => Err(bad("it names the whole trust domain".to_owned())),
        Some(first) => unreserved(first).map(|()| Some(id)),
    }
}

/// By what a workload distinguishes its identities (SPIFFE_Workload_API 5.2.1).
pub(crate) fn hint(text: &str) -> Result<String, Wrong> {
    const MOST: usize = 1024;
    let why = match text {
        text if text.len() > MOST => "longer than 1024 bytes",
        text if text.chars().any(char::is_control) => "not printable",
        text => return Ok(text.to_owned()),
    };
    Err(Wrong::new(
        format!("the hint is {why}"),
        "write a short word, such as internal",
    ))
}

pub(crate) fn flag(text: &str) -> Result<bool, Wrong> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(Wrong::new(
            format!("{other:?} is neither true nor false"),
            "write true or false",
        )),
    }
}

/// A whole number within bounds.
pub(crate) fn count(text: &str, least: u32, most: u32) -> Result<u32, Wrong> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits && (least..=most).contains(&number) => Ok(number),
        _ => Err(Wrong::new(
            format!("{text:?} is not a number from {least} to {most}"),
            format!("write {least} to {most}"),
        )),
    }
}

/// The name of a service: a label of the server name that its gateway is asked for.
pub(crate) fn service_name(text: &str) -> Result<(), Wrong> {
    if !is_dns_label(text) {
        let message = format!("{text:?} is not a name for a service");
        return Err(Wrong::new(
            message,
            "use a-z, 0-9 and '-', at most 63, such as my-broker",
        ));
    }
    unreserved(text)
}

/// The name of a node: one segment of its SPIFFE ID's path, and short enough for tables.
pub(crate) fn node_name(text: &str) -> Result<(), Wrong> {
    match is_dns_label(text) {
        true => Ok(()),
        false => Err(Wrong::new(
            format!("{text:?} is not a name for a node"),
            "use a-z, 0-9 and '-', at most 63, such as login1",
        )),
    }
}

/// The name of a workload: one segment of a SPIFFE ID's path.
pub(crate) fn workload_name(text: &str) -> Result<(), Wrong> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if !text.bytes().all(allowed) || text.len() > 255 || matches!(text, "" | "." | "..") {
        let message = format!("{text:?} is not a name for a workload");
        return Err(Wrong::new(
            message,
            "use letters, digits, '.', '-' and '_', at most 255",
        ));
    }
    unreserved(text)
}

fn unreserved(text: &str) -> Result<(), Wrong> {
    match text {
        RESERVED => Err(Wrong::new(
            format!("the name `{RESERVED}` is kept for the site's own server"),
            "choose another name",
        )),
        _ => Ok(()),
    }
}

/// The name of a site, which people see.
pub(crate) fn site_name(text: &str) -> Result<String, Wrong> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if text.bytes().all(allowed) && text.len() <= 63 {
        return Ok(text.to_owned());
    }
    let message = format!("{text:?} is not a name for a site");
    Err(Wrong::new(
        message,
        "use letters, digits, '.', '-' and '_', at most 63, such as osaka",
    ))
}

pub(crate) fn duration(text: &str, least: Duration, most: Duration) -> Result<Duration, Wrong> {
    let Some(duration) = parse_duration(text) else {
        let message = format!("{text:?} is not a duration");
        return Err(Wrong::new(
            message,
            "write a number and s, m, h or d, such as 20s or 24h",
        ));
    };
    if (least..=most).contains(&duration) {
        return Ok(duration);
    }
    let (least, most) = (write_duration(least), write_duration(most));
    Err(Wrong::new(
        format!("{text} is out of range"),
        format!("write {least} to {most}"),
    ))
}

/// The lanes that a trunk may have.
pub(crate) fn lanes(text: &str) -> Result<usize, Wrong> {
    match text.parse() {
        Ok(lanes @ 1..=MAX_LANES) => Ok(lanes),
        _ => Err(Wrong::new(
            format!("{text:?} is not a number of lanes"),
            format!("write a number from 1 to {MAX_LANES}"),
        )),
    }
}

pub(crate) fn bandwidth(text: &str) -> Result<Bandwidth, Wrong> {
    let Some(bandwidth) = Bandwidth::parse(text) else {
        return Err(Wrong::new(
            format!("{text:?} is not a bandwidth"),
            "write a whole number and kbit/s, Mbit/s or Gbit/s, such as 500 Mbit/s",
        ));
    };
    let (least, most) = (Bandwidth::LEAST, Bandwidth::MOST);
    match (least..=most).contains(&bandwidth) {
        true => Ok(bandwidth),
        false => Err(Wrong::new(
            format!("{text} is out of range"),
            format!("write {least} to {most}"),
        )),
    }
}

/// Certificates never outlive the authority that signed them.
pub(crate) fn outlived(lifetimes: &Lifetimes) -> Option<Wrong> {
    let (ca, svid) = (
        write_duration(lifetimes.ca),
        write_duration(lifetimes.x509_svid),
    );
    (lifetimes.x509_svid > lifetimes.ca).then(|| {
        let message = format!("`x509_svid: {svid}` outlives its authority, `ca: {ca}`");
        Wrong::new(
            message,
            format!("lower `x509_svid` to {ca} or less, or raise `ca`"),
        )
    })
}

/// How often peers have to come between the publication of the next CA and its first signature:
/// one visit may fail, and one comes late.
const VISITS: u32 = 3;
/// However short `bundle_refresh` is, peers of default settings come no sooner: Renkei and SPIRE
/// alike.
const SHORTEST_POLL: Duration = Duration::from_mins(1);

/// The shortest life of a CA with which peers that come so often learn of the next one: it is in
/// the bundle from half of that life, and signs at the latest at 11/12 of it (SPIRE: 5/6).
fn least_ca(poll: Duration) -> Duration {
    poll * VISITS * 12 / 5
}

/// Peers of default settings are too slow for the CA, whatever `bundle_refresh` says.
pub(crate) fn hurried(lifetimes: &Lifetimes) -> Option<Wrong> {
    let least = least_ca(SHORTEST_POLL);
    (lifetimes.ca < least).then(|| {
        let message = format!(
            "`ca: {}` is too short: peers fetch the bundle once a minute at most, may not learn of \
             the next CA before it signs, and then have to be given the bundle again",
            write_duration(lifetimes.ca)
        );
        let minutes = least.as_secs().div_ceil(60);
        Wrong::new(message, format!("raise `ca` to {minutes}m or more"))
    })
}

/// `bundle_refresh` is too long for the CA.
pub(crate) fn unlearned(lifetimes: &Lifetimes) -> Option<Wrong> {
    let Lifetimes {
        ca, bundle_refresh, ..
    } = *lifetimes;
    let longest = whole(ca * 5 / 12 / VISITS);
    (bundle_refresh > longest).then(|| {
        let message = format!(
            "`bundle_refresh: {}` is too long for `ca: {}`: peers may not learn of the next CA \
             before it signs, and then have to be given the bundle again",
            write_duration(bundle_refresh),
            write_duration(ca)
        );
        // Rounded up: a fraction of a second would be lost.
        let least = least_ca(bundle_refresh) + Duration::from_millis(999);
        let hint = format!(
            "lower `bundle_refresh` to {} or less, or raise `ca` to {} or more",
            write_duration(longest),
            write_duration(Duration::from_secs(least.as_secs()))
        );
        Wrong::new(message, hint)
    })
}

/// Without the parts of a second, and from a minute on without the seconds.
fn whole(duration: Duration) -> Duration {
    let seconds = duration.as_secs();
    Duration::from_secs(match seconds {
        0..60 => seconds,
        _ => seconds - seconds % 60,
    })
}

/// A file name. Whether the file exists is for the caller to find out.
pub(crate) fn path(text: &str) -> Result<PathBuf, Wrong> {
    match text.contains('\0') {
        false => Ok(text.into()),
        true => Err(Wrong::new(
            "a file name cannot contain a NUL character",
            "remove it",
        )),
    }
}

/// The identity of a peer, and the version that it has at least.
pub(crate) fn pinned_identity(text: &str) -> Result<PinnedIdentity, Wrong> {
    PinnedIdentity::parse(text).ok_or_else(|| {
        Wrong::new(
            format!("{text:?} is not the identity of a site"),
            "write what `renkei identity` prints there: 64 hexadecimal digits, or IDENTITY@VERSION",
        )
    })
}

/// The identity of a site in a federation: the SHA-256 of its genesis.
pub(crate) fn digest(text: &str) -> Result<String, Wrong> {
    let digits = text
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    match digits && text.len() == 64 {
        true => Ok(text.to_owned()),
        false => Err(Wrong::new(
            format!("{text:?} is not the identity of a site"),
            "write the 64 hexadecimal digits that `renkei federation join` prints there",
        )),
    }
}
