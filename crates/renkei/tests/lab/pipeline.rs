//! A producer and a consumer group through the mesh, as a Python program whose progress is read.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use renkei_testkit::{python, wait_for};
use serde::Deserialize;
use serde_json::Value;

const PROGRAM: &str = include_str!("../programs/kafka_pipeline.py");
/// What may take that long on a busy machine.
const LATE: Duration = Duration::from_secs(180);
/// So many records make a flow.
const FLOW: u64 = 25;

/// What the program said last.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Progress {
    acknowledged: u64,
    received: u64,
    /// The leader of each partition.
    pub(crate) leaders: Vec<usize>,
    /// The smallest number of in-sync replicas of a partition.
    pub(crate) in_sync: usize,
    /// Where the mesh shows each node.
    mesh: BTreeMap<usize, SocketAddr>,
    done: bool,
    result: Value,
}

impl Progress {
    /// The leader of a partition.
    pub(crate) fn leads(&self, partition: usize) -> usize {
        self.leaders.get(partition).copied().unwrap_or(0)
    }
}

/// The running program.
pub(crate) struct Pipeline {
    process: Child,
    input: Option<ChildStdin>,
    latest: Arc<Mutex<Progress>>,
}

impl Pipeline {
    /// Starts it, and waits until records flow.
    pub(crate) fn start(mesh: SocketAddr, brokers: &str, topic: &str) -> Self {
        let mut process = Command::new(python())
            .args(["-c", PROGRAM, &mesh.to_string(), brokers, topic])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python runs");
        let input = process.stdin.take();
        let lines = BufReader::new(process.stdout.take().expect("standard output")).lines();
        let latest = Arc::new(Mutex::new(Progress::default()));
        let progress = latest.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                *progress.lock().expect("lock") = serde_json::from_str(&line).expect("JSON");
            }
        });
        let mut pipeline = Self {
            process,
            input,
            latest,
        };
        pipeline.flows();
        pipeline
    }

    /// Waits until the program says what is waited for.
    pub(crate) fn wait(&mut self, what: &str, is_so: impl Fn(&Progress) -> bool) -> Progress {
        wait_for(what, LATE, || {
            let ended = self.process.try_wait().expect("wait");
            let progress = self.latest.lock().expect("lock").clone();
            assert!(
                ended.is_none() || progress.done,
                "the clients ended while this was waited for: {what}"
            );
            is_so(&progress).then_some(progress)
        })
    }

    /// Waits until records go through from now on, both ways.
    pub(crate) fn flows(&mut self) {
        let before = self.latest.lock().expect("lock").clone();
        self.wait("records flow", |now| {
            now.acknowledged >= before.acknowledged + FLOW && now.received >= before.received + FLOW
        });
    }

    /// The leader of each partition.
    pub(crate) fn leaders(&mut self) -> Vec<usize> {
        self.wait("every partition has a leader", |now| now.leaders.len() == 3)
            .leaders
    }

    /// Where the mesh shows each node.
    pub(crate) fn mesh_addresses(&mut self) -> BTreeMap<usize, SocketAddr> {
        self.wait("the mesh shows its nodes", |now| now.mesh.len() >= 3)
            .mesh
    }

    /// Lets the program end: nothing is lost and nothing came twice, in the log and at the group.
    pub(crate) fn finish(mut self) {
        self.input = None;
        let result = self.wait("the clients end", |now| now.done).result;
        assert_eq!(result["acknowledged"], result["sent"], "{result}");
        for part in [
            "failed",
            "log_lost",
            "log_doubled",
            "group_lost",
            "group_doubled",
        ] {
            assert_eq!(result[part], Value::Array(Vec::new()), "{part}: {result}");
        }
        assert_eq!(result["in_order"], true, "{result}");
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
