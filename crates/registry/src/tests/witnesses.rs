//! Whether witnesses that read the log once a minute, each at a moment of its own, meet at one
//! checkpoint while statements never stop. Time is the test's.

use renkei_federation::READ_INTERVAL;

use super::*;
use crate::CHECKPOINT_INTERVAL;

const WITNESSES: u8 = 7;
/// Two of them are away.
const QUORUM: u8 = 5;
const STEP: Duration = Duration::SECOND;
const LENGTH: i32 = 15 * 60;
/// A site raises an alarm about a statement that witnesses have not seen for so long.
const HIDDEN: Duration = Duration::minutes(10);

fn name(witness: u8) -> String {
    format!("w{witness}.example")
}

fn federation() -> Arc<Federation> {
    let keys = (0..WITNESSES).map(|one| (td(&name(one)), key(100 + one).public()));
    Arc::new(Federation {
        witnesses: Witnesses {
            quorum: QUORUM.into(),
            keys: keys.collect(),
        },
        ..(*super::federation()).clone()
    })
}

fn statement(number: i32, now: OffsetDateTime) -> Vec<u8> {
    let admission = Admission {
        trust_domain: td(&format!("s{number}.example")),
        genesis: genesis(50).digest(),
        status: AdmissionStatus::Admitted,
        scope: vec![],
        issued: now,
        expires: NOW + Duration::days(365),
    };
    let signed = Envelope::sign(Statement::Admission(admission), &[&key(2)]);
    signed.unwrap().to_bytes()
}

/// A witness reads the newest checkpoint, looks at it for some seconds, hands its cosignature in,
/// and does so again a minute later.
struct Witness {
    number: u8,
    next: OffsetDateTime,
    seen: Option<SignedCheckpoint>,
    random: u64,
}

impl Witness {
    fn new(number: u8, seed: u64) -> Self {
        let mut witness = Self {
            number,
            next: NOW,
            seen: None,
            random: seed * 1_000 + u64::from(number) + 1,
        };
        let phase = Duration::seconds(witness.draw(60));
        witness.next += phase;
        witness
    }

    /// A number below `most`, the same in every run.
    fn draw(&mut self, most: i64) -> i64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005);
        self.random = self.random.wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.random >> 33).unwrap() % most
    }

    fn step(&mut self, log: &mut Log, folder: &Path, now: OffsetDateTime) {
        if now < self.next {
            return;
        }
        let Some(mut checkpoint) = self.seen.take() else {
            let bytes = std::fs::read(folder.join("pending")).unwrap();
            self.seen = SignedCheckpoint::parse(&bytes, &federation()).ok();
            self.next = now + Duration::seconds(1 + self.draw(5));
            return;
        };
        let name = td(&name(self.number));
        checkpoint.cosign(&name, &key(100 + self.number), now);
        // It may be outdated by now.
        let _ = log.cosign(checkpoint.to_text().as_bytes(), now);
        self.next = now + READ_INTERVAL;
    }
}

/// The longest time that a statement waited for its quorum, or waits at the end.
fn longest_wait(interval: Duration, seed: u64) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut log = Log::open(folder, federation(), key(1), interval, NOW).unwrap();
    let mut witnesses: Vec<_> = (0..QUORUM).map(|one| Witness::new(one, seed)).collect();
    let (mut waiting, mut longest) = (std::collections::VecDeque::new(), Duration::ZERO);
    let mut witnessed = 0;
    for second in 0..LENGTH {
        let now = NOW + STEP * second;
        if second % 4 == 0 {
            // A registry whose queue is full says so, and the site tries again.
            if log.submit(&statement(second, now), now).is_ok() {
                waiting.push_back(now);
            }
        }
        log.tick(now).unwrap();
        for witness in &mut witnesses {
            witness.step(&mut log, folder, now);
        }
        let bytes = std::fs::read(folder.join("checkpoint")).ok();
        let note = bytes.map(|bytes| SignedCheckpoint::parse(&bytes, &federation()).unwrap());
        let size = note.map_or(0, |note| note.root().size);
        while witnessed < size {
            let since: OffsetDateTime = waiting.pop_front().unwrap();
            longest = longest.max(now - since);
            witnessed += 1;
        }
    }
    let end = NOW + STEP * LENGTH;
    let left = waiting.front().map_or(Duration::ZERO, |since| end - *since);
    longest.max(left)
}

#[test]
fn witnesses_that_read_once_a_minute_meet_at_one_checkpoint() {
    for seed in 1..=3 {
        let waited = longest_wait(CHECKPOINT_INTERVAL, seed);
        assert!(waited < HIDDEN / 2, "seed {seed}: {waited}");
    }
}

/// Why the interval is so long: each witness sees another checkpoint otherwise.
#[test]
fn witnesses_do_not_meet_when_checkpoints_are_cut_faster_than_they_read() {
    let waited = longest_wait(Duration::seconds(10), 1);
    assert!(waited > HIDDEN, "{waited}");
}
