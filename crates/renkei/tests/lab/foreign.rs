//! A trust domain that Renkei does not run: its certificates are in PEM files, for programs of
//! other projects.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
};

use renkei_spiffe::{Bundle, TrustDomain};
use renkei_testkit::{Issued, TestAuthority, free_address};
use tempfile::TempDir;

use super::{Site, echo, own_uid, run, said, serve};

/// A CA with a folder.
pub(crate) struct Foreign {
    pub(crate) authority: TestAuthority,
    folder: TempDir,
}

/// A certificate and its key as files.
pub(crate) struct Files {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Foreign {
    pub(crate) fn new(trust_domain: &str) -> Self {
        let authority = TestAuthority::new(trust_domain);
        let folder = TempDir::with_prefix("renkei-foreign-").expect("folder");
        let name = TrustDomain::parse(trust_domain).expect("trust domain");
        let mut bundle = Bundle::empty(name);
        bundle.x509_authorities.push(authority.certificate());
        bundle.sequence = Some(1);
        let foreign = Self { authority, folder };
        fs::write(foreign.path("bundle.json"), bundle.to_document()).expect("bundle document");
        foreign
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The `peers:` block of a site that knows this trust domain only.
    pub(crate) fn peers(&self, gateway: Option<SocketAddr>) -> String {
        let name = self.authority.trust_domain();
        let bundle = self.path("bundle.json");
        let gateway = gateway.map_or_else(String::new, |at| format!(", gateway: {at}"));
        format!(
            "peers:\n  {name}: {{bundle: {}{gateway}}}\n",
            bundle.display()
        )
    }

    /// A good SVID of `/name` as files.
    pub(crate) fn issue(&self, name: &str) -> Files {
        self.files(name, &self.authority.issue(&format!("/{name}")))
    }

    /// Any certificate as files.
    pub(crate) fn files(&self, name: &str, issued: &Issued) -> Files {
        let files = Files {
            certificate: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
        };
        fs::write(&files.certificate, &issued.certificate_pem).expect("certificate file");
        fs::write(&files.key, &issued.key_pem).expect("key file");
        files
    }

    /// The CAs of a site, as its operator hands them over, in a PEM file for others.
    pub(crate) fn authorities_of(&self, site: &Site) -> PathBuf {
        let name = TrustDomain::parse(&format!("{}.example", site.name)).expect("trust domain");
        let bundle = Bundle::parse_document(name, site.own_bundle().as_bytes()).expect("document");
        assert!(!bundle.x509_authorities.is_empty());
        let pem = |der: &rustls_pki_types::CertificateDer<'_>| {
            pem::encode(&pem::Pem::new("CERTIFICATE", der.to_vec()))
        };
        let file = self.path(&format!("{}-ca.pem", site.name));
        let text: String = bundle.x509_authorities.iter().map(pem).collect();
        fs::write(&file, text).expect("CA file");
        file
    }
}

/// A site `hokkaido` that runs and offers `echo` to `caller` of a foreign trust domain alone.
pub(crate) fn callee_of(foreign: &Foreign, backend: SocketAddr) -> Site {
    let mut hokkaido = Site::new("hokkaido");
    let caller = format!("{}/caller", foreign.authority.trust_domain());
    hokkaido.write(&format!(
        "{}services:\n  echo: {{backends: [{backend}], allow: [{caller}]}}\n",
        foreign.peers(None)
    ));
    hokkaido.start();
    hokkaido.wait_linked();
    hokkaido
}

/// Writes the files of two sites that call each other: `edge` of `spire.example`, whose identities
/// come from an agent of other software, and Osaka, which knows it by `peers`. Gives the local
/// addresses at which the edge's `collector` reaches Osaka's `echo`, and Osaka's `caller` the
/// edge's `store`.
pub(crate) fn link_with_edge(osaka: &Site, edge: &Site, peers: &str) -> (SocketAddr, SocketAddr) {
    let (to_osaka, to_edge, backend, uid) = (free_address(), free_address(), echo(), own_uid());
    osaka.write(&format!(
        "{peers}services:\n  echo: {{backends: [{backend}], allow: [spire.example/collector]}}\n\
         workloads:\n  caller: {{selectors: [{uid}], uses: {{spire.example/store: {to_edge}}}}}\n",
    ));
    let text = format!(
        "site: edge\ntrust_domain: spire.example\ngateway: {{listen: {gateway}}}\n{peers}\
         services:\n  store: {{backends: [{backend}], allow: [osaka.example/caller]}}\n\
         workloads:\n  collector: {{selectors: [{uid}], uses: {{osaka.example/echo: {to_osaka}}}}}\n",
        gateway = edge.gateway,
        peers = edge.peers(&[osaka]),
    );
    fs::write(edge.file(), text).expect("site file");
    (to_osaka, to_edge)
}

/// A service that sends back one line and closes: for clients without half-close.
pub(crate) fn line_echo() -> SocketAddr {
    serve(|mut stream| {
        let mut line = String::new();
        let copy = stream.try_clone().expect("socket handle");
        if BufReader::new(copy).read_line(&mut line).is_ok() {
            let _ = stream.write_all(line.as_bytes());
        }
    })
}

/// `openssl s_client` as a caller of `echo` at Hokkaido: says `line`, and what came back is its
/// standard output. It leaves the judgement of the server to `options`.
pub(crate) fn s_client(
    gateway: SocketAddr,
    identity: Option<&Files>,
    options: &[&str],
    line: &str,
) -> Output {
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-quiet", "-servername", "echo.hokkaido.example"])
        .args(["-connect", &gateway.to_string()])
        .args(options);
    if let Some(files) = identity {
        command.args([Path::new("-cert"), &files.certificate]);
        command.args([Path::new("-key"), &files.key]);
    }
    let mut process = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl runs");
    // Its end of the pipe is closed already when it was refused at once.
    let mut input = process.stdin.take().expect("standard input");
    let _ = input.write_all(line.as_bytes());
    let output = process.wait_with_output().expect("openssl ends");
    drop(input);
    output
}

/// Runs a program that must succeed, and returns its standard output.
pub(crate) fn stdout_of(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Bytes that show a loss, a repetition or a swap, for two threads.
pub(crate) fn pattern(length: usize) -> Arc<Vec<u8>> {
    let mut state = 0x9e37_79b9_u32;
    let byte = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    });
    Arc::new(byte.take(length).collect())
}
