//! HAProxy as a pair of TCP proxies; as many threads as it chooses.

use renkei_wan::Side;

use crate::{
    error::BenchError,
    identity::name,
    plan::Plan,
    process::{Running, find},
};

pub(crate) fn start(plan: &Plan<'_>) -> Result<Vec<Running>, BenchError> {
    let program = find("haproxy")?;
    let far = format!(
        "    bind {} ssl crt {} ca-file {} verify required ssl-min-ver TLSv1.3\n    server only {}\n",
        plan.between,
        plan.far.both.display(),
        plan.near.authority.display(),
        plan.backend,
    );
    let near = format!(
        "    bind {}\n    server only {} ssl crt {} ca-file {} verify required ssl-min-ver TLSv1.3\n",
        plan.listen,
        plan.between,
        plan.near.both.display(),
        plan.far.authority.display(),
    );
    [(Side::B, far), (Side::A, near)]
        .into_iter()
        .map(|(side, listen)| {
            let name = format!("haproxy-{}", name(side));
            let control = plan.folder.join(format!("{name}.sock"));
            let text = format!(
                "global\n    stats socket {}\ndefaults\n    mode tcp\n    timeout connect 5s\n    timeout client 1h\n    \
                 timeout server 1h\nlisten only\n{listen}",
                control.display(),
            );
            let file = plan.write(&format!("{name}.conf"), &text)?;
            let mut command = plan.place.command(side, &program);
            command.args(["-db", "-f"]).arg(file);
            let mut running = Running::start(&name, &plan.folder, command)?;
            running.wait_for("its listener", || control.exists().then_some(()))?;
            Ok(running)
        })
        .collect()
}
