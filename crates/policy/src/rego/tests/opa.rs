//! The real OPA, as a server on a unix socket: the answers to compare with.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value as Json, json};

/// A running OPA; it ends with this.
pub(super) struct Opa {
    child: Child,
    folder: PathBuf,
}

/// What OPA says of the package of a policy.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// It does not load.
    Refused(String),
    /// The values of its rules, without those that are undefined; `None` for an error.
    Rules(Option<Json>),
    /// A fault of OPA itself, which happens with some orders of statements.
    Fault,
}

impl Opa {
    pub(super) fn start() -> Self {
        let program = renkei_testkit::program("RENKEI_OPA");
        let thread = format!("{:?}", std::thread::current().id());
        let number: String = thread.chars().filter(char::is_ascii_digit).collect();
        let folder =
            std::env::temp_dir().join(format!("renkei-opa-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let socket = format!("unix://{}", folder.join("opa.sock").display());
        let child = Command::new(program)
            .args([
                "run",
                "--server",
                "--log-level",
                "error",
                "--disable-telemetry",
                "--addr",
            ])
            .arg(socket)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut opa = Self { child, folder };
        while UnixStream::connect(opa.socket()).is_err() {
            assert!(opa.child.try_wait().unwrap().is_none(), "OPA ended");
            std::thread::sleep(Duration::from_millis(20));
        }
        opa
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("opa.sock")
    }

    /// Loads a policy, asks it for each input, and drops it.
    pub(super) fn ask(&self, text: &str, inputs: &[Json]) -> Vec<Answer> {
        let (status, body) = self.call("PUT", "/v1/policies/p", "text/plain", text);
        if status != 200 {
            return vec![Answer::Refused(body); inputs.len()];
        }
        let answers = inputs.iter().map(|input| self.rules(input)).collect();
        let (status, body) = self.call("DELETE", "/v1/policies/p", "text/plain", "");
        assert_eq!(status, 200, "{body}");
        answers
    }

    fn rules(&self, input: &Json) -> Answer {
        let question = json!({ "input": input }).to_string();
        let (status, body) = self.call(
            "POST",
            "/v1/data/renkei/authz",
            "application/json",
            &question,
        );
        if body.contains("eval_internal_error") {
            return Answer::Fault;
        }
        if status != 200 {
            return Answer::Rules(None);
        }
        let body: Json = serde_json::from_str(&body).unwrap();
        Answer::Rules(Some(body.get("result").cloned().unwrap_or(json!({}))))
    }

    fn call(&self, method: &str, path: &str, kind: &str, body: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: opa\r\nconnection: close\r\ncontent-type: {kind}\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = match head
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked")
        {
            true => unchunked(body),
            false => body.to_owned(),
        };
        (status, body)
    }
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).unwrap();
        body.push_str(&after[..length]);
        rest = after[length..].trim_start_matches("\r\n");
        if length == 0 {
            break;
        }
    }
    body
}

impl Drop for Opa {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
