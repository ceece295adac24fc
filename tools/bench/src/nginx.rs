//! nginx with its stream module as a pair of TCP proxies, one process each.

use renkei_wan::Side;

use crate::{
    error::BenchError,
    identity::{Identity, name},
    plan::Plan,
    process::{Running, find},
};

const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

pub(crate) fn start(plan: &Plan<'_>) -> Result<Vec<Running>, BenchError> {
    let program = find("nginx")?;
    let far = format!(
        "listen {} ssl; proxy_pass {}; ssl_protocols TLSv1.3; {} ssl_verify_client on; \
         ssl_client_certificate {};",
        plan.between,
        plan.backend,
        files("ssl", &plan.far),
        plan.near.authority.display(),
    );
    // nginx can check the name of the other side only where it is a DNS name, and an SVID has none.
    let near = format!(
        "listen {}; proxy_pass {}; proxy_ssl on; proxy_ssl_protocols TLSv1.3; {}",
        plan.listen,
        plan.between,
        files("proxy_ssl", &plan.near),
    );
    [(Side::B, far), (Side::A, near)]
        .into_iter()
        .map(|(side, server)| {
            let name = format!("nginx-{}", name(side));
            let pid = plan.folder.join(format!("{name}.pid"));
            let text = format!(
                "load_module {MODULE};\ndaemon off;\nmaster_process off;\npid {};\n\
                 error_log stderr;\nevents {{ worker_connections 4096; }}\n\
                 stream {{ server {{ {server} }} }}\n",
                pid.display(),
            );
            let file = plan.write(&format!("{name}.conf"), &text)?;
            let mut command = plan.place.command(side, &program);
            command.args(["-e", "stderr", "-p"]).arg(&plan.folder);
            command.arg("-c").arg(file);
            let mut running = Running::start(&name, &plan.folder, command)?;
            running.wait_for("its listener", || pid.is_file().then_some(()))?;
            Ok(running)
        })
        .collect()
}

fn files(prefix: &str, own: &Identity) -> String {
    format!(
        "{prefix}_certificate {}; {prefix}_certificate_key {};",
        own.certificate.display(),
        own.key.display()
    )
}
