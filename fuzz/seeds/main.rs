//! Writes the first inputs of every target below a folder: what honest programs send. The fuzzer
//! changes them from there.

mod federation;
mod kafka;
mod statements;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use loona_hpack::Encoder;
use renkei_spiffe::{Bundle, TrustDomain};
use renkei_testkit::TestAuthority;
use renkei_trunk::{Config, Trunk, TrunkId};
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs};

fn main() {
    let folder = std::env::args_os().nth(1).expect("a folder to write to");
    let seeds = Seeds(folder.into());
    kafka::write(&seeds);
    statements::write(&seeds);
    grpc_headers(&seeds);
    bundles(&seeds);
    site_files(&seeds);
    client_hellos(&seeds);
    http_heads(&seeds);
    trunks(&seeds);
}

pub(crate) struct Seeds(PathBuf);

impl Seeds {
    pub(crate) fn write(&self, target: &str, name: &str, bytes: &[u8]) {
        let folder = self.0.join(target);
        fs::create_dir_all(&folder).expect("folder");
        fs::write(folder.join(name), bytes).expect("seed");
    }
}

fn grpc_headers(seeds: &Seeds) {
    let fields: [(&[u8], &[u8]); 6] = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/SpiffeWorkloadAPI/FetchX509SVID"),
        (b":authority", b"%2Frun%2Frenkei%2Fworkload.sock"),
        (b"te", b"trailers"),
        (b"workload.spiffe.io", b"true"),
    ];
    let mut encoder = Encoder::new();
    let mut bytes = vec![7];
    bytes.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    bytes.extend(frame(4, 0, 0, &[]));
    for stream in [1, 3] {
        let block = encoder.encode(fields);
        bytes.extend(frame(1, 4, stream, &block));
        bytes.extend(frame(0, 1, stream, &[0, 0, 0, 0, 0]));
    }
    // A block in two frames, with padding and priority.
    let block = encoder.encode(fields);
    let (first, rest) = block.split_at(block.len() / 2);
    let padded = [&[2, 0, 0, 0, 0, 16][..], first, &[0, 0]].concat();
    bytes.extend(frame(1, 0x28, 5, &padded));
    bytes.extend(frame(9, 4, 5, rest));
    seeds.write("grpc_headers", "calls", &bytes);
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let [_, length @ ..] = length.to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn bundles(seeds: &Seeds) {
    let mut bundle = Bundle::empty(TrustDomain::parse("osaka.example").expect("a name"));
    seeds.write("bundle", "empty", bundle.to_document().as_bytes());
    bundle.sequence = Some(7);
    for _ in 0..2 {
        let authority = TestAuthority::new("osaka.example");
        bundle.x509_authorities.push(authority.certificate());
    }
    seeds.write("bundle", "two", bundle.to_document().as_bytes());
    // With a key for JWT-SVIDs and members of later versions.
    let document = bundle.to_document().replacen(
        "\"keys\":[",
        r#""spiffe_refresh_hint":300,"later":{},"keys":[{"kty":"EC","use":"jwt-svid","kid":"a","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},{"kty":"EC","use":"later"},"#,
        1,
    );
    seeds.write("bundle", "jwt", document.as_bytes());
}

/// The files of the tests of `renkei-site`.
fn site_files(seeds: &Seeds) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/site/tests/fixtures");
    for file in fs::read_dir(fixtures).expect("fixtures") {
        let path = file.expect("file").path();
        let name = path.file_name().and_then(|name| name.to_str());
        let bytes = fs::read(&path).expect("fixture");
        seeds.write("site_file", name.expect("a name"), &bytes);
    }
}

fn client_hellos(seeds: &Seeds) {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    for (name, protocols) in [("plain", &[][..]), ("trunk", &[b"renkei-trunk/1".to_vec()])] {
        let mut config = config.clone();
        config.alpn_protocols = protocols.to_vec();
        let server = "echo.osaka.example".try_into().expect("a name");
        let mut client = ClientConnection::new(Arc::new(config), server).expect("client");
        let mut hello = Vec::new();
        client.write_tls(&mut hello).expect("written");
        seeds.write("client_hello", name, &hello);
    }
}

fn http_heads(seeds: &Seeds) {
    let heads = [
        "GET /v1/records?from=1 HTTP/1.1\r\nHost: echo\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        "POST /a%20b HTTP/1.1\r\nHost: e\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
        "PUT /up HTTP/1.1\r\nHost: e\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n\
         3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: e\r\nConnection: Upgrade, X-A\r\nX-A: 1\r\nUpgrade: websocket\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: e\r\nX-Renkei-Peer: me\r\nX_Original_URL: /b\r\n\r\n",
    ];
    for (number, head) in heads.iter().enumerate() {
        seeds.write("http_head", &number.to_string(), head.as_bytes());
    }
}

fn trunks(seeds: &Seeds) {
    let now = std::time::Instant::now();
    let mut trunk = Trunk::dial(now, Config::default(), TrunkId([1; 16]), "acceptor");
    let lane = trunk.add_lane(now, "acceptor").expect("lane");
    let mut bytes = vec![2];
    while let Some(frame) = trunk.poll_transmit(now, lane, 16 * 1024) {
        bytes.extend_from_slice(frame.header());
        bytes.extend_from_slice(frame.payload());
    }
    seeds.write("trunk", "hello", &bytes);
    seeds.write("trunk_lanes", "steps", &[1, 0, 0, 2, 0, 3, 0, 0, 1, 4, 9]);
}
