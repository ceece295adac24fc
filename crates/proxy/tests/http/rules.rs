//! What rules see of a request, who is told what, and what a backend is told of its caller.

use super::raw::*;
use super::*;

const COLLECTOR: &str = "spiffe://osaka.example/collector";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_of_a_header_makes_a_caller_another_one() {
    let (address, mut got) = scripted(&[OK]).await;
    let lab = Lab::new(&[address]);
    let _sites = sites(&lab, ANY).await;
    let names = [
        "X.Renkei.Peer",
        "X!Renkei!Peer",
        "X~Renkei~Peer",
        "X'Renkei'Peer",
        "x_renkei_peer",
        "X-Renkei-Peer",
        "X-Forwarded-Client-Cert",
        "x_forwarded_client_cert",
        "Client-Cert",
        "SSL_CLIENT_S_DN",
        "X-Forwarded-Tls-Client-Cert-Info",
    ];
    for name in names {
        let request = format!("{ASK}{name}: spiffe://osaka.example/admin\r\n\r\n");
        exchange(&lab, request.as_bytes()).await;
        let got = within(got.recv()).await.unwrap();
        assert!(!got.contains("admin"), "{got}");
        assert!(
            got.contains(&format!("x-renkei-peer: {COLLECTOR}\r\n")),
            "{got}"
        );
    }
    // The same in trailers.
    let put = "PUT /v1/a HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntrailer: x.renkei.peer, x-kept\r\n\
               transfer-encoding: chunked\r\n\r\n0\r\nx.renkei.peer: admin\r\nx-kept: 1\r\n\r\n";
    exchange(&lab, put.as_bytes()).await;
    let got = within(got.recv()).await.unwrap();
    assert!(got.ends_with("0\r\nx-kept: 1\r\n\r\n"), "{got}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_is_told_the_callers_certificate_as_envoy_does() {
    let (address, mut got) = scripted(&[OK]).await;
    let lab = Lab::new(&[address]);
    let hokkaido = Node::start(&text(&lab, ANY), lab.hokkaido_identities()).await;
    let identities = lab.osaka_identities();
    let svid = identities.svids.values().next().unwrap().clone();
    let hash = hex::encode(Sha256::digest(svid.chain().first().unwrap()));
    let _osaka = Node::start(&lab.osaka_text(), identities).await;
    exchange(&lab, format!("{ASK}\r\n").as_bytes()).await;
    let told = within(got.recv()).await.unwrap();
    let expected = format!(
        "x-forwarded-client-cert: By=spiffe://hokkaido.example/broker;Hash={hash};URI={COLLECTOR}\r\n"
    );
    assert!(told.contains(&expected), "{told}\n{expected}");
    assert!(hokkaido.reasons().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_connect_is_told_so_in_http() {
    let (address, mut got) = scripted(&[OK]).await;
    let lab = Lab::new(&[address]);
    let nobody = text(&lab, "policy: none.rego").replace(ALLOW, "");
    let hokkaido = Node::start(&nobody, lab.hokkaido_identities()).await;
    let _osaka = lab.osaka().await;
    let put = "PUT /v1/a HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\ndata";
    for (kind, mut stream) in both(&lab).await {
        for request in [put, "GET / HTTP/1.1\r\nhost: a\r\n\r\n"] {
            // The second is not read.
            let _ = stream.write_all(request.as_bytes()).await;
        }
        stream.flush().await.unwrap();
        let (told, body) = response(&mut stream).await;
        assert!(told.starts_with("HTTP/1.1 403 "), "{kind}: {told}");
        assert!(told.contains("connection: close\r\n"), "{kind}: {told}");
        assert_eq!(
            body,
            "osaka.example/collector may not use hokkaido.example/broker: no rule allows that\n"
        );
        assert_ended(&mut stream).await;
    }
    assert_eq!(hokkaido.reasons(), ["not_allowed"; 2]);
    assert_eq!(hokkaido.open(), 0, "no flow");
    assert!(got.try_recv().is_err(), "nothing came to the backend");
    // With the right, the next connection has it.
    hokkaido.apply(&text(&lab, ANY)).await.unwrap();
    let answer = exchange(&lab, put.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_is_looked_at_only_where_a_rule_reads_it() {
    const PATHS: [&str; 7] = [
        "/v1//b",
        "/v1/a%2Fb",
        "/v1/a;b=1",
        "/v1/%25%32e%25%32e/",
        "/v1/%252e",
        "/v1/../a",
        "//v1",
    ];
    for (rules, status) in [
        ("response_timeout: 1m", "200"),
        (ANY, "200"),
        (
            "methods: {osaka.example/collector: [GET, PUT /v1/*]}",
            "200",
        ),
        ("methods: {osaka.example/collector: [GET /v1/*]}", "400"),
        ("methods: {osaka.example/collector: [PUT /v1/*]}", "403"),
    ] {
        let (address, mut got) = scripted(&[OK]).await;
        let lab = Lab::new(&[address]);
        let (hokkaido, _osaka) = sites(&lab, rules).await;
        for path in PATHS {
            let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
            let answer = exchange(&lab, request.as_bytes()).await;
            assert_eq!(answer.get(9..12), Some(status), "{rules} {path}: {answer}");
            match status {
                "200" => {
                    let got = within(got.recv()).await.unwrap();
                    assert!(
                        got.starts_with(&format!("GET {path} HTTP/1.1\r\n")),
                        "{got}"
                    );
                }
                "400" => {
                    assert_eq!(hokkaido.reasons().first(), Some(&"bad_request"));
                    assert!(answer.contains("\r\n\r\nthe path "), "{answer}");
                }
                _ => assert_eq!(hokkaido.reasons().first(), Some(&"request_denied")),
            }
        }
        assert!(got.try_recv().is_err(), "nothing else came to the backend");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_can_demand_a_host() {
    let rules = "methods: {osaka.example/collector: [GET //records.example/v1/*]}";
    let (address, mut got) = scripted(&[OK]).await;
    let lab = Lab::new(&[address]);
    let (hokkaido, _osaka) = sites(&lab, rules).await;
    for (headers, status) in [
        ("host: records.example", "200"),
        ("Host: Records.Example.:8080", "200"),
        ("host: admin.example", "403"),
        ("host: records.example.evil.example", "403"),
        ("host:", "403"),
        (
            "host: records.example\r\nx-forwarded-host: admin.example",
            "200",
        ),
        ("host: records.example\r\nh_ost: admin.example", "200"),
        (
            "host: records.example\r\nforwarded: host=admin.example",
            "200",
        ),
        ("host: records.example, admin.example", "400"),
        ("host: records.example@admin.example", "400"),
        ("host: records.example/admin.example", "400"),
        ("host: records.example\r\nhost: admin.example", "400"),
        ("x-no: host", "400"),
    ] {
        let request = format!("GET /v1/a HTTP/1.1\r\n{headers}\r\n\r\n");
        let answer = exchange(&lab, request.as_bytes()).await;
        assert_eq!(answer.get(9..12), Some(status), "{headers}: {answer}");
        if status == "200" {
            let got = within(got.recv()).await.unwrap();
            assert!(!got.contains("admin"), "{got}");
        }
    }
    assert!(got.try_recv().is_err(), "nothing else came to the backend");
    let sentence = hokkaido.refusal("request_denied").await;
    assert!(sentence.contains("GET /v1/a with host "), "{sentence}");
    // Where no rule reads the host, what a proxy before the caller says of it stays.
    hokkaido.apply(&text(&lab, ANY)).await.unwrap();
    let request = format!("{ASK}x-forwarded-host: www.example\r\n\r\n");
    exchange(&lab, request.as_bytes()).await;
    let got = within(got.recv()).await.unwrap();
    assert!(got.contains("x-forwarded-host: www.example\r\n"), "{got}");
}

#[tokio::test]
async fn what_is_no_request_is_answered_and_recorded() {
    let lab = Lab::new(&[records().await.0]);
    let (hokkaido, _osaka) = (impatient(&lab).await, lab.osaka().await);
    let large = format!("{ASK}x: {}\r\n\r\n", "y".repeat(70_000));
    for (bytes, status, reason, sentence) in [
        (
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..],
            "400",
            "other_protocol",
            "began with HTTP/2",
        ),
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            "400",
            "other_protocol",
            "began with a TLS handshake",
        ),
        (
            large.as_bytes(),
            "431",
            "head_too_large",
            "more than 64 KiB",
        ),
        (
            b"hello\r\n\r\n",
            "400",
            "bad_request",
            "no request of HTTP/1.1",
        ),
        (
            b"GET / HTTP/3.0\r\nhost: a\r\n\r\n",
            "400",
            "bad_request",
            "version",
        ),
        (
            b"GET / HTTP/1.1\r\nhost : a\r\n\r\n",
            "400",
            "bad_request",
            "header",
        ),
        (
            b"GET / HTTP/1.1\r\nho",
            "400",
            "request_aborted",
            "broke off the head",
        ),
    ] {
        let answer = exchange(&lab, bytes).await;
        assert!(answer.starts_with("HTTP/1.1 "), "{reason}: {answer}");
        assert_eq!(answer.get(9..12), Some(status), "{reason}: {answer}");
        eventually(sentence, || {
            let last = hokkaido.proxy.refusals().last();
            let told = last.iter().find(|last| last.sentence.contains(sentence))?;
            assert_eq!(told.reason, reason);
            assert!(told.sentence.starts_with("osaka.example/collector "));
            Some(())
        })
        .await;
    }
    // A head that does not come in time.
    let mut stream = lab.connect().await;
    stream.write_all(ASK.as_bytes()).await.unwrap();
    let (told, _) = pass_until(LIMIT / 4, response(&mut stream)).await;
    assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
    hokkaido.refusal("head_timeout").await;
    let counts = hokkaido.proxy.refusals().counts();
    assert_eq!(counts.iter().map(|count| count.count).sum::<u64>(), 8);
    // A connection that says nothing, or ends between two requests, is none of these.
    drop(lab.connect().await);
    exchange(&lab, format!("{ASK}\r\n").as_bytes()).await;
    let counts = hokkaido.proxy.refusals().counts();
    assert_eq!(counts.iter().map(|count| count.count).sum::<u64>(), 8);
}
