//! Apache Kafka through the mesh while things fail: three nodes at hokkaido, unchanged clients at
//! osaka. Nothing is lost and nothing comes twice; groups and transactions work as they do direct.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread::sleep,
    time::Duration,
};

use lab::{Site, own_uid, pipeline::Pipeline, run, said};
use renkei_testkit::{Kafka, free_address, python, wait_for};
use serde_json::{Value, json};

const GROUPS: &str = include_str!("programs/kafka_groups.py");
/// What a fault may take to be over on a busy machine.
const LATE: Duration = Duration::from_secs(120);

/// The cluster, hokkaido's gateway before it, and osaka's listener for its clients.
struct Mesh {
    kafka: Kafka,
    hokkaido: Site,
    osaka: Site,
    local: SocketAddr,
}

/// The mesh that all tests here share, in turn: its start costs more than they do. It ends with
/// the last of them.
static SHARED: Mutex<Weak<Mutex<Mesh>>> = Mutex::new(Weak::new());

/// Runs a test on the mesh, with everything up.
fn with_mesh(test: impl FnOnce(&mut Mesh)) {
    let shared = {
        let mut shared = lock(&SHARED);
        shared.upgrade().unwrap_or_else(|| {
            let mesh = Arc::new(Mutex::new(Mesh::start()));
            *shared = Arc::downgrade(&mesh);
            mesh
        })
    };
    let mut mesh = lock(&shared);
    mesh.restore();
    test(&mut mesh);
}

/// A test that failed leaves things as they were; the next one restores them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mesh {
    fn start() -> Self {
        let kafka = Kafka::start(3);
        let (mut hokkaido, mut osaka) = (Site::new("hokkaido"), Site::new("osaka"));
        let local = free_address();
        let brokers = comma(&kafka.addresses());
        hokkaido.write(&format!(
            "{}services:\n  broker: {{protocol: kafka, backends: [{brokers}], allow: \
             [osaka.example/collector]}}\n",
            hokkaido.peers(&[&osaka])
        ));
        osaka.write(&format!(
            "{}workloads:\n  collector: {{selectors: [{}], uses: {{hokkaido.example/broker: \
             {local}}}}}\n",
            osaka.peers(&[&hokkaido]),
            own_uid()
        ));
        hokkaido.start();
        osaka.start();
        hokkaido.wait_linked();
        osaka.wait_linked();
        Self {
            kafka,
            hokkaido,
            osaka,
            local,
        }
    }

    fn restore(&mut self) {
        for id in 1..=self.kafka.addresses().len() {
            if !self.kafka.is_running(id) {
                self.kafka.start_node(id);
            }
        }
        for site in [&mut self.hokkaido, &mut self.osaka] {
            if !site.process.as_mut().is_some_and(|up| up.is_running()) {
                site.start();
            }
        }
    }

    fn brokers(&self) -> String {
        comma(&self.kafka.addresses())
    }

    /// A producer and a consumer that run through the mesh.
    fn pipeline(&self, topic: &str) -> Pipeline {
        Pipeline::start(self.local, &self.brokers(), topic)
    }
}

fn comma(addresses: &[SocketAddr]) -> String {
    let texts: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    texts.join(",")
}

#[test]
fn the_leader_is_killed() {
    with_mesh(|mesh| {
        let mut pipeline = mesh.pipeline("leader-killed");
        let leader = pipeline.leaders()[0];
        mesh.kafka.kill(leader);
        pipeline.wait("another node leads", |now| now.leads(0) != leader);
        pipeline.flows();
        mesh.kafka.start_node(leader);
        pipeline.wait("all replicas are in sync", |now| now.in_sync == 3);
        pipeline.finish();
    });
}

#[test]
fn every_node_is_restarted_in_turn() {
    with_mesh(|mesh| {
        let mut pipeline = mesh.pipeline("rolling-restart");
        for id in 1..=3 {
            mesh.kafka.stop(id);
            mesh.kafka.start_node(id);
            pipeline.wait("all replicas are in sync", |now| now.in_sync == 3);
            pipeline.flows();
        }
        pipeline.finish();
    });
}

#[test]
fn all_partitions_move_to_a_new_broker() {
    with_mesh(|mesh| {
        let mut pipeline = mesh.pipeline("reassigned");
        let new = mesh.kafka.add_broker();
        let moves = pipeline
            .leaders()
            .into_iter()
            .enumerate()
            .map(|(at, leader)| {
                let others = (1..=3).filter(|id| *id != leader);
                let replicas: Vec<usize> = std::iter::once(new).chain(others).collect();
                json!({"topic": "reassigned", "partition": at, "replicas": replicas})
            });
        let plan = json!({"version": 1, "partitions": moves.collect::<Vec<_>>()});
        let file = mesh.kafka.folder().join("moves.json");
        std::fs::write(&file, plan.to_string()).expect("plan");
        let moved = mesh.kafka.tool(
            "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
            &[
                "--execute",
                "--reassignment-json-file",
                &file.display().to_string(),
            ],
        );
        assert!(moved.status.success(), "{}", said(&moved));
        pipeline.wait("the new broker leads all", |now| {
            now.leaders.iter().all(|leader| *leader == new)
        });
        pipeline.flows();
        pipeline.finish();
    });
}

#[test]
fn either_proxy_is_killed() {
    with_mesh(|mesh| {
        let mut pipeline = mesh.pipeline("proxy-killed");
        for site in [&mut mesh.osaka, &mut mesh.hokkaido] {
            site.process().kill();
            site.start();
            pipeline.flows();
        }
        pipeline.finish();
    });
}

#[test]
fn the_path_stands_still_for_10_s() {
    with_mesh(|mesh| {
        let mut pipeline = mesh.pipeline("path-frozen");
        mesh.hokkaido.process().signal("STOP");
        sleep(Duration::from_secs(10));
        mesh.hokkaido.process().signal("CONT");
        pipeline.flows();
        pipeline.finish();
    });
}

#[test]
fn groups_rebalance_and_transactions_commit_and_abort() {
    with_mesh(|mesh| {
        let output = run(Command::new(python())
            .args(["-c", GROUPS])
            .args([mesh.local.to_string(), mesh.brokers()]));
        assert!(output.status.success(), "{}", said(&output));
        let seen: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let all: Vec<String> = (0..40).map(|number| number.to_string()).collect();
        for protocol in ["classic", "consumer"] {
            assert_eq!(seen[protocol]["each_read"], json!([10, 10]), "{protocol}");
            assert_eq!(seen[protocol]["read"], json!(all), "{protocol}");
        }
        let committed: Vec<String> = (0..5).map(|number| format!("committed-{number}")).collect();
        let mut expected = committed;
        expected.push("order".to_owned());
        assert_eq!(
            seen["transactions"],
            json!({"committed": expected, "all": 11, "stored": 1})
        );
    });
}

/// A client that asks for no metadata any more, as one with a fresh cache does, still finds the
/// broker: the gateway asks the others where it is.
#[test]
fn a_broker_at_another_address_is_found_again() {
    with_mesh(|mesh| {
        let mut pipeline = mesh.pipeline("moved");
        let node = 2;
        let local = pipeline.mesh_addresses()[&node];
        pipeline.finish();
        wait_for("the broker answers", LATE, || answers(local).then_some(()));
        mesh.kafka.stop(node);
        mesh.kafka.move_node(node);
        mesh.kafka.start_node(node);
        wait_for("the broker answers at its new address", LATE, || {
            answers(local).then_some(())
        });
    });
}

/// Whether a broker answers an ApiVersions request.
fn answers(address: SocketAddr) -> bool {
    let ask = || {
        let mut broker = TcpStream::connect(address)?;
        broker.set_read_timeout(Some(Duration::from_secs(20)))?;
        let versions = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
        std::io::Write::write_all(&mut broker, &versions)?;
        std::io::Read::read_exact(&mut broker, &mut [0; 8])
    };
    ask().is_ok()
}
