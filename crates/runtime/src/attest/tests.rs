use std::sync::Mutex;

use renkei_site::UnixSelector;

use super::*;

fn selectors(texts: &[&str]) -> Vec<Selector> {
    let parse = |text: &&str| Selector::parse(text).unwrap();
    texts.iter().map(parse).collect()
}

fn me() -> (Process, String) {
    let process = Process::open(i32::try_from(std::process::id()).unwrap()).unwrap();
    let uid = format!("unix:uid:{}", process.uid());
    (process, uid)
}

/// Answers for groups, and remembers what it was asked.
#[derive(Debug, Default)]
struct Groups(Arc<Mutex<Vec<String>>>);

struct Member(u32);

impl WorkloadAttestor for Groups {
    fn answers(&self, selector: &Selector) -> bool {
        matches!(selector, Selector::Unix(UnixSelector::Gid(_)))
    }

    fn examine(
        &self,
        _process: &Process,
        asked: &[&Selector],
    ) -> Result<Box<dyn Evidence>, AttestError> {
        let asked = asked.iter().map(ToString::to_string);
        self.0.lock().unwrap().extend(asked);
        Ok(Box::new(Member(4242)))
    }

    fn selectors(&self, _: &Process, _: &SelectorIndex) -> Result<Vec<Selector>, AttestError> {
        Ok(selectors(&["unix:gid:4242"]))
    }
}

impl Evidence for Member {
    fn holds(&self, selector: &Selector) -> Result<(), String> {
        match selector {
            Selector::Unix(UnixSelector::Gid(gid)) if *gid == self.0 => Ok(()),
            other => Err(format!("{other} is another group")),
        }
    }
}

#[test]
fn each_selector_is_judged_by_the_attestor_of_its_kind() {
    let (process, uid) = me();
    let asked = Arc::default();
    let attestors: [Box<dyn WorkloadAttestor>; 2] = [
        Box::new(Groups(Arc::clone(&asked))),
        Box::new(UnixAttestor::default()),
    ];
    let attestors = Attestors::new(attestors);
    let all = selectors(&[&uid, "unix:gid:4242", "unix:gid:1"]);
    let examined = attestors.examine(&process, &all).unwrap();
    assert_eq!(*asked.lock().unwrap(), ["unix:gid:4242", "unix:gid:1"]);
    examined.matches(&all[..2]).unwrap();
    let error = examined.matches(&all).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unix:gid:1 does not hold: unix:gid:1 is another group"
    );
    assert_eq!(examined.matches(&[]), Err(Mismatch::NoSelectors));
}

#[test]
fn a_selector_without_an_attestor_holds_for_nobody() {
    let (process, uid) = me();
    let groups: Box<dyn WorkloadAttestor> = Box::new(Groups::default());
    let attestors = Attestors::new([groups]);
    let all = selectors(&[&uid]);
    let examined = attestors.examine(&process, &all).unwrap();
    let error = examined.matches(&all).unwrap_err();
    assert!(error.to_string().contains("no attestor"), "{error}");
}

#[test]
fn a_process_that_has_ended_is_not_examined_even_if_nothing_is_asked() {
    let mut child = std::process::Command::new("/bin/sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let process = Process::open(i32::try_from(child.id()).unwrap()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let examined = Attestors::default().examine(&process, []);
    assert!(matches!(examined.map(|_| ()), Err(AttestError::Gone(_))));
}
