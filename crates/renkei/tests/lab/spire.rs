//! A real SPIRE server with one agent, on this machine: their configuration, entries and end. And
//! an agent of it for another server.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use renkei_spiffe::{Bundle, TrustDomain};
use renkei_testkit::{Child, free_address, program, wait_for};
use serde_json::Value;
use tempfile::TempDir;

use super::{SOON, Site, own_uid, run, said};

/// The trust domain `spire.example`. Both programs poll once a second, so that a change of an
/// entry is soon everywhere.
pub(crate) struct Spire {
    folder: TempDir,
    agent: Option<Child>,
    server: Child,
    api: SocketAddr,
}

impl Spire {
    /// Starts the server, and makes `site` known to it.
    pub(crate) fn start(site: &Site) -> Self {
        let spire = Self::start_alone();
        let other = spire.path("other.json");
        fs::write(&other, site.own_bundle()).expect("bundle");
        let id = format!("spiffe://{}.example", site.name);
        let other = other.display().to_string();
        spire.ask(&[
            "bundle", "set", "-format", "spiffe", "-id", &id, "-path", &other,
        ]);
        spire
    }

    /// Starts the server.
    pub(crate) fn start_alone() -> Self {
        let folder = TempDir::with_prefix("renkei-spire-").expect("folder");
        let port = free_address().port();
        write_configuration(folder.path(), port);
        let config = folder.path().join("server.conf");
        let mut command = Command::new(program("RENKEI_SPIRE_SERVER"));
        command.args([Path::new("run"), Path::new("-config"), &config]);
        let spire = Self {
            server: Child::start_bound("spire-server", command),
            agent: None,
            folder,
            api: SocketAddr::from(([127, 0, 0, 1], port)),
        };
        wait_for("the SPIRE server is healthy", SOON, || {
            let healthy = run(spire.tool().arg("healthcheck").args(spire.socket()));
            healthy.status.success().then_some(())
        });
        let pem = spire.ask(&["bundle", "show"]);
        fs::write(spire.path("bundle.pem"), pem).expect("bundle");
        spire.write_bundle();
        spire
    }

    /// The socket of the server's API.
    pub(crate) fn server_socket(&self) -> PathBuf {
        self.path("server.sock")
    }

    /// Where agents come to.
    pub(crate) fn api(&self) -> SocketAddr {
        self.api
    }

    /// The bundle as PEM, of when the server started.
    pub(crate) fn pem(&self) -> PathBuf {
        self.path("bundle.pem")
    }

    /// The peers of a site that knows `spire.example` by its bundle file, at the gateway of `edge`.
    pub(crate) fn peers(&self, edge: &Site) -> String {
        format!(
            "peers:\n  spire.example: {{bundle: {}, gateway: {}}}\n",
            self.bundle().display(),
            edge.gateway
        )
    }

    /// A token for an agent that joins as `spiffe://spire.example/node`.
    pub(crate) fn token(&self) -> String {
        let token = self.ask_json(&["token", "generate", "-spiffeID", NODE]);
        token["value"].as_str().expect("a token").to_owned()
    }

    /// The agents that have joined.
    pub(crate) fn agents(&self) -> Value {
        self.ask_json(&["agent", "list"])["agents"].clone()
    }

    /// Refuses the one agent that there is from now on.
    pub(crate) fn ban_agent(&self) {
        let path = self.agents()[0]["id"]["path"].clone();
        let path = path.as_str().expect("an agent");
        self.ask(&[
            "agent",
            "ban",
            "-spiffeID",
            &format!("spiffe://spire.example{path}"),
        ]);
    }

    /// An agent that joins with this token.
    pub(crate) fn start_agent_with(&mut self, token: &str) {
        self.agent = Some(start_agent(self.folder.path(), token));
    }

    /// Starts the agent, which joins as `spiffe://spire.example/node`.
    pub(crate) fn start_agent(&mut self) {
        let token = self.token();
        let process = start_agent(self.folder.path(), &token);
        wait_for("the SPIRE agent serves", SOON, || {
            let mut check = Command::new(program("RENKEI_SPIRE_AGENT"));
            check.args(["healthcheck", "-socketPath"]);
            let healthy = run(check.arg(self.path("agent.sock")));
            healthy.status.success().then_some(())
        });
        self.agent = Some(process);
    }

    /// Ends the agent at once.
    pub(crate) fn kill_agent(&mut self) {
        self.agent = None;
    }

    /// An entry for every process of this user, federated with `osaka.example`; gives its ID.
    pub(crate) fn create(&self, name: &str, seconds: u32) -> String {
        self.create_for(name, seconds, &own_uid())
    }

    /// The same for what this selector matches.
    pub(crate) fn create_for(&self, name: &str, seconds: u32, selector: &str) -> String {
        let (id, ttl) = (
            format!("spiffe://spire.example/{name}"),
            seconds.to_string(),
        );
        let created = self.ask_json(&[
            "entry",
            "create",
            "-parentID",
            NODE,
            "-spiffeID",
            &id,
            "-selector",
            selector,
            "-federatesWith",
            "spiffe://osaka.example",
            "-x509SVIDTTL",
            &ttl,
        ]);
        let entry = &created["results"][0]["entry"]["id"];
        let entry = entry.as_str().unwrap_or_else(|| panic!("{created}"));
        entry.to_owned()
    }

    pub(crate) fn delete(&self, entry: &str) {
        self.ask(&["entry", "delete", "-entryID", entry]);
    }

    /// Where its agent serves the Workload API.
    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.path("agent.sock").display())
    }

    /// The bundle document of `spire.example`.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.path("bundle.json")
    }

    /// Writes the present bundle document to the same file again.
    pub(crate) fn write_bundle(&self) {
        let document = self.ask(&["bundle", "show", "-format", "spiffe"]);
        fs::write(self.bundle(), document).expect("bundle");
    }

    /// The ID of the X.509 authority in this state: `active`, `prepared` or `old`.
    pub(crate) fn authority(&self, state: &str) -> String {
        let all = self.ask_json(&["localauthority", "x509", "show"]);
        let id = &all[state]["authority_id"];
        id.as_str().unwrap_or_else(|| panic!("{all}")).to_owned()
    }

    /// A step of a forced rotation: `prepare`, or `activate`, `taint` or `revoke` of an authority.
    pub(crate) fn rotate(&self, step: &str, authority: Option<&str>) {
        let words = ["localauthority", "x509", step];
        let id = authority.map(|id| ["-authorityID", id]);
        self.ask(&[&words[..], id.as_ref().map_or(&[], |id| id)].concat());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tool(&self) -> Command {
        Command::new(program("RENKEI_SPIRE_SERVER"))
    }

    fn socket(&self) -> [PathBuf; 2] {
        ["-socketPath".into(), self.path("server.sock")]
    }

    /// One command to the server.
    fn ask(&self, words: &[&str]) -> String {
        let output = run(self.tool().args(words).args(self.socket()));
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn ask_json(&self, words: &[&str]) -> Value {
        let text = self.ask(&[words, &["-output", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }
}

/// A SPIRE agent of a site's own server.
pub(crate) struct SpireAgent {
    folder: TempDir,
}

impl SpireAgent {
    /// Configured for the server at this address, whose bundle it has from a person.
    pub(crate) fn new(site: &Site, server: SocketAddr) -> Self {
        let folder = TempDir::with_prefix("renkei-spire-").expect("folder");
        let text = agent_configuration(folder.path(), &format!("{}.example", site.name), server);
        fs::create_dir(folder.path().join("agent")).expect("folder");
        fs::write(folder.path().join("agent.conf"), text).expect("configuration");
        let name = TrustDomain::parse(&format!("{}.example", site.name)).expect("trust domain");
        let bundle = Bundle::parse_document(name, site.own_bundle().as_bytes()).expect("bundle");
        let pem: String = bundle
            .x509_authorities
            .iter()
            .map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.to_vec())))
            .collect();
        fs::write(folder.path().join("bundle.pem"), pem).expect("bundle");
        Self { folder }
    }

    pub(crate) fn join(&self, token: &str) -> Child {
        start_agent(self.folder.path(), token)
    }

    /// Where it serves the Workload API.
    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}", self.folder.path().join("agent.sock").display())
    }

    /// What a workload of this user gets, or what is said instead.
    pub(crate) fn fetch(&self) -> Result<String, String> {
        let mut command = Command::new(program("RENKEI_SPIRE_AGENT"));
        command.args(["api", "fetch", "x509", "-socketPath"]);
        let fetched = run(command.arg(self.folder.path().join("agent.sock")));
        match fetched.status.success() {
            true => Ok(said(&fetched)),
            false => Err(said(&fetched)),
        }
    }
}

fn start_agent(folder: &Path, token: &str) -> Child {
    let config = folder.join("agent.conf");
    let mut command = Command::new(program("RENKEI_SPIRE_AGENT"));
    command.args([Path::new("run"), Path::new("-config"), &config]);
    command.args(["-joinToken", token]);
    Child::start_bound("spire-agent", command)
}

const NODE: &str = "spiffe://spire.example/node";

fn write_configuration(folder: &Path, port: u16) {
    let folder_text = folder.display();
    let server = format!(
        r#"server {{
  bind_address = "127.0.0.1"
  bind_port = "{port}"
  socket_path = "{folder_text}/server.sock"
  trust_domain = "spire.example"
  data_dir = "{folder_text}/server"
  log_level = "WARN"
  experimental {{ cache_reload_interval = "1s" }}
}}
plugins {{
  DataStore "sql" {{
    plugin_data {{ database_type = "sqlite3", connection_string = "{folder_text}/server.sqlite3" }}
  }}
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  KeyManager "memory" {{ plugin_data {{}} }}
}}
"#
    );
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let agent = agent_configuration(folder, "spire.example", address);
    for name in ["server", "agent"] {
        fs::create_dir(folder.join(name)).expect("folder");
    }
    fs::write(folder.join("server.conf"), server).expect("configuration");
    fs::write(folder.join("agent.conf"), agent).expect("configuration");
}

fn agent_configuration(folder: &Path, trust_domain: &str, server: SocketAddr) -> String {
    let folder_text = folder.display();
    let (ip, port) = (server.ip(), server.port());
    format!(
        r#"agent {{
  server_address = "{ip}"
  server_port = "{port}"
  socket_path = "{folder_text}/agent.sock"
  trust_bundle_path = "{folder_text}/bundle.pem"
  trust_domain = "{trust_domain}"
  data_dir = "{folder_text}/agent"
  log_level = "WARN"
  experimental {{ sync_interval = "1s" }}
}}
plugins {{
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  KeyManager "memory" {{ plugin_data {{}} }}
  WorkloadAttestor "unix" {{ plugin_data {{}} }}
}}
"#
    )
}
