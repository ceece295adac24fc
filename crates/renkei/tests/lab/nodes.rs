//! A site of several processes: a server, and nodes that have joined it.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use renkei_testkit::{Child, free_address, wait_for};
use serde_json::Value;
use tempfile::TempDir;

use super::{SOON, Site, network::Machine, renkei, run, said, start_in};

/// A site whose server does nothing else.
pub(crate) struct Server {
    pub(crate) site: Site,
    api: SocketAddr,
}

/// A machine that has joined.
pub(crate) struct Node {
    pub(crate) name: String,
    folder: TempDir,
    pub(crate) process: Child,
}

impl Server {
    /// A site of the trust domain `NAME.example`. Its gateway is the node `gw1`.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            site: Site::new(name),
            api: free_address(),
        }
    }

    /// The same on a machine of its own, with the gateway on another.
    pub(crate) fn on(name: &str, machine: &Machine, gateway: &Machine) -> Self {
        let mut server = Self::new(name);
        server.site.namespace = Some(machine.namespace());
        server.site.gateway = gateway.at(8443);
        server.api = machine.at(8081);
        server
    }

    /// Writes the site file: the frame with these other nodes, and `rest` behind it.
    pub(crate) fn write(&self, nodes: &[&str], rest: &str) {
        let (name, gateway, api) = (&self.site.name, self.site.gateway, self.api);
        let mut text = format!(
            "site: {name}\ntrust_domain: {name}.example\nlifetimes: {{x509_svid: 2m, bundle_refresh: 1s}}\n\
             server: {{listen: {api}, advertise: {api}}}\n\
             nodes:\n  gw1: {{gateway: {{listen: {gateway}, advertise: {gateway}}}}}\n"
        );
        for node in nodes {
            let _ = writeln!(text, "  {node}: {{}}");
        }
        std::fs::write(self.site.file(), text + rest).expect("site file");
    }

    pub(crate) fn start(&mut self) {
        self.site.start_server();
    }

    /// Where nodes come to.
    pub(crate) fn api(&self) -> SocketAddr {
        self.api
    }

    pub(crate) fn token(&self, node: &str) -> String {
        self.made_token(&["--name", node])
    }

    /// For an agent of SPIRE.
    pub(crate) fn spire_token(&self) -> String {
        self.made_token(&["--spire"])
    }

    fn made_token(&self, words: &[&str]) -> String {
        let made = run(self.site.command(&["node", "token"]).args(words));
        assert!(made.status.success(), "{}", said(&made));
        let line = String::from_utf8(made.stdout).expect("UTF-8");
        line.trim().to_owned()
    }

    /// A command by which a machine joins.
    pub(crate) fn joining(&self, token: &str, folder: &Path) -> Command {
        let mut command = self.joining_as("node", token, folder);
        command.args(["--drain", "3s"]);
        command
    }

    fn joining_as(&self, role: &str, token: &str, folder: &Path) -> Command {
        let mut command = renkei();
        command
            .args([role, "join", &self.api.to_string()])
            .args(["--admin", "none", "--state"])
            .arg(folder)
            .env("RENKEI_NODE_TOKEN", token);
        command
    }

    /// The agent of a node alone.
    pub(crate) fn join_agent(&self, name: &str) -> Node {
        let folder = TempDir::with_prefix("renkei-node-").expect("folder");
        let command = self.joining_as("agent", &self.token(name), &folder.path().join("node"));
        start_node(None, name, folder, command)
    }

    /// Makes a token, and starts a node with it.
    pub(crate) fn join(&self, name: &str) -> Node {
        self.join_in(None, name)
    }

    /// The same on a machine of its own.
    pub(crate) fn join_on(&self, machine: &Machine, name: &str) -> Node {
        self.join_in(Some(&machine.namespace()), name)
    }

    fn join_in(&self, namespace: Option<&Path>, name: &str) -> Node {
        let folder = TempDir::with_prefix("renkei-node-").expect("folder");
        let command = self.joining(&self.token(name), &folder.path().join("node"));
        start_node(namespace, name, folder, command)
    }
}

fn start_node(namespace: Option<&Path>, name: &str, folder: TempDir, mut command: Command) -> Node {
    let mut node = Node {
        name: name.to_owned(),
        process: start_in(namespace, name, &mut command),
        folder,
    };
    wait_for(&format!("{name} is ready"), SOON, || {
        let process = &mut node.process;
        assert!(process.is_running(), "{name} ended:\n{}", process.output());
        node.try_status().filter(|status| status["ready"] == true)
    });
    node
}

impl Node {
    fn state(&self) -> PathBuf {
        self.folder.path().join("node")
    }

    /// Where it serves the Workload API.
    pub(crate) fn workload_api(&self) -> PathBuf {
        self.folder.path().join("node.public/workload.sock")
    }

    fn status_command(&self) -> Command {
        let mut command = renkei();
        command.arg("status").arg("--state").arg(self.state());
        command
    }

    pub(crate) fn try_status(&self) -> Option<Value> {
        let output = run(self.status_command().args(["--output", "json"]));
        let is_answer = output.status.success();
        is_answer.then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    /// Waits until the status is so.
    pub(crate) fn wait(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("{}: {what}", self.name), SOON, || {
            self.try_status().filter(&is_so)
        })
    }

    /// What `renkei status` prints.
    pub(crate) fn text(&self) -> String {
        let output = run(&mut self.status_command());
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    }

    /// Every file that the node has written something into.
    pub(crate) fn written(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.folder.path().to_owned()];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("folder").flatten() {
                let about = entry.metadata().expect("metadata");
                if about.is_dir() {
                    folders.push(entry.path());
                } else if about.is_file() && about.len() > 0 {
                    files.push(entry.path());
                }
            }
        }
        files
    }
}
