//! A federation as its members know it: founded by commands, joined by one registration, and not
//! to be fooled by whoever runs the registry.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::path::PathBuf;

use lab::{
    SOON, Site, echo, exchange, exchange_soon,
    federation::{
        Founded, ROUNDS, THREE, caller, federation, join, member, three_sites, three_sites_with,
        wait_counts,
    },
    renkei, run, said,
};
use renkei_federation::{Envelope, Statement};
use renkei_server::federation::{new_key, read_key};
use renkei_testkit::{free_address, wait_for};
use serde_json::Value;

#[test]
fn sites_that_know_only_the_federation_file_link_and_a_newcomer_costs_the_others_nothing() {
    let (founded, sites, local) = three_sites();
    let [hokkaido, osaka, _] = &sites;
    exchange_soon(local, b"through the federation");
    let peers = osaka.status()["server"]["peers"].clone();
    assert_eq!(peers.as_array().map(Vec::len), Some(2), "{peers}");
    assert_eq!(peers[0]["profile"], "federation");
    let text = said(&run(osaka.command(&["federation", "status"])));
    for part in [
        "hokkaido.example",
        "kyushu.example",
        "it cosigns",
        "2 make a quorum",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    let mut explain = renkei();
    explain.args(["explain", "collector", "hokkaido.example/echo", "--site"]);
    explain.arg(osaka.file()).arg("--state").arg(osaka.state());
    let explained = said(&run(&mut explain));
    assert!(
        explained.contains("is a member of intercloud"),
        "{explained}"
    );

    let mut tokyo = Site::new("tokyo");
    let from_tokyo = free_address();
    tokyo.write(&caller(&founded, from_tokyo));
    let joined = join(&tokyo);
    tokyo.start();
    wait_for("tokyo is told that it is not admitted", SOON, || {
        let said = federation(&tokyo)["publishing"]["fault"].to_string();
        said.contains("is not admitted").then_some(())
    });
    founded.admit(&tokyo, &joined);
    for site in sites.iter().chain([&tokyo]) {
        wait_counts(site, &["tokyo.example", "hokkaido.example"]);
    }
    exchange_soon(local, b"while it comes");
    let got = exchange(from_tokyo, b"hello");
    assert!(got.as_ref().map_or(true, Vec::is_empty), "{got:?}");
    let sentence = hokkaido.sentence("not_allowed");
    assert!(sentence.contains("tokyo.example/collector"), "{sentence}");
    exchange_soon(local, b"and the others go on");

    // What a site denies, nobody else can allow.
    let file = std::fs::read_to_string(hokkaido.file()).expect("site file");
    std::fs::write(hokkaido.file(), format!("{file}deny: [osaka.example]\n")).expect("site file");
    let applied = hokkaido.apply();
    assert!(applied.status.success(), "{}", said(&applied));
    assert!(
        said(&applied).contains("~ federation"),
        "{}",
        said(&applied)
    );
    wait_for("osaka is denied", SOON, || {
        let got = exchange(local, b"hello");
        got.map_or(true, |got| got.is_empty()).then_some(())
    });
    let denied = member(hokkaido, "osaka.example").expect("member");
    assert_eq!(denied["reason"], "this site denies it", "{denied}");
    std::fs::write(hokkaido.file(), file).expect("site file");
    assert!(hokkaido.apply().status.success());
    exchange_soon(local, b"and no more");

    founded.registrar("suspend", &tokyo, &[]);
    wait_for("tokyo is out", ROUNDS, || {
        let tokyo = member(hokkaido, "tokyo.example")?;
        tokyo["reason"]
            .as_str()?
            .contains("suspended")
            .then_some(())
    });
    let verify = run(renkei().args(["federation", "verify"]).arg(founded.file()));
    assert!(verify.status.success(), "{}", said(&verify));
    assert!(said(&verify).contains("suspended"), "{}", said(&verify));
    founded.copy("stick");
    let stick = run(renkei()
        .args(["federation", "verify", "--output", "json"])
        .arg(founded.file())
        .arg(founded.path("stick")));
    let seen: Value = serde_json::from_slice(&stick.stdout).expect("JSON");
    assert_eq!(seen["members"].as_array().map(Vec::len), Some(4), "{seen}");
}

/// A statement that a site did not make, signed with its online key.
fn speak_with_the_key_of(site: &Site) -> PathBuf {
    let folder = site.state().join("federation");
    let mut files = std::fs::read_dir(&folder).expect("folder").flatten();
    let online = files.find(|file| file.file_name().to_string_lossy().starts_with("online-"));
    let key = read_key(&online.expect("online key").path()).expect("key");
    let said = std::fs::read(folder.join("bundle.json")).expect("statement");
    let said = Envelope::parse(&said).expect("statement");
    let Statement::Bundle(mut bundle) = said.statement().clone() else {
        panic!("not a bundle");
    };
    bundle.sequence += 1;
    bundle.gateways = vec!["127.0.0.1:1".to_owned()];
    let stolen = Envelope::sign(Statement::Bundle(bundle), &[&key]).expect("signed");
    let file = site.path("stolen.json");
    std::fs::write(&file, stolen.to_bytes()).expect("written");
    file
}

/// The CA that signs at a site.
fn signing(site: &Site) -> Option<String> {
    let status = site.status();
    let all = status["server"]["authorities"].as_array()?.clone();
    let signing = all.into_iter().find(|ca| ca["state"] == "active")?;
    Some(signing["id"].as_str()?.to_owned())
}

#[test]
fn a_rotated_ca_a_new_online_key_and_a_withdrawal_reach_the_others() {
    let (founded, sites, local) = three_sites_with("{x509_svid: 10s");
    let [hokkaido, osaka, kyushu] = &sites;
    exchange_soon(local, b"before");
    let sequence = |of: &str| {
        let peers = osaka.status()["server"]["peers"].clone();
        let peers = peers.as_array().cloned().unwrap_or_default();
        let peer = peers.into_iter().find(|peer| peer["trust_domain"] == of);
        peer.and_then(|peer| peer["sequence"].as_u64())
    };
    // A changed lifetime makes another CA at once, which signs some seconds later.
    for life in ["20h", "19h"] {
        let before = sequence("hokkaido.example").expect("a sequence");
        let first = signing(hokkaido).expect("a CA");
        let text = std::fs::read_to_string(hokkaido.file()).expect("site file");
        let text = text.replace("lifetimes: {", &format!("lifetimes: {{ca: {life}, "));
        let text = text.replace("ca: 19h, ca: 20h", "ca: 19h");
        std::fs::write(hokkaido.file(), text).expect("site file");
        let applied = hokkaido.apply();
        assert!(applied.status.success(), "{}", said(&applied));
        wait_for("hokkaido's next CA has reached osaka", ROUNDS, || {
            (sequence("hokkaido.example")? > before).then_some(())
        });
        wait_for("hokkaido's next CA signs", ROUNDS, || {
            (signing(hokkaido)? != first).then_some(())
        });
    }
    exchange_soon(local, b"under another CA");

    // A thief of Kyushu's online key speaks in its name; Kyushu notices, and has the last word.
    let stolen = speak_with_the_key_of(kyushu);
    let submitted = run(renkei()
        .args(["federation", "submit"])
        .arg(founded.file())
        .arg(&stolen));
    assert!(submitted.status.success(), "{}", said(&submitted));
    wait_for("kyushu raises the alarm", ROUNDS, || {
        let alarms = federation(kyushu)["alarms"].to_string();
        alarms.contains("not made here").then_some(())
    });

    let root = kyushu.path("root");
    let root = root.to_str().expect("UTF-8");
    let words = [
        "federation",
        "root",
        "renew",
        "--new-online-key",
        "--root-keys",
        root,
    ];
    let renewed = run(kyushu.command(&words));
    assert!(renewed.status.success(), "{}", said(&renewed));
    wait_for("the new site root of kyushu counts", ROUNDS, || {
        let kyushu = member(osaka, "kyushu.example")?;
        (kyushu["counts"] == true && kyushu["root_version"] == 2).then_some(())
    });

    wait_for("the alarm is over", ROUNDS, || {
        let alarms = federation(kyushu)["alarms"].as_array().map(Vec::len);
        (alarms == Some(0)).then_some(())
    });

    let identity = join(kyushu)["identity"]
        .as_str()
        .expect("identity")
        .to_owned();
    let mut withdraw = renkei();
    withdraw
        .args(["federation", "withdraw"])
        .arg(founded.file());
    withdraw.args(["kyushu.example", &identity, "--reason", "it moves"]);
    withdraw.arg("--key").arg(kyushu.path("root/recovery.pem"));
    let done = run(&mut withdraw);
    assert!(done.status.success(), "{}", said(&done));
    wait_for("kyushu is gone", ROUNDS, || {
        let kyushu = member(osaka, "kyushu.example")?;
        kyushu["reason"]
            .as_str()?
            .contains("it moves")
            .then_some(())
    });
    wait_for("its bundle too", SOON, || {
        sequence("kyushu.example").is_none().then_some(())
    });
    exchange_soon(local, b"after");
}

#[test]
fn a_registry_that_is_gone_old_forging_or_of_two_tongues_changes_nothing() {
    let (mut founded, mut sites, local) = three_sites();
    founded.copy("old");
    founded.registry = None;
    exchange_soon(local, b"no registry");
    for site in &mut sites[..2] {
        site.process().kill();
        site.start();
    }
    let [hokkaido, osaka, _] = &sites;
    exchange_soon(local, b"after a restart, by the last good state");
    wait_for("the mirror's fault is told", SOON, || {
        let fault = federation(osaka)["mirrors"][0]["fault"].to_string();
        fault.contains("cannot connect").then_some(())
    });

    // The registrar's word reaches who is told, without any registry.
    let word = founded.path("suspended.json");
    let identity = member(osaka, "kyushu.example").expect("member")["identity"].clone();
    let word = word.to_str().expect("UTF-8");
    let words = [identity.as_str().expect("identity"), "--out", word];
    founded.registrar("suspend", &sites[2], &words);
    let mut import = renkei();
    import.args(["federation", "import-removal", word, "--site"]);
    import.arg(osaka.file()).arg("--state").arg(osaka.state());
    let imported = run(&mut import);
    assert!(imported.status.success(), "{}", said(&imported));
    wait_for("osaka applies it", SOON, || {
        let kyushu = member(osaka, "kyushu.example")?;
        kyushu["reason"]
            .as_str()?
            .contains("suspended")
            .then_some(())
    });

    // It comes back and forges: with its own key, in the name of Hokkaido.
    founded.copy("forged");
    let evil = new_key(&renkei_provider()).expect("key");
    founded.tamper("forged", |entries| {
        let bundle = entries.iter().find_map(|entry| {
            let envelope = Envelope::parse(entry).ok()?;
            match envelope.statement() {
                Statement::Bundle(bundle) if bundle.trust_domain.as_str() == THREE[0] => {
                    Some(bundle.clone())
                }
                _ => None,
            }
        });
        let mut bundle = bundle.expect("hokkaido's bundle");
        bundle.sequence += 1;
        bundle.gateways = vec!["127.0.0.1:1".to_owned()];
        let forged = Envelope::sign(Statement::Bundle(bundle), &[&evil]).expect("signed");
        entries.push(forged.to_bytes());
    });
    founded.serve("forged");
    wait_for("the forgery is told", ROUNDS, || {
        let refused = federation(osaka)["refused"].as_array().cloned()?;
        let forged = refused
            .into_iter()
            .find(|entry| entry["trust_domain"] == THREE[0])?;
        let reason = forged["reason"].as_str()?.to_owned();
        reason.contains("not signed by an online key").then_some(())
    });
    let gateway = hokkaido.gateway.to_string();
    let known = member(osaka, "hokkaido.example").expect("member");
    assert_eq!(known["gateways"][0], gateway.as_str(), "{known}");
    exchange_soon(local, b"nothing has changed");

    // It goes back to an older tree.
    wait_for("witnesses have seen the forged entry", ROUNDS, || {
        let seen = federation(osaka);
        (seen["witnessed"] == seen["entries"]).then_some(())
    });
    founded.tamper("old", |entries| {
        entries.pop();
    });
    founded.serve("old");
    wait_for("the older tree is told", ROUNDS, || {
        let fault = federation(osaka)["mirrors"][0]["fault"].to_string();
        fault.contains("older tree").then_some(())
    });
    assert_eq!(
        federation(osaka)["alarms"].as_array().map(Vec::len),
        Some(0)
    );

    // It shows another history of the same length.
    founded.copy("split");
    founded.tamper("split", |entries| {
        let last = entries.len() - 1;
        entries.swap(0, last);
        while u64::try_from(entries.len()).expect("few")
            < federation(osaka)["entries"].as_u64().expect("entries") + 1
        {
            entries.push(b"{}".to_vec());
        }
    });
    founded.serve("split");
    for site in &sites {
        wait_for("two histories are an alarm", ROUNDS, || {
            let alarms = federation(site)["alarms"].to_string();
            alarms.contains("two histories").then_some(())
        });
    }
    let text = said(&run(osaka.command(&["status"])));
    assert!(text.contains("ALARM"), "{text}");
    exchange_soon(local, b"traffic goes on all the same");
}

#[test]
fn a_history_for_one_site_alone_is_found_by_asking_the_others() {
    let (founded, sites, local) = three_sites();
    let [_, osaka, kyushu] = &sites;
    // Osaka reads a mirror where the log goes on otherwise than for the rest.
    founded.copy("split");
    founded.tamper("split", |entries| entries.push(b"{}".to_vec()));
    let file = std::fs::read_to_string(founded.file()).expect("federation file");
    let mirrors = file.find("mirrors:").expect("mirrors");
    let only = format!(
        "{}mirrors: [{}]\n",
        &file[..mirrors],
        founded.path("split").display()
    );
    std::fs::write(founded.path("osaka.yaml"), only).expect("written");
    let site = std::fs::read_to_string(osaka.file()).expect("site file");
    let site = site.replace("intercloud.yaml", "osaka.yaml");
    std::fs::write(osaka.file(), site).expect("site file");
    let applied = osaka.apply();
    assert!(applied.status.success(), "{}", said(&applied));
    // The rest see Kyushu's news instead.
    let news = format!(
        "services:\n  news: {{backends: [127.0.0.1:9]}}\n{}",
        founded.line()
    );
    kyushu.write(&news);
    assert!(kyushu.apply().status.success());
    wait_for("osaka hears of it", ROUNDS, || {
        let alarms = federation(osaka)["alarms"].to_string();
        alarms.contains("two histories").then_some(())
    });
    exchange_soon(local, b"traffic goes on");
}

#[test]
fn a_member_that_only_dials_out_is_reached_through_another_member() {
    let mut sites = ["hokkaido", "osaka", "kyushu"].map(Site::new);
    let founded = Founded::by(&sites.each_ref(), &sites[0].program);
    let local = free_address();
    sites[0].write(&format!("{}relays: [osaka.example]\n", founded.line()));
    let behind = format!(
        "site: osaka\ntrust_domain: osaka.example\ngateway: {{via: hokkaido.example}}\n\
         lifetimes: {{x509_svid: 10s, bundle_refresh: 1s}}\n{}services:\n  echo: \
         {{backends: [{}], allow: [kyushu.example/collector]}}\n",
        founded.line(),
        echo()
    );
    std::fs::write(sites[1].file(), behind).expect("site file");
    let rest = caller(&founded, local).replace("hokkaido.example/echo", "osaka.example/echo");
    sites[2].write(&rest);
    sites.iter_mut().for_each(Site::start);
    for site in &sites {
        wait_counts(site, &THREE);
    }
    wait_for("osaka has published its hub's gateway", ROUNDS, || {
        let osaka = member(&sites[2], "osaka.example")?;
        (osaka["gateways"][0] == sites[0].gateway.to_string().as_str()).then_some(())
    });
    exchange_soon(local, b"through the hub");
}

#[test]
fn a_key_of_another_role_signs_no_admission_and_the_right_file_is_named() {
    let osaka = Site::new("osaka");
    let founded = Founded::by(&[&osaka], &osaka.program);
    let identity = join(&osaka)["identity"]
        .as_str()
        .expect("identity")
        .to_owned();
    let admit = |key: &str| {
        let mut command = renkei();
        command.args(["federation", "admit"]).arg(founded.file());
        command.args(["osaka.example", &identity, "--key"]);
        run(command.arg(founded.path(key)))
    };
    let refused = admit("log.pem");
    assert_eq!(refused.status.code(), Some(1));
    let words: Vec<String> = said(&refused)
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let words = words.join(" ");
    for part in ["log.pem is not a registrar key of", "use registrar.pem"] {
        assert!(words.contains(part), "{words}");
    }
    assert!(admit("registrar.pem").status.success());
}

#[test]
fn a_site_without_an_authority_of_its_own_is_told_that_it_cannot_be_a_member() {
    let site = Site::new("osaka");
    let founded = Founded::by(&[&site], &site.program);
    site.write(&founded.line());
    let mut up = renkei();
    up.arg("up")
        .arg(site.file())
        .arg("--state")
        .arg(site.state());
    up.args(["--admin", "none", "--workload-api", "unix:///nowhere"]);
    let ended = run(&mut up);
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        said(&ended).contains("`federation` needs"),
        "{}",
        said(&ended)
    );
    let checked = said(&run(renkei().arg("check").arg(site.file())));
    assert!(
        checked.contains("Its federation is intercloud"),
        "{checked}"
    );
    let checked = run(renkei()
        .args(["check", "--output", "json"])
        .arg(site.file()));
    let checked: Value = serde_json::from_slice(&checked.stdout).expect("JSON");
    assert_eq!(checked["federation"]["witnesses"][0], "osaka.example");
    std::fs::write(founded.file(), "federation: intercloud\n").expect("written");
    let faulty = run(renkei().arg("check").arg(site.file()));
    assert_eq!(faulty.status.code(), Some(2));
    assert!(
        said(&faulty).contains("`log_key` is missing"),
        "{}",
        said(&faulty)
    );
    std::fs::remove_file(founded.file()).expect("removed");
    let missing = run(renkei().arg("check").arg(site.file()));
    assert_eq!(missing.status.code(), Some(2));
    assert!(
        said(&missing).contains("cannot read the federation file"),
        "{}",
        said(&missing)
    );
}

fn renkei_provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}
