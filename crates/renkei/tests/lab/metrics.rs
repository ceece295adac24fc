//! What a site tells on its admin port.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

use super::Site;

/// The whole answer to a GET.
pub(crate) fn get(admin: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(admin)?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// What `/metrics` gives.
pub(crate) fn scrape(admin: SocketAddr) -> String {
    let text = get(admin, "/metrics").expect("metrics");
    text.split_once("\r\n\r\n").expect("a body").1.to_owned()
}

/// The value of a metric without labels.
pub(crate) fn metric(admin: SocketAddr, name: &str) -> u64 {
    let text = scrape(admin);
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.expect("the metric").trim().parse().expect("a number")
}

/// The admin port of a running site, from its log.
pub(crate) fn admin_of(site: &mut Site) -> SocketAddr {
    let log = site.logged("metrics and health");
    let (_, address) = log.split_once("address=").expect("the log names it");
    let address = address.split_whitespace().next().expect("address");
    address.parse().expect("address")
}
