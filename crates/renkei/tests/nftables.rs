//! `renkei render nftables`: other users of the machine are kept off a backend's port.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{
    fs::Permissions,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
    process::Command,
};

use lab::{Site, renkei, run, said};

const SERVICES: &str = "peers:
  hokkaido.example: {bundle: hokkaido.json}
services:
  archive: {backends: [127.0.0.1:18099, localhost:18098], allow: [hokkaido.example/reader]}
  far: {backends: [192.0.2.1:9000], allow: [hokkaido.example/reader]}
";

/// A backend on port 18099 in a network of its own; what root and another user get there, before
/// and behind the rules in $1.
const TRIAL: &str = r#"
set -eu
ip link set lo up
python3 -m http.server 18099 --bind 127.0.0.1 >/dev/null 2>&1 &
trap 'kill $!' EXIT
other() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
connects() { bash -c 'exec 3<>/dev/tcp/127.0.0.1/18099' 2>/dev/null && echo "$1 connects" || echo "$1 is refused"; }
export -f connects
until connects nobody | grep -q connects; do sleep 0.1; done
connects root
other bash -c 'connects other'
nft -f "$1"
nft -f "$1"
connects root
other bash -c 'connects other'
nft delete table inet renkei_osaka
other bash -c 'connects other'
"#;

#[test]
fn the_rules_let_the_named_user_connect_and_nobody_else() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test makes a network namespace and loads rules into it: run it as root"
    );
    let site = Site::new("osaka");
    site.write(SERVICES);
    let rendered = run(renkei()
        .args(["render", "nftables", "--user", "0"])
        .arg(site.file()));
    assert!(rendered.status.success(), "{}", said(&rendered));
    let text = String::from_utf8_lossy(&rendered.stdout);
    assert!(text.contains("{ 18098, 18099 }"), "{text}");
    assert!(!text.contains("9000"), "of another machine: {text}");
    let rules = site.file().with_file_name("rules.nft");
    std::fs::write(&rules, &rendered.stdout).expect("written");
    let trial = run(Command::new("unshare")
        .args(["--net", "bash", "-c", TRIAL, "trial"])
        .arg(&rules));
    let told = String::from_utf8_lossy(&trial.stdout);
    assert_eq!(
        told.lines().collect::<Vec<_>>(),
        [
            "root connects",
            "other connects",
            "root connects",
            "other is refused",
            "other connects",
        ],
        "{}",
        said(&trial)
    );
}

#[test]
fn without_a_user_it_is_the_one_that_the_site_runs_as() {
    let site = Site::new("osaka");
    site.write(SERVICES);
    let missing = run(renkei()
        .args(["render", "nftables"])
        .arg(site.file())
        .arg("--state")
        .arg(site.state()));
    assert!(!missing.status.success());
    assert!(said(&missing).contains("--user"), "{}", said(&missing));
    site.own_bundle();
    let rendered = run(renkei()
        .args(["render", "nftables"])
        .arg(site.file())
        .arg("--state")
        .arg(site.state()));
    let own = format!("skuid != {{ {} }}", rustix::process::geteuid().as_raw());
    assert!(said(&rendered).contains(&own), "{}", said(&rendered));
    let unknown = run(renkei()
        .args(["render", "nftables", "--user", "no-such-user"])
        .arg(site.file()));
    assert!(!unknown.status.success());
    assert!(said(&unknown).contains("no user"), "{}", said(&unknown));
}

#[test]
fn check_warns_of_backends_that_every_user_can_reach() {
    let site = Site::new("osaka");
    site.write(SERVICES);
    let checked = said(&run(renkei().arg("check").arg(site.file())));
    let words = "127.0.0.1:18099 of archive, localhost:18098 of archive past the mesh";
    assert!(checked.contains(words), "{checked}");
    assert!(!checked.contains("192.0.2.1:9000 of"), "{checked}");
}

#[test]
fn check_warns_of_unix_sockets_that_every_user_can_reach() {
    let site = Site::new("osaka");
    let folder = tempfile::tempdir().expect("a folder");
    set(folder.path(), 0o755);
    let path = folder.path().join("socket");
    let _listener = UnixListener::bind(&path).expect("a socket");
    set(&path, 0o777);
    let backend = format!("unix:{}", path.display());
    site.write(&format!(
        "peers:\n  hokkaido.example: {{bundle: hokkaido.json}}\nservices:\n  db: {{backends: \
         ['{backend}'], allow: [hokkaido.example/reader]}}\n"
    ));
    let checked = || said(&run(renkei().arg("check").arg(site.file())));
    let warning = format!(
        "{backend} of db is not used: every user of this machine can connect to it, past the mesh \
         (mode 0777): chmod o-w {}",
        path.display()
    );
    let text = checked();
    assert!(text.contains(&warning), "{text}");
    set(&path, 0o660);
    let text = checked();
    assert!(!text.contains("is not used"), "{text}");
    assert!(!text.contains("past the mesh"), "{text}");
    let rules = said(&run(renkei()
        .args(["render", "nftables", "--user", "0"])
        .arg(site.file())));
    assert!(rules.contains("nothing is to be closed"), "{rules}");
}

fn set(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("permissions");
}

#[test]
fn the_rules_are_for_the_machine_of_one_process() {
    let site = Site::new("osaka");
    let api = renkei_testkit::free_address();
    site.write(&format!(
        "server: {{listen: {api}, advertise: {api}}}\nnodes:\n  store: {{}}\nservices:\n  \
         here: {{backends: [127.0.0.1:18099], allow: [reader]}}\n  \
         there: {{on: [store], backends: [127.0.0.1:18097], allow: [reader]}}\n\
         workloads:\n  reader: {{selectors: [unix:uid:0]}}\n"
    ));
    let render = |words: &[&str]| {
        let rendered = run(renkei()
            .args(["render", "nftables", "--user", "0"])
            .args(words)
            .arg(site.file()));
        (rendered.status.success(), said(&rendered))
    };
    let (_, up) = render(&[]);
    assert!(up.contains("18099") && !up.contains("18097"), "{up}");
    let (_, store) = render(&["--node", "store"]);
    assert!(
        store.contains("18097") && !store.contains("18099"),
        "{store}"
    );
    let (is_done, none) = render(&["--node", "stroe"]);
    assert!(!is_done && none.contains("no node `stroe`"), "{none}");
    let checked = run(renkei().arg("check").arg(site.file()));
    let warned = said(&checked);
    let warned = warned.split_whitespace().collect::<Vec<_>>().join(" ");
    for (machine, backend) in [
        ("this machine", "127.0.0.1:18099 of here"),
        ("the machine of the node store", "127.0.0.1:18097 of there"),
    ] {
        let says = format!("every user of {machine} can connect to {backend} past the mesh");
        assert!(warned.contains(&says), "{warned}");
    }
    assert!(
        warned.contains("`renkei render nftables --node store`"),
        "{warned}"
    );
}
