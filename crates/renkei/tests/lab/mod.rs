//! Sites as real `renkei up` processes on loopback addresses, for tests that look at them from
//! outside, as their users do.

#![allow(dead_code, reason = "each test binary uses a part of the lab")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use renkei_testkit::{Child, free_address, in_namespace, wait_for};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything that should happen may take to happen on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(90);

/// The program under test.
pub(crate) fn renkei() -> Command {
    program(Path::new(env!("CARGO_BIN_EXE_renkei")))
}

/// Another release of it.
fn program(path: &Path) -> Command {
    let mut command = Command::new(path);
    command
        .env_remove("RUST_LOG")
        .env_remove("RENKEI_STATE")
        .env("NO_COLOR", "1");
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} does not run: {error}"))
}

/// Standard output and error in one text.
pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// A site: its file, its folder, and its process while it runs.
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) folder: TempDir,
    pub(crate) gateway: SocketAddr,
    pub(crate) process: Option<Child>,
    /// Which release runs it from its next start.
    pub(crate) program: PathBuf,
    /// How long its SVIDs live. They are renewed at half of it.
    pub(crate) svid_life: &'static str,
    /// The network namespace that it runs in, if it is another one than that of the test.
    pub(crate) namespace: Option<PathBuf>,
}

/// A life of SVIDs for tests that wait for renewals. In all other tests it is longer, so that a
/// stalled machine expires nothing.
pub(crate) const SHORT_LIFE: &str = "10s";

impl Site {
    /// A site of the trust domain `NAME.example` whose file holds nothing but its frame.
    pub(crate) fn new(name: &str) -> Self {
        Self::of_release(name, Path::new(env!("CARGO_BIN_EXE_renkei")))
    }

    /// The same with SVIDs that are soon renewed.
    pub(crate) fn renewing(name: &str) -> Self {
        Self {
            svid_life: SHORT_LIFE,
            ..Self::new(name)
        }
    }

    /// The same, run by a certain release.
    pub(crate) fn of_release(name: &str, program: &Path) -> Self {
        let site = Self {
            name: name.to_owned(),
            folder: TempDir::with_prefix("renkei-test-").expect("folder"),
            gateway: free_address(),
            process: None,
            program: program.to_owned(),
            svid_life: "2m",
            namespace: None,
        };
        site.write("");
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.path("site.yaml")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub(crate) fn workload_socket(&self) -> PathBuf {
        self.path("state.public").join("workload.sock")
    }

    /// Writes the site file: the frame, and `rest` behind it.
    pub(crate) fn write(&self, rest: &str) {
        let gateway = self.gateway;
        let text = format!(
            "site: {name}\ntrust_domain: {name}.example\ngateway: {{listen: {gateway}, advertise: \
             {gateway}}}\nlifetimes: {{x509_svid: {life}, bundle_refresh: 1s}}\n{rest}",
            name = self.name,
            life = self.svid_life,
        );
        std::fs::write(self.file(), text).expect("site file");
    }

    /// The `peers:` block that names each of `others`, with bundles handed over out of band.
    pub(crate) fn peers(&self, others: &[&Site]) -> String {
        let mut text = "peers:\n".to_owned();
        for other in others {
            let document = other.own_bundle();
            let file = self.path(&format!("{}.json", other.name));
            std::fs::write(&file, document).expect("bundle file");
            let _ = writeln!(
                text,
                "  {name}.example: {{bundle: https://{gateway}/, bootstrap: {name}.json, gateway: {gateway}}}",
                name = other.name,
                gateway = other.gateway
            );
        }
        text
    }

    /// What the operator hands to other sites; makes the CA at the first call.
    pub(crate) fn own_bundle(&self) -> String {
        let shown = run(self.command(&["bundle", "show", "--output", "json"]));
        assert!(shown.status.success(), "{}", said(&shown));
        String::from_utf8(shown.stdout).expect("UTF-8")
    }

    /// A `renkei` command with this site's file and state.
    pub(crate) fn command(&self, words: &[&str]) -> &'static mut Command {
        let command = Box::leak(Box::new(program(&self.program)));
        command
            .args(words)
            .arg(self.file())
            .arg("--state")
            .arg(self.state())
    }

    pub(crate) fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts the site and waits until it serves.
    pub(crate) fn start_with(&mut self, options: &[&str]) {
        let up = self.command(&["up", "--admin", "127.0.0.1:0"]);
        if !options.contains(&"--drain") {
            up.args(["--drain", "3s"]);
        }
        up.args(options);
        self.start_by(up);
    }

    /// Starts the site's server alone.
    pub(crate) fn start_server(&mut self) {
        let server = self.command(&["server", "--admin", "127.0.0.1:0"]);
        self.start_by(server);
    }

    fn start_by(&mut self, command: &mut Command) {
        let mut process = start_in(self.namespace.as_deref(), &self.name, command);
        wait_for(&format!("{} serves", self.name), SOON, || {
            assert!(
                process.is_running(),
                "{} ended:\n{}",
                self.name,
                process.output()
            );
            self.try_status().filter(|status| status["ready"] == true)
        });
        self.process = Some(process);
    }

    pub(crate) fn process(&mut self) -> &mut Child {
        self.process.as_mut().expect("the site runs")
    }

    /// Waits until the log has these words, and gives the whole log. A line is written by a thread
    /// of its own, after what it tells of.
    pub(crate) fn logged(&mut self, words: &str) -> String {
        let process = self.process.as_mut().expect("the site runs");
        wait_for(&format!("{words:?} in the log"), SOON, || {
            let log = process.output();
            log.contains(words).then_some(log)
        })
    }

    pub(crate) fn try_status(&self) -> Option<Value> {
        let output = run(self.command(&["status", "--output", "json"]));
        output
            .status
            .success()
            .then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    pub(crate) fn status(&self) -> Value {
        self.try_status()
            .unwrap_or_else(|| panic!("{} gives no status", self.name))
    }

    /// How many connections were refused for `reason`.
    pub(crate) fn refused(&self, reason: &str) -> u64 {
        let status = self.status();
        let counts = status["proxy"]["refused"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        counts
            .iter()
            .filter(|count| count["reason"] == reason)
            .filter_map(|count| count["count"].as_u64())
            .sum()
    }

    /// The site's own sentence about its latest refusal for `reason`; waits for it.
    pub(crate) fn sentence(&self, reason: &str) -> String {
        wait_for(&format!("{} refuses for {reason}", self.name), SOON, || {
            let status = self.status();
            let refusals = status["proxy"]["refusals"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let found = refusals
                .iter()
                .find(|refusal| refusal["reason"] == reason)?;
            found["sentence"].as_str().map(str::to_owned)
        })
    }

    /// Waits until the bundles of all peers are known.
    pub(crate) fn wait_linked(&self) {
        wait_for(&format!("{} knows its peers", self.name), SOON, || {
            let status = self.status();
            let peers = status["server"]["peers"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            peers
                .iter()
                .all(|peer| peer["authorities"] != 0)
                .then_some(())
        });
    }

    /// Waits until the site says that it is not ready: that follows a change of its identities.
    pub(crate) fn wait_not_ready(&self) {
        wait_for(&format!("{} is not ready", self.name), SOON, || {
            (self.status()["ready"] == false).then_some(())
        });
    }

    /// How often each SVID has been renewed at least.
    pub(crate) fn renewals(&self) -> u64 {
        let status = self.status();
        let svids = status["agent"]["svids"].as_array().cloned();
        let renewals = svids.unwrap_or_default().into_iter();
        let renewals = renewals.filter_map(|svid| svid["renewals"].as_u64());
        renewals.min().unwrap_or(0)
    }

    /// What the site knows of one peer.
    pub(crate) fn peer(&self, name: &str) -> Value {
        let status = self.status();
        let peers = status["server"]["peers"].as_array().cloned();
        let mut peers = peers.unwrap_or_default().into_iter();
        peers
            .find(|peer| peer["trust_domain"] == name)
            .expect("a peer")
    }

    pub(crate) fn apply(&self) -> Output {
        run(self.command(&["apply"]))
    }
}

/// Starts a process, in a network namespace if one is named.
pub(crate) fn start_in(namespace: Option<&Path>, name: &str, command: &mut Command) -> Child {
    match namespace {
        Some(namespace) => Child::start(name, &mut in_namespace(namespace, command)),
        None => Child::start(name, command),
    }
}

/// The selector that every test process matches.
pub(crate) fn own_uid() -> String {
    format!("unix:uid:{}", rustix::process::geteuid().as_raw())
}

/// A TCP service that sends back what it gets, and keeps half-close.
pub(crate) fn echo() -> SocketAddr {
    serve(|mut stream| {
        let mut buffer = vec![0; 65_536];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    })
}

/// A TCP service with a thread a connection.
pub(crate) fn serve(handle: impl Fn(TcpStream) + Send + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
    let address = listener.local_addr().expect("address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handle = handle.clone();
            std::thread::spawn(move || handle(stream));
        }
    });
    address
}

/// Two linked sites: `osaka`'s workload `collector` reaches `hokkaido`'s service `echo` at the
/// address returned.
pub(crate) fn two_sites(backend: SocketAddr) -> (Site, Site, SocketAddr) {
    let (mut hokkaido, mut osaka) = (Site::new("hokkaido"), Site::new("osaka"));
    let local = link(&mut hokkaido, &mut osaka, backend);
    (hokkaido, osaka, local)
}

/// The same, and SVIDs are soon renewed.
pub(crate) fn two_renewing_sites(backend: SocketAddr) -> (Site, Site, SocketAddr) {
    let (mut hokkaido, mut osaka) = (Site::renewing("hokkaido"), Site::renewing("osaka"));
    let local = link(&mut hokkaido, &mut osaka, backend);
    (hokkaido, osaka, local)
}

/// Starts `to`, which offers `echo`, and `from`, which calls it at the address returned.
pub(crate) fn link(to: &mut Site, from: &mut Site, backend: SocketAddr) -> SocketAddr {
    let local = free_address();
    to.write(&callee(to, from, backend));
    from.write(&caller(from, to, local));
    to.start();
    from.start();
    to.wait_linked();
    from.wait_linked();
    local
}

/// The rest of a site file that offers `echo` to `collector` of another site.
pub(crate) fn callee(site: &Site, other: &Site, backend: SocketAddr) -> String {
    format!(
        "{}services:\n  echo: {{backends: [{backend}], allow: [{}.example/collector]}}\n",
        site.peers(&[other]),
        other.name
    )
}

/// The rest of a site file whose workload `collector` uses `echo` of another site.
pub(crate) fn caller(site: &Site, other: &Site, local: SocketAddr) -> String {
    format!(
        "{}workloads:\n  collector: {{selectors: [{}], uses: {{{}.example/echo: {local}}}}}\n",
        site.peers(&[other]),
        own_uid(),
        other.name
    )
}

/// Sends `bytes`, ends the sending side, and reads to the end.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(bytes)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut got = Vec::new();
    stream.read_to_end(&mut got)?;
    Ok(got)
}

/// Asserts that nothing comes back, while the other end is away: the connection may wait for it.
pub(crate) fn assert_unanswered(address: SocketAddr) {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"during")?;
        stream.read(&mut [0])
    };
    let got = ask();
    assert!(got.as_ref().map_or(true, |count| *count == 0), "{got:?}");
}

/// An exchange that succeeds, at once or later: after a restart a site needs a moment.
pub(crate) fn exchange_soon(address: SocketAddr, bytes: &[u8]) {
    wait_for("an exchange through the mesh", SOON, || {
        exchange(address, bytes).ok().filter(|got| got == bytes)
    });
}

/// Whether a path lies in a folder that only its owner may enter.
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path)
        .expect("metadata")
        .permissions()
        .mode()
        & 0o777
}

pub(crate) mod connection;
pub(crate) mod envoy;
pub(crate) mod faketime;
pub(crate) mod federation;
pub(crate) mod foreign;
pub(crate) mod hub;
pub(crate) mod metrics;
pub(crate) mod network;
pub(crate) mod nodes;
pub(crate) mod pipeline;
pub(crate) mod spire;
