//! Apache Kafka on loopback addresses: nodes that are broker and controller at once, each a process
//! of its own, in little memory.

use std::{
    fmt::Write as _,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use tempfile::TempDir;

use crate::{Child, free_address_on, in_namespace, program, wait_for};

/// How long a node may take to start on a busy machine.
const START: Duration = Duration::from_secs(120);
/// How long a node may take to hand over its partitions.
const STOP: Duration = Duration::from_secs(60);

/// The client of a cluster with access control.
pub const ACCOUNT: &str = "limited";

/// A cluster. It ends with this value, and at the latest with this process.
#[derive(Debug)]
pub struct Kafka {
    // Before the folder, which they write to.
    nodes: Vec<KafkaNode>,
    voters: String,
    replicas: usize,
    /// Where clients with a name connect, if the cluster has access control.
    accounts: Option<SocketAddr>,
    /// The network namespace that the nodes run in, if it is another one than this program's.
    namespace: Option<PathBuf>,
    folder: TempDir,
}

#[derive(Debug)]
struct KafkaNode {
    id: usize,
    listener: SocketAddr,
    properties: PathBuf,
    process: Option<Child>,
}

impl Kafka {
    /// Starts a cluster of `nodes`, with IDs from 1, and waits until each serves.
    pub fn start(nodes: usize) -> Self {
        Self::launched(nodes, None, None)
    }

    /// Starts one node in a network namespace, which is named as a file. Only programs in there
    /// reach it: its address is one of loopback.
    pub fn start_in(namespace: PathBuf) -> Self {
        Self::launched(1, None, Some(namespace))
    }

    /// Starts one node with Kafka's own access control. Its usual clients may do everything; a
    /// client of the address returned is [`ACCOUNT`] (SASL PLAIN, the password is the name), and
    /// may do what ACLs allow it.
    pub fn start_with_account() -> (Self, SocketAddr) {
        let address = own_address();
        (Self::launched(1, Some(address), None), address)
    }

    fn launched(nodes: usize, accounts: Option<SocketAddr>, namespace: Option<PathBuf>) -> Self {
        let controllers: Vec<SocketAddr> = (0..nodes).map(|_| own_address()).collect();
        let voters: Vec<String> = controllers
            .iter()
            .zip(1..)
            .map(|(address, id)| format!("{id}@{address}"))
            .collect();
        let mut kafka = Self {
            nodes: Vec::new(),
            voters: voters.join(","),
            replicas: nodes.min(3),
            accounts,
            namespace,
            folder: TempDir::with_prefix("renkei-kafka-").expect("folder"),
        };
        for controller in controllers {
            kafka.add(Some(controller), own_address());
        }
        kafka.format(1..=nodes);
        for id in 1..=nodes {
            kafka.launch(id);
        }
        for id in 1..=nodes {
            kafka.wait_started(id);
        }
        kafka
    }

    /// Adds a node that is a broker alone, and waits until it serves.
    pub fn add_broker(&mut self) -> usize {
        let id = self.add(None, own_address());
        self.format(id..=id);
        self.start_node(id);
        id
    }

    /// Where clients of the node `id` connect.
    pub fn address(&self, id: usize) -> SocketAddr {
        self.node(id).listener
    }

    /// The addresses of all nodes.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.listener).collect()
    }

    /// Whether the node `id` runs.
    pub fn is_running(&self, id: usize) -> bool {
        self.node(id).process.is_some()
    }

    /// Ends a node at once (SIGKILL).
    pub fn kill(&mut self, id: usize) {
        self.node_mut(id).process = None;
    }

    /// Lets a node hand over its partitions and end (SIGTERM).
    pub fn stop(&mut self, id: usize) {
        if let Some(mut process) = self.node_mut(id).process.take() {
            process.signal("TERM");
            process.wait(STOP);
        }
    }

    /// Starts a node that was killed or stopped, and waits until it serves.
    pub fn start_node(&mut self, id: usize) {
        self.launch(id);
        self.wait_started(id);
    }

    /// Gives a node that does not run another address for its clients.
    pub fn move_node(&mut self, id: usize) -> SocketAddr {
        let (old, new) = (self.node(id).listener, own_address());
        let file = self.node(id).properties.clone();
        let text = std::fs::read_to_string(&file).expect("properties");
        let moved = text.replace(&old.to_string(), &new.to_string());
        std::fs::write(&file, moved).expect("properties");
        self.node_mut(id).listener = new;
        new
    }

    /// Runs one of Kafka's own tools, such as `org.apache.kafka.tools.TopicCommand`.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> Output {
        let brokers: Vec<String> = self.addresses().iter().map(SocketAddr::to_string).collect();
        run_tool(&brokers.join(","), class, arguments)
    }

    /// Runs such a tool against a broker at another address, as clients see this cluster there.
    pub fn tool_at(&self, broker: SocketAddr, class: &str, arguments: &[&str]) -> Output {
        run_tool(&broker.to_string(), class, arguments)
    }

    /// The folder of the cluster, for files of a test.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn add(&mut self, controller: Option<SocketAddr>, listener: SocketAddr) -> usize {
        let id = self.nodes.len() + 1;
        let properties = self.folder.path().join(format!("node-{id}.properties"));
        let text = self.properties(id, listener, controller);
        std::fs::write(&properties, text).expect("properties");
        self.nodes.push(KafkaNode {
            id,
            listener,
            properties,
            process: None,
        });
        id
    }

    fn properties(
        &self,
        id: usize,
        listener: SocketAddr,
        controller: Option<SocketAddr>,
    ) -> String {
        let data = self.folder.path().join(format!("node-{id}"));
        let mut text = format!(
            "node.id={id}\nlog.dirs={}\ncontroller.quorum.voters={}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             advertised.listeners=PLAINTEXT://{listener}\n",
            data.display(),
            self.voters
        );
        let _ = match controller {
            Some(address) => write!(
                text,
                "process.roles=broker,controller\n\
                 listeners=PLAINTEXT://{listener},CONTROLLER://{address}\n"
            ),
            None => write!(
                text,
                "process.roles=broker\nlisteners=PLAINTEXT://{listener}\n"
            ),
        };
        for topic in [
            "offsets.topic",
            "transaction.state.log",
            "share.coordinator.state.topic",
        ] {
            let _ = write!(
                text,
                "{topic}.replication.factor={}\n{topic}.num.partitions=1\n",
                self.replicas
            );
        }
        let in_sync = self.replicas.div_ceil(2);
        let _ = write!(
            text,
            "transaction.state.log.min.isr={in_sync}\nshare.coordinator.state.topic.min.isr={in_sync}\n"
        );
        text += SETTINGS;
        if let (Some(accounts), Some(controller)) = (self.accounts, controller) {
            // Later lines of a file of properties replace former ones.
            let _ = write!(
                text,
                "listener.security.protocol.map=\
                 PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT\n\
                 advertised.listeners=PLAINTEXT://{listener},SASL_PLAINTEXT://{accounts}\n\
                 listeners=PLAINTEXT://{listener},SASL_PLAINTEXT://{accounts},CONTROLLER://{controller}\n\
                 sasl.enabled.mechanisms=PLAIN\n\
                 listener.name.sasl_plaintext.plain.sasl.jaas.config=\
                 org.apache.kafka.common.security.plain.PlainLoginModule required user_{ACCOUNT}=\"{ACCOUNT}\";\n\
                 authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
                 super.users=User:ANONYMOUS\n"
            );
        }
        text
    }

    /// Prepares the storage of nodes, side by side.
    fn format(&self, ids: std::ops::RangeInclusive<usize>) {
        let started: Vec<Child> = ids
            .map(|id| {
                let mut format = java("error");
                format
                    .args(["kafka.tools.StorageTool", "format", "--config"])
                    .arg(&self.node(id).properties)
                    .args(["--cluster-id", "renkei-test"]);
                Child::start("kafka.tools.StorageTool", &mut format)
            })
            .collect();
        for mut format in started {
            assert!(format.wait(START).success(), "{}", format.output());
        }
    }

    fn launch(&mut self, id: usize) {
        let mut java = java("info");
        java.arg("kafka.Kafka").arg(&self.node(id).properties);
        let command = match &self.namespace {
            Some(namespace) => in_namespace(namespace, &java),
            None => java,
        };
        let process = Child::start_bound(&format!("Kafka node {id}"), command);
        self.node_mut(id).process = Some(process);
    }

    fn wait_started(&mut self, id: usize) {
        let is_elsewhere = self.namespace.is_some();
        let node = self.node_mut(id);
        let (listener, process) = (node.listener, node.process.as_mut());
        let process = process.expect("it was launched");
        wait_for(&format!("Kafka node {id} serves"), START, || {
            assert!(process.is_running(), "{}", process.output());
            let serves = process.output().contains("Kafka Server started");
            let connects = || is_elsewhere || TcpStream::connect(listener).is_ok();
            (serves && connects()).then_some(())
        });
    }

    fn node(&self, id: usize) -> &KafkaNode {
        let node = self.nodes.iter().find(|node| node.id == id);
        node.expect("the cluster has such a node")
    }

    fn node_mut(&mut self, id: usize) -> &mut KafkaNode {
        let node = self.nodes.iter_mut().find(|node| node.id == id);
        node.expect("the cluster has such a node")
    }
}

fn run_tool(brokers: &str, class: &str, arguments: &[&str]) -> Output {
    java("error")
        .args([class, "--bootstrap-server", brokers])
        .args(arguments)
        .output()
        .expect("java runs")
}

/// A free port on an address that no connection has as its own end: it is still free when a node
/// comes back after minutes.
fn own_address() -> SocketAddr {
    free_address_on("127.0.9.92")
}

/// Few threads, quick to notice a node that is gone, and at most one log segment of 16 MiB a
/// partition before older ones may go.
const SETTINGS: &str = "\
inter.broker.listener.name=PLAINTEXT
num.network.threads=1
num.io.threads=2
background.threads=1
log.cleaner.enable=false
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
replica.lag.time.max.ms=5000
log.segment.bytes=16777216
auto.create.topics.enable=false
";

/// Java with Kafka's jars and settings for a short life in little memory.
fn java(log_level: &str) -> Command {
    let jars = program("RENKEI_KAFKA");
    let archive = jars.with_file_name("kafka.jsa");
    let mut command = Command::new(program("RENKEI_JAVA"));
    command
        .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xss512k"])
        .args(["-Xmx192m", "-XX:MaxDirectMemorySize=64m"])
        .arg(format!("-XX:SharedArchiveFile={}", archive.display()))
        .arg(format!(
            "-Dorg.slf4j.simpleLogger.defaultLogLevel={log_level}"
        ))
        .arg("-cp")
        .arg(jars.join("*"));
    command
}
