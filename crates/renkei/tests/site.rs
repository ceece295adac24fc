//! A site as its operator knows it: starting, restarting, changing, ending, and what is said when
//! something is wrong.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    time::Duration,
};

use lab::{
    SOON, Site, assert_unanswered, callee, caller, connection::Connection, echo, exchange,
    exchange_soon, metrics::get, own_uid, renkei, run, said, serve, two_renewing_sites, two_sites,
};
use renkei_testkit::{Child, free_address, wait_for};

#[test]
fn bytes_cross_two_sites_and_status_tells_of_it() {
    let (hokkaido, osaka, local) = two_sites(echo());
    let data: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7) as u8).collect();
    assert!(
        exchange(local, &data).expect("exchange") == data,
        "bytes changed on the way"
    );
    let status = wait_for("the flow is counted", SOON, || {
        Some(hokkaido.status()).filter(|status| status["proxy"]["totals"][0]["open"] == 0)
    });
    let total = &status["proxy"]["totals"][0];
    assert_eq!(total["caller"], "spiffe://osaka.example/collector");
    assert_eq!(total["callee"], "spiffe://hokkaido.example/echo");
    assert_eq!(total["bytes_received"], data.len());
    let text = said(&run(osaka.command(&["status"])));
    for part in [
        "osaka.example/collector",
        "hokkaido.example/echo",
        "https_spiffe",
        "3.0 MB",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

#[test]
fn status_counts_trunks_and_their_lanes_at_both_ends() {
    let (hokkaido, osaka, local) = two_sites(echo());
    assert!(!said(&run(osaka.command(&["status"]))).contains("Trunks"));
    exchange_soon(local, b"hello");
    for (site, direction) in [(&osaka, "outbound"), (&hokkaido, "inbound")] {
        let trunks = wait_for("one lane", SOON, || {
            let trunks = site.status()["proxy"]["trunks"].clone();
            (trunks[0]["lanes"] == 1).then_some(trunks)
        });
        let expected = serde_json::json!([{
            "direction": direction,
            "caller": "spiffe://osaka.example/collector",
            "callee": "spiffe://hokkaido.example/echo",
            "trunks": 1,
            "lanes": 1,
        }]);
        assert_eq!(trunks, expected);
    }
    wait_for("a line with the lane", SOON, || {
        let text = said(&run(osaka.command(&["status"])));
        let (_, trunks) = text.split_once("\nTrunks\n")?;
        let line = trunks.lines().nth(1)?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let expected = [
            "out",
            "osaka.example/collector",
            "hokkaido.example/echo",
            "1",
            "1",
        ];
        (words == expected).then_some(())
    });
}

#[test]
fn a_decision_names_the_flow_that_it_let_in() {
    let (mut hokkaido, _osaka, local) = two_sites(echo());
    exchange_soon(local, b"the first is another flow");
    let mut open = TcpStream::connect(local).expect("connected");
    open.write_all(b"x").expect("written");
    open.read_exact(&mut [0]).expect("read");
    let flows = hokkaido.status()["proxy"]["flows"].clone();
    let flow = &flows
        .as_array()
        .and_then(|flows| flows.last())
        .expect("a flow")["id"];
    let log = hokkaido.logged(&format!("flow={flow}"));
    let named = |line: &&str| line.contains(&format!("flow={flow}"));
    let line = log.lines().find(named).expect("a line");
    assert!(line.contains(" decision caller="), "{line}");
}

#[test]
fn who_is_not_allowed_is_refused_and_the_callee_says_why() {
    let (mut hokkaido, osaka, local) = two_sites(echo());
    let closed = format!(
        "{}services:\n  echo: {{backends: [127.0.0.1:9]}}\n",
        hokkaido.peers(&[&osaka])
    );
    hokkaido.write(&closed);
    let applied = hokkaido.apply();
    assert!(applied.status.success(), "{}", said(&applied));
    let got = exchange(local, b"hello");
    assert!(got.as_ref().map_or(true, Vec::is_empty), "{got:?}");
    let sentence = hokkaido.sentence("not_allowed");
    assert!(sentence.contains("osaka.example/collector"), "{sentence}");
    let told = said(&run(hokkaido.command(&["status"])));
    let line = "inbound, osaka.example/collector to echo: ";
    assert!(told.contains(&format!("{line}{sentence}")), "{told}");
    let theirs = osaka.sentence("peer_denied");
    assert!(theirs.contains("hokkaido.example/echo"), "{theirs}");
    assert!(hokkaido.process().is_running());
}

#[test]
fn a_service_that_the_callee_does_not_have_is_named_with_the_place_to_check() {
    let (hokkaido, osaka, local) = two_sites(echo());
    exchange_soon(local, b"the sites know each other");
    let wrong = free_address();
    let more = format!(
        "  second: {{selectors: [{}], uses: {{hokkaido.example/wbe: {wrong}}}}}\n",
        own_uid()
    );
    osaka.write(&(caller(&osaka, &hokkaido, local) + &more));
    let applied = osaka.apply();
    assert!(applied.status.success(), "{}", said(&applied));
    // Identities arrive a moment after the file is applied.
    let sentence = wait_for("the refusal", SOON, || {
        let _ = exchange(wrong, b"hello");
        let refusals = osaka.status()["proxy"]["refusals"].clone();
        let mut refusals = refusals.as_array()?.iter();
        let refusal = refusals.find(|refusal| refusal["reason"] == "no_such_service")?;
        refusal["sentence"].as_str().map(str::to_owned)
    });
    assert_eq!(
        sentence,
        "hokkaido.example has no service `wbe`; check the name under `uses`"
    );
}

#[test]
fn a_change_of_the_file_keeps_the_flows_it_does_not_touch() {
    let (hokkaido, osaka, local) = two_sites(echo());
    let mut open = Connection::open(local);
    let second = free_address();
    let more = format!(
        "  second: {{selectors: [unix:uid:4242], uses: {{hokkaido.example/echo: {second}}}}}\n"
    );
    osaka.write(&(caller(&osaka, &hokkaido, local) + &more));
    let applied = osaka.apply();
    assert!(applied.status.success(), "{}", said(&applied));
    assert!(
        said(&applied).contains("+ workload second"),
        "{}",
        said(&applied)
    );
    open.say();
    assert!(
        TcpStream::connect(second).is_ok(),
        "the new listener is open"
    );
    osaka.write("workloads: [nonsense\n");
    let refused = osaka.apply();
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    open.say();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("listener");
    let clash = taken.local_addr().expect("address");
    osaka.write(
        &(caller(&osaka, &hokkaido, local)
            + &more.replace(&second.to_string(), &clash.to_string())),
    );
    let refused = osaka.apply();
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(
        said(&refused).contains(&clash.to_string()),
        "{}",
        said(&refused)
    );
    assert!(
        TcpStream::connect(second).is_ok(),
        "nothing is half-applied"
    );
    open.say();
    osaka.write("workloads: {}\n");
    assert!(osaka.apply().status.success());
    open.assert_reset();
}

/// A bundle file, so that the person who runs the callee says what it trusts.
#[test]
fn an_empty_bundle_cuts_what_is_open_and_refuses_what_is_new() {
    let (mut hokkaido, mut osaka) = (Site::new("hokkaido"), Site::new("osaka"));
    let (local, backend) = (free_address(), echo());
    let text = callee(&hokkaido, &osaka, backend);
    let by_endpoint = format!("https://{}/, bootstrap: osaka.json", osaka.gateway);
    assert!(text.contains(&by_endpoint), "{text}");
    hokkaido.write(&text.replace(&by_endpoint, "osaka.json"));
    osaka.write(&caller(&osaka, &hokkaido, local));
    hokkaido.start();
    osaka.start();
    hokkaido.wait_linked();
    osaka.wait_linked();
    exchange_soon(local, b"the sites know each other");
    let mut open = TcpStream::connect(local).expect("connected");
    open.set_read_timeout(Some(Duration::from_secs(20)))
        .expect("timeout");
    open.write_all(b"x").expect("written");
    open.read_exact(&mut [0]).expect("read");

    let file = hokkaido.path("osaka.json");
    let good = std::fs::read(&file).expect("bundle");
    std::fs::write(&file, r#"{"keys":[]}"#).expect("written");
    wait_for("the flow is cut", SOON, || {
        open_is_reset(&mut open).then_some(())
    });
    let got = exchange(local, b"hello");
    assert!(got.as_ref().map_or(true, Vec::is_empty), "{got:?}");
    let told = said(&run(hokkaido.command(&["status"])));
    assert!(told.contains("no X.509 authorities"), "{told}");

    std::fs::write(&file, good).expect("written");
    exchange_soon(local, b"back again");
    assert!(hokkaido.process().is_running());
}

fn open_is_reset(stream: &mut TcpStream) -> bool {
    // The reset shows once, at whichever call comes first.
    stream.write_all(b"x").is_err() || stream.read(&mut [0]).is_err()
}

#[test]
fn a_hangup_applies_the_file_too() {
    let mut site = Site::new("osaka");
    site.start();
    let local = free_address();
    let text = format!(
        "services:\n  echo: {{backends: [{}], allow: [collector]}}\nworkloads:\n  collector: \
         {{selectors: [{}], uses: {{echo: {local}}}}}\n",
        echo(),
        own_uid()
    );
    site.write(&text);
    site.process().signal("HUP");
    exchange_soon(local, b"within one site");
    site.write(&(text.clone() + "servces: {}\n"));
    site.process().signal("HUP");
    let place = format!("{}:", site.file().display());
    wait_for("the log says where the fault is", SOON, || {
        let log = site.process().output();
        let line = log.lines().find(|line| line.contains("was not applied"))?;
        assert!(
            line.contains(&place) && line.contains("did you mean"),
            "{line}"
        );
        Some(())
    });
    exchange_soon(local, b"as before");
}

#[test]
fn a_file_named_from_its_own_folder_is_the_same_file_at_every_apply() {
    let (hokkaido, mut osaka) = (Site::new("hokkaido"), Site::new("osaka"));
    osaka.write(&caller(&osaka, &hokkaido, free_address()));
    let mut up = renkei();
    up.args(["up", "site.yaml", "--state", "state", "--admin", "none"])
        .current_dir(osaka.folder.path());
    osaka.process = Some(Child::start("osaka", &mut up));
    wait_for("the site serves", SOON, || osaka.try_status());
    let applied = osaka.apply();
    assert_eq!(said(&applied), "Nothing has changed.\n");
}

#[test]
fn after_kill_9_a_site_comes_back_with_its_ca_and_serves() {
    let (mut hokkaido, mut osaka, local) = two_sites(echo());
    let bundle = hokkaido.own_bundle();
    exchange_soon(local, b"before");
    hokkaido.process().kill();
    assert_unanswered(local);
    assert!(
        osaka.process().is_running(),
        "a peer that is down takes nobody with it"
    );
    hokkaido.start();
    assert_eq!(hokkaido.own_bundle(), bundle, "the CA is kept");
    exchange_soon(local, b"after");
    osaka.process().kill();
    osaka.start();
    exchange_soon(local, b"after both");
}

/// Osaka with a drain time of its own, and a connection of its workload that is open.
fn with_an_open_connection(drain: &str) -> (Site, Site, SocketAddr, TcpStream) {
    let (mut hokkaido, mut osaka) = (Site::new("hokkaido"), Site::new("osaka"));
    let local = free_address();
    hokkaido.write(&callee(&hokkaido, &osaka, echo()));
    osaka.write(&caller(&osaka, &hokkaido, local));
    hokkaido.start();
    osaka.start_with(&["--drain", drain]);
    hokkaido.wait_linked();
    osaka.wait_linked();
    let mut open = TcpStream::connect(local).expect("connected");
    open.set_read_timeout(Some(SOON)).expect("timeout");
    open.write_all(b"x").expect("written");
    open.read_exact(&mut [0]).expect("read");
    (hokkaido, osaka, local, open)
}

#[test]
fn a_stopped_site_drains_open_connections_and_a_second_signal_cuts_them() {
    let (mut hokkaido, mut osaka, local, mut open) = with_an_open_connection("1h");
    osaka.process().signal("TERM");
    wait_for("no new connection while it drains", SOON, || {
        TcpStream::connect(local).is_err().then_some(())
    });
    open.write_all(b"y").expect("the open one goes on");
    open.read_exact(&mut [0]).expect("the open one goes on");
    assert!(osaka.process().is_running());
    osaka.process().signal("TERM");
    let ended = osaka.process().wait(SOON);
    assert!(ended.success(), "{}", osaka.process().output());
    let error = open.read(&mut [0]).expect_err("no clean end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    hokkaido.process().signal("TERM");
    assert!(hokkaido.process().wait(SOON).success());
}

#[test]
fn a_drain_ends_at_its_deadline_with_a_reset() {
    let (_hokkaido, mut osaka, _local, mut open) = with_an_open_connection("1s");
    osaka.process().signal("TERM");
    let ended = osaka.process().wait(SOON);
    assert!(ended.success(), "{}", osaka.process().output());
    let error = open.read(&mut [0]).expect_err("no clean end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn svids_are_renewed_under_an_open_connection() {
    let (hokkaido, osaka, local) = two_renewing_sites(echo());
    let mut open = Connection::open(local);
    wait_for("each SVID is renewed three times", 2 * SOON, || {
        open.say();
        (osaka.renewals() >= 3).then_some(())
    });
    exchange_soon(local, b"and new ones are made");
    assert_eq!(
        hokkaido.status()["proxy"]["refused"]
            .as_array()
            .map(Vec::len),
        Some(0)
    );
}

#[test]
fn a_backend_that_is_down_slow_or_closes_early_is_told_apart() {
    let nobody = free_address();
    let (hokkaido, osaka, local) = two_sites(nobody);
    assert!(exchange(local, b"hello").map_or(true, |got| got.is_empty()));
    let sentence = hokkaido.sentence("backend_unavailable");
    assert!(sentence.contains(&nobody.to_string()), "{sentence}");
    let early = serve(|mut stream| {
        let _ = stream.write_all(b"bye");
    });
    hokkaido.write(&callee(&hokkaido, &osaka, early));
    assert!(hokkaido.apply().status.success());
    let mut stream = TcpStream::connect(local).expect("connected");
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got);
    assert_eq!(got, b"bye", "what it said before closing arrives");
    drop(stream);
    let (tell, told) = std::sync::mpsc::channel::<TcpStream>();
    let slow = serve(move |stream| drop(tell.send(stream)));
    hokkaido.write(&callee(&hokkaido, &osaka, slow));
    assert!(hokkaido.apply().status.success());
    let waiting = std::thread::spawn(move || exchange(local, b""));
    let mut stream = told.recv_timeout(SOON).expect("the backend is reached");
    // With the caller's end of sending behind it, and without the connections before.
    for site in [&hokkaido, &osaka] {
        wait_for("one open connection", SOON, || {
            (site.status()["proxy"]["totals"][0]["open"] == 1).then_some(())
        });
    }
    assert!(!waiting.is_finished(), "nothing was answered yet");
    stream.write_all(b"at last").expect("written");
    drop(stream);
    let got = waiting.join().expect("no panic").expect("patience");
    assert_eq!(got, b"at last");
}

#[test]
fn two_thousand_connections_at_once_through_one_proxy() {
    let (hokkaido, osaka, local) = two_sites(echo());
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let _ = rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
    let mut open = Vec::new();
    for n in 0..2_000_u32 {
        let mut stream = TcpStream::connect(local).expect("connected");
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("timeout");
        stream.write_all(&n.to_be_bytes()).expect("written");
        open.push(stream);
    }
    for (n, stream) in open.iter_mut().enumerate() {
        let mut got = [0; 4];
        stream.read_exact(&mut got).expect("read");
        assert_eq!(u32::from_be_bytes(got) as usize, n);
    }
    for site in [&hokkaido, &osaka] {
        assert_eq!(
            site.status()["proxy"]["totals"][0]["open"],
            2_000,
            "{}",
            site.name
        );
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("listener");
    let mut site = Site::new("osaka");
    site.gateway = taken.local_addr().expect("address");
    site.write("");
    let mut up = renkei();
    up.arg("up")
        .arg(site.file())
        .arg("--state")
        .arg(site.state())
        .args(["--admin", "none"]);
    let ended = run(&mut up);
    assert_eq!(ended.status.code(), Some(1));
    for part in [&*site.gateway.to_string(), "site.yaml:3:", "ss -ltnp"] {
        assert!(
            said(&ended).contains(part),
            "no {part:?} in {}",
            said(&ended)
        );
    }
}

#[test]
fn a_state_folder_that_cannot_be_written_or_is_open_to_others_is_named() {
    let site = Site::new("osaka");
    std::fs::write(site.path("state"), "a file").expect("written");
    let up = |state: &std::path::Path| {
        let mut up = renkei();
        up.arg("up")
            .arg(site.file())
            .arg("--state")
            .arg(state)
            .args(["--admin", "none"]);
        run(&mut up)
    };
    let ended = up(&site.path("state"));
    assert_eq!(ended.status.code(), Some(1));
    assert!(said(&ended).contains("state"), "{}", said(&ended));
    let open = site.path("open");
    std::fs::create_dir(&open).expect("folder");
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).expect("mode");
    let ended = up(&open);
    assert_eq!(ended.status.code(), Some(1));
    assert!(said(&ended).contains("chmod"), "{}", said(&ended));
}

#[test]
fn a_second_process_on_the_same_state_folder_is_refused() {
    let mut site = Site::new("osaka");
    site.start();
    let mut up = renkei();
    up.arg("up")
        .arg(site.file())
        .arg("--state")
        .arg(site.state())
        .args(["--admin", "none"]);
    let ended = run(&mut up);
    assert_eq!(ended.status.code(), Some(1));
    assert!(said(&ended).contains("already running"), "{}", said(&ended));
}

#[test]
fn metrics_and_health_are_on_a_loopback_port() {
    let mut site = Site::new("osaka");
    let admin = free_address();
    let mut up = renkei();
    up.arg("up")
        .arg(site.file())
        .arg("--state")
        .arg(site.state());
    up.args(["--admin", &admin.to_string(), "--log-format", "json"]);
    site.process = Some(Child::start("osaka", &mut up));
    let get = |path: &str| get(admin, path).ok();
    wait_for("readiness", SOON, || {
        get("/readyz").filter(|text| text.contains(" 200 "))
    });
    assert!(get("/livez").expect("livez").contains(" 200 "));
    let metrics = get("/metrics").expect("metrics");
    for name in [
        "renkei_build_info",
        "renkei_server_svids_issued_total",
        "process_open_fds",
    ] {
        assert!(metrics.contains(name), "no {name} in:\n{metrics}");
    }
    assert!(get("/other").expect("answer").contains(" 404 "));
    let output = site.process().output();
    for line in output.lines() {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(parsed.is_ok(), "not a JSON line: {line}");
    }
    assert!(!output.contains("PRIVATE KEY"));
}

#[test]
fn another_local_user_at_a_workloads_port_is_refused() {
    let (_hokkaido, osaka, local) = two_sites(echo());
    if !rustix::process::geteuid().is_root() {
        // Without root nobody else can be played; the rule is still asserted from the other side:
        // a workload of another user is closed to us.
        let stranger = free_address();
        let more = format!(
            "  other: {{selectors: [unix:uid:4242], uses: {{hokkaido.example/echo: {stranger}}}}}\n"
        );
        let text = std::fs::read_to_string(osaka.file()).expect("site file");
        std::fs::write(osaka.file(), text + &more).expect("site file");
        assert!(osaka.apply().status.success());
        assert!(exchange(stranger, b"hello").map_or(true, |got| got.is_empty()));
    } else {
        let script = format!(
            "exec 3<>/dev/tcp/{}/{} && echo hello >&3 && head -c 5 <&3",
            local.ip(),
            local.port()
        );
        let mut nobody = std::process::Command::new("setpriv");
        nobody.args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "--",
            "bash",
            "-c",
            &script,
        ]);
        let got = run(&mut nobody);
        assert!(got.stdout.is_empty(), "{}", said(&got));
    }
    let sentence = osaka.sentence("other_user");
    assert!(
        sentence.contains("the listener is for unix:uid:"),
        "{sentence}"
    );
}
