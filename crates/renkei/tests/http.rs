//! A service that speaks HTTP, as its callers know it: curl at one site, the service at the other,
//! and rules about what each request may do.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{
    convert::Infallible,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use lab::{
    Site, callee, caller,
    foreign::{Foreign, pattern, stdout_of},
    run, said,
};
use renkei_testkit::free_address;

const METHODS: &str =
    "methods: {osaka.example/collector: [GET /v1/*, PUT /v1/echo, GET /v2/records]}";
const DENIED: &str = "may not do POST /v1/records at hokkaido.example/echo: no rule in its methods \
                      allows that\n";

/// A web server of another kind: echoes bodies and WebSockets, otherwise tells what it was asked.
fn web_server() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listener");
    let address = listener.local_addr().expect("address");
    listener.set_nonblocking(true).expect("nonblocking");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("listener");
            while let Ok((stream, _)) = listener.accept().await {
                let answer = service_fn(|request| async { Ok::<_, Infallible>(respond(request)) });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                tokio::spawn(connection.with_upgrades());
            }
        });
    });
    address
}

fn respond(mut request: Request<Incoming>) -> Response<BoxBody<Bytes, hyper::Error>> {
    let text = |text: String| {
        Full::new(Bytes::from(text))
            .map_err(|never| match never {})
            .boxed()
    };
    if request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.expect("an upgrade"));
            let (mut read, mut write) = tokio::io::split(&mut stream);
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
        let switch = Response::builder().status(101);
        let switch = switch
            .header("connection", "upgrade")
            .header("upgrade", "websocket");
        return switch.body(text(String::new())).expect("a response");
    }
    if request.method() == "PUT" {
        return Response::new(request.into_body().boxed());
    }
    let peer = request.headers().get_all("x-renkei-peer");
    Response::new(text(
        format!("{} {} {peer:?}\n", request.method(), request.uri()).replace("GetAll ", ""),
    ))
}

/// Osaka's collector and Hokkaido's web service with these keys besides.
fn sites(backend: SocketAddr, keys: &str) -> (Site, Site, SocketAddr) {
    let (mut hokkaido, mut osaka) = (Site::new("hokkaido"), Site::new("osaka"));
    let local = free_address();
    hokkaido.write(&web_service(&hokkaido, &osaka, backend, keys));
    osaka.write(&caller(&osaka, &hokkaido, local));
    hokkaido.start();
    osaka.start();
    hokkaido.wait_linked();
    osaka.wait_linked();
    (hokkaido, osaka, local)
}

fn web_service(site: &Site, other: &Site, backend: SocketAddr, keys: &str) -> String {
    let with = format!("echo: {{protocol: http, {keys}, ");
    callee(site, other, backend).replace("echo: {", &with)
}

/// curl with these words; the status of the last response, and everything that came.
fn curl(local: SocketAddr, path: &str, words: &[&str]) -> (String, String) {
    let mut command = Command::new("curl");
    command.args([
        "--silent",
        "--show-error",
        "--path-as-is",
        "--max-time",
        "60",
    ]);
    command
        .args(["--write-out", "%{stderr}%{http_code}"])
        .args(words);
    let output = run(command.arg(format!("http://{local}{path}")));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stderr), text(&output.stdout))
}

fn hash(file: &Path) -> Vec<u8> {
    let bytes = std::fs::read(file).expect("file");
    digest(&SHA256, &bytes).as_ref().to_vec()
}

#[test]
fn curl_may_do_what_the_rules_say_and_no_more() {
    let (hokkaido, _osaka, local) = sites(web_server(), METHODS);
    let forged = ["--header", "X-Renkei-Peer: spiffe://osaka.example/admin"];
    let (status, told) = curl(local, "/v1/records?from=1", &forged);
    assert_eq!(status, "200");
    assert!(told.starts_with("GET /v1/records?from=1 "), "{told}");
    assert!(told.contains("spiffe://osaka.example/collector"), "{told}");
    assert!(!told.contains("admin"), "{told}");
    let (status, told) = curl(local, "/v1/records", &["--data", "number=1"]);
    assert_eq!(
        (status.as_str(), told),
        ("403", format!("osaka.example/collector {DENIED}"))
    );
    let sentence = hokkaido.sentence("request_denied");
    assert!(sentence.contains("no rule in `methods`"), "{sentence}");
    for path in [
        "/v1/../admin",
        "/v1/%2e%2e/admin",
        "/v1//a",
        "/v1/..;/admin",
        "/v1/a%2Fb",
    ] {
        let (status, _) = curl(local, path, &[]);
        assert_eq!(status, "400", "{path}");
    }
    let second = format!("http://{local}/v2/records");
    let output = Command::new("curl")
        .args(["--silent", "--write-out", "%{http_code} %{num_connects} "])
        .args(["--output", "/dev/null", "--output", "/dev/null"])
        .args([&format!("http://{local}/v1/records"), &second])
        .output()
        .expect("curl runs");
    assert_eq!(said(&output), "200 1 200 0 ", "both over one connection");
    let explained =
        run(hokkaido.command(&["explain", "osaka.example/collector", "echo", "--site"]));
    assert!(
        said(&explained).contains("GET /v1/*, PUT /v1/echo"),
        "{}",
        said(&explained)
    );
}

#[test]
fn large_files_and_websockets_pass_unharmed() {
    let (hokkaido, _osaka, local) = sites(web_server(), METHODS);
    let (sent, got) = (hokkaido.path("sent"), hokkaido.path("got"));
    std::fs::write(&sent, pattern(50_000_000).as_slice()).expect("file");
    stdout_of(
        Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--fail",
                "--max-time",
                "120",
                "--upload-file",
            ])
            .arg(&sent)
            .arg("--output")
            .arg(&got)
            .arg(format!("http://{local}/v1/echo")),
    );
    assert!(hash(&sent) == hash(&got), "the bytes changed on the way");

    let mut stream = TcpStream::connect(local).expect("connected");
    let limit = Some(Duration::from_secs(30));
    stream.set_read_timeout(limit).expect("timeout");
    let ask = "GET /v1/live HTTP/1.1\r\nhost: echo\r\nconnection: Upgrade\r\nupgrade: \
               websocket\r\n\r\n";
    stream.write_all(ask.as_bytes()).expect("written");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a response");
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for word in [b"one", b"two"] {
        let mut got = [0; 3];
        stream.write_all(word).expect("written");
        stream.read_exact(&mut got).expect("read");
        assert_eq!(&got, word);
    }
}

#[test]
fn rego_decides_each_request_and_a_dead_backend_is_a_bad_gateway() {
    let backend = web_server();
    let (hokkaido, osaka, local) = sites(backend, METHODS);
    let rules = "package renkei.authz\n\nimport rego.v1\n\ndeny contains \"records are never \
                 deleted\" if input.operation.method == \"DELETE\"\n";
    std::fs::write(hokkaido.path("echo.rego"), rules).expect("policy");
    hokkaido.write(&web_service(
        &hokkaido,
        &osaka,
        backend,
        "policy: echo.rego",
    ));
    let applied = hokkaido.apply();
    assert!(applied.status.success(), "{}", said(&applied));
    let (status, _) = curl(local, "/v1/records", &["--data", "number=1"]);
    assert_eq!(status, "200", "without `methods` everything is allowed");
    let (status, told) = curl(local, "/v1/records", &["--request", "DELETE"]);
    assert_eq!(status, "403");
    assert!(told.ends_with("its policy denies that\n"), "{told}");
    let sentence = hokkaido.sentence("request_denied");
    assert!(sentence.contains("records are never deleted"), "{sentence}");
    hokkaido.write(&web_service(&hokkaido, &osaka, free_address(), METHODS));
    let applied = hokkaido.apply();
    assert!(applied.status.success(), "{}", said(&applied));
    let (status, told) = curl(local, "/v1/records", &[]);
    assert_eq!(status, "502");
    assert_eq!(told, "no backend of hokkaido.example/echo answers\n");
}

#[test]
fn curl_with_a_certificate_of_another_trust_domain_calls_the_gateway_itself() {
    let foreign = Foreign::new("curl.example");
    let mut hokkaido = Site::new("hokkaido");
    hokkaido.write(&format!(
        "{}services:\n  echo: {{protocol: http, backends: [{}], allow: [curl.example/caller], \
         methods: {{curl.example/caller: [GET]}}}}\n",
        foreign.peers(None),
        web_server()
    ));
    hokkaido.start();
    hokkaido.wait_linked();
    let identity = foreign.issue("caller");
    let (gateway, name) = (hokkaido.gateway, "echo.hokkaido.example");
    let ask = |method: &str| {
        // Its judgement of the server knows DNS names only.
        let mut command = Command::new("curl");
        command.args(["--silent", "--insecure", "--request", method, "--resolve"]);
        command.arg(format!("{name}:{}:{}", gateway.port(), gateway.ip()));
        command.args(["--write-out", " %{http_version} %{http_code}"]);
        command.args([Path::new("--cert"), &identity.certificate]);
        command.args([Path::new("--key"), &identity.key]);
        said(&run(
            command.arg(format!("https://{name}:{}/v1", gateway.port()))
        ))
    };
    let told = ask("GET");
    assert!(told.contains("spiffe://curl.example/caller"), "{told}");
    assert!(told.ends_with(" 1.1 200"), "{told}");
    let told = ask("DELETE");
    assert!(
        told.starts_with("curl.example/caller may not do DELETE /v1"),
        "{told}"
    );
    assert!(told.ends_with(" 1.1 403"), "{told}");
}
