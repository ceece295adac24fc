//! Two Renkei sites, each `renkei up` with a site file as an operator would write it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use renkei_wan::Side;
use serde_json::Value;

use crate::{
    error::BenchError,
    identity::name,
    plan::{Plan, Protocol},
    process::{Running, output},
};

pub(crate) fn start(plan: &Plan<'_>) -> Result<Vec<Running>, BenchError> {
    let program = program()?;
    let gateways = [plan.place.reachable(Side::A), plan.between];
    let [near, far] = [Side::A, Side::B].map(|side| Site {
        side,
        file: plan.folder.join(format!("{}.yaml", name(side))),
        state: plan.folder.join(name(side)),
        program: &program,
    });
    for (site, gateway) in [(&near, gateways[0]), (&far, gateways[1])] {
        site.write((gateway, ""), "")?;
        let document = site.ask(&["bundle", "show"])?;
        plan.write(&format!("{}.bundle.json", name(site.side)), &document)?;
    }
    let uid = rustix::process::geteuid().as_raw();
    near.write(
        (gateways[0], plan.gateway),
        &format!(
            "{}workloads:\n  caller: {{selectors: [unix:uid:{uid}], uses: \
             {{far.example/target: {}}}}}\n",
            peer(Side::B, gateways[1]),
            plan.listen
        ),
    )?;
    far.write(
        (gateways[1], plan.gateway),
        &format!(
            "{}services:\n  target: {{protocol: {}, backends: [{}], allow: \
             [near.example/caller]}}\n",
            peer(Side::A, gateways[0]),
            match plan.protocol {
                Protocol::Tcp => "tcp",
                Protocol::Http => "http",
                Protocol::Kafka => "kafka",
            },
            plan.backend
        ),
    )?;
    let mut running = Vec::new();
    for site in [&far, &near] {
        running.push(site.start(plan)?);
    }
    for (site, running) in [&far, &near].into_iter().zip(&mut running) {
        running.wait_for("to be ready", || site.is_linked().then_some(()))?;
    }
    Ok(running)
}

/// `RENKEI_PROGRAM`, or the program beside this one.
fn program() -> Result<PathBuf, BenchError> {
    let beside = std::env::current_exe().map(|own| own.with_file_name("renkei"));
    std::env::var_os("RENKEI_PROGRAM")
        .map(PathBuf::from)
        .or(beside.ok())
        .filter(|program| program.is_file())
        .ok_or_else(|| BenchError::Missing {
            program: "renkei".to_owned(),
        })
}

/// One of the two sites.
#[derive(Debug)]
struct Site<'a> {
    side: Side,
    file: PathBuf,
    state: PathBuf,
    program: &'a Path,
}

impl Site<'_> {
    fn write(&self, (gateway, keys): (SocketAddr, &str), rest: &str) -> Result<(), BenchError> {
        let text = format!(
            "site: {name}\ntrust_domain: {name}.example\ngateway: {{listen: {gateway}, \
             advertise: {gateway}{keys}}}\n{rest}",
            name = name(self.side)
        );
        std::fs::write(&self.file, text).map_err(BenchError::file(&self.file))
    }

    /// What a command of the site prints as JSON.
    fn ask(&self, words: &[&str]) -> Result<String, BenchError> {
        let mut command = Command::new(self.program);
        command
            .args(words)
            .arg(&self.file)
            .arg("--state")
            .arg(&self.state)
            .args(["--output", "json"]);
        output(&format!("renkei {}", words.join(" ")), &mut command)
    }

    fn start(&self, plan: &Plan<'_>) -> Result<Running, BenchError> {
        let mut command = plan.place.command(self.side, self.program);
        command
            .arg("up")
            .arg(&self.file)
            .arg("--state")
            .arg(&self.state)
            // As the other proxies, it writes no line for each connection.
            .args(["--admin", "none", "--log", "warn"]);
        let name = format!("renkei-{}", name(self.side));
        Running::start(&name, &plan.folder, command)
    }

    /// Whether it serves and knows its peer's authority.
    fn is_linked(&self) -> bool {
        let status = self.ask(&["status"]).unwrap_or_default();
        let status: Value = serde_json::from_str(&status).unwrap_or_default();
        let peers = status.pointer("/server/peers").and_then(Value::as_array);
        let linked = peers.is_some_and(|peers| {
            let known = |peer: &Value| peer.get("authorities") != Some(&0.into());
            !peers.is_empty() && peers.iter().all(known)
        });
        linked && status.get("ready") == Some(&true.into())
    }
}

fn peer(side: Side, gateway: SocketAddr) -> String {
    let name = name(side);
    format!(
        "peers:\n  {name}.example: {{bundle: https://{gateway}/, bootstrap: {name}.bundle.json, \
         gateway: {gateway}}}\n"
    )
}
