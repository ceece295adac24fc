//! Programs that run with Renkei in a test: started, waited for, and always ended.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::FileExt,
    path::Path,
    process::{Command, Stdio},
    sync::{LazyLock, Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

type Start = (String, Command, mpsc::Sender<Child>);

/// A child process that is killed when it goes out of scope. Its output is kept.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: std::process::Child,
    output: std::fs::File,
}

impl Child {
    /// Starts the command with its output and errors kept in one place.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let output = tempfile::tempfile().expect("temporary file");
        let errors = Stdio::from(output.try_clone().expect("file handle"));
        Self::start_into(name, command, output, errors)
    }

    /// The same with its errors sent elsewhere.
    pub fn start_with_errors(name: &str, command: &mut Command, errors: Stdio) -> Self {
        let output = tempfile::tempfile().expect("temporary file");
        Self::start_into(name, command, output, errors)
    }

    fn start_into(name: &str, command: &mut Command, output: std::fs::File, errors: Stdio) -> Self {
        let process = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("file handle"))
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self {
            name: name.to_owned(),
            process,
            output,
        }
    }

    /// Starts the command so that the kernel kills it with this program, even when that is killed
    /// itself. Any thread may start it and drop it.
    pub fn start_bound(name: &str, command: Command) -> Self {
        // The kernel acts at the end of the thread that started it, so that is one which stays.
        static STARTER: LazyLock<mpsc::Sender<Start>> = LazyLock::new(|| {
            let (sender, starts) = mpsc::channel::<Start>();
            std::thread::spawn(move || {
                for (name, mut command, done) in starts {
                    let _ = done.send(Child::start(&name, &mut command));
                }
            });
            sender
        });
        let mut bound = Command::new("setpriv");
        bound
            .args(["--pdeathsig", "KILL", "--"])
            .arg(command.get_program())
            .args(command.get_args());
        let (done, started) = mpsc::channel();
        let start = (name.to_owned(), bound, done);
        STARTER.send(start).expect("the thread stays");
        started.recv().expect("setpriv runs")
    }

    /// The process ID.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Everything printed up to here.
    pub fn output(&self) -> String {
        let (mut text, mut part) = (Vec::new(), [0; 8192]);
        // The process shares the position of this file: moved for a read, it would write there.
        loop {
            let offset = text.len() as u64;
            match self.output.read_at(&mut part, offset).expect("read output") {
                0 => return String::from_utf8_lossy(&text).into_owned(),
                read => text.extend_from_slice(&part[..read]),
            }
        }
    }

    /// Sends a signal by its name, such as `TERM` or `HUP`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success(), "no signal {name} to {}", self.name);
    }

    /// Waits for the end; panics with the output when it does not come in time.
    pub fn wait(&mut self, limit: Duration) -> std::process::ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("wait") {
                return status;
            }
            assert!(
                start.elapsed() < limit,
                "{} does not end in {limit:?}; its output:\n{}",
                self.name,
                self.output()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("wait").is_none()
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- output of {} ---\n{}", self.name, self.output());
        }
    }
}

/// A command as it runs in a network namespace, which is named as a file.
pub fn in_namespace(namespace: &Path, command: &Command) -> Command {
    let mut entered = Command::new("nsenter");
    entered.arg(format!("--net={}", namespace.display()));
    entered.arg("--").arg(command.get_program());
    entered.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => entered.env(name, value),
            None => entered.env_remove(name),
        };
    }
    entered
}

/// A loopback address that stays free for the test that asked: no other is given its port while
/// this program runs.
pub fn free_address() -> SocketAddr {
    free_address_on("127.0.0.1")
}

/// A free port on a certain loopback address.
///
/// A socket is bound to it and does not listen, so connections to it are refused. The kernel gives
/// no such port to a program that asks for any port. A listener that asks for this one gets it with
/// SO_REUSEADDR, which listeners of the standard library and of tokio set (socket(7)).
pub fn free_address_on(ip: &str) -> SocketAddr {
    /// They are held to the end of the program.
    static HELD: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    let reserve = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        let ip: Ipv4Addr = ip.parse().map_err(io::Error::other)?;
        socket.bind(&SocketAddr::from((ip, 0)).into())?;
        let address = socket.local_addr()?.as_socket();
        HELD.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(socket);
        address.ok_or_else(|| io::Error::other("no address"))
    };
    reserve().expect("a free loopback port")
}

/// Polls until `condition` gives a value; panics with `what` after `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            start.elapsed() < limit,
            "waited {limit:?} in vain for: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn output_that_is_read_while_it_is_written_stays_whole() {
        let mut lines = Command::new("sh");
        lines.args(["-c", "for i in $(seq 3000); do echo $i; done"]);
        let mut child = Child::start("lines", &mut lines);
        while child.is_running() {
            child.output();
        }
        let expected: String = (1..=3000).map(|i| format!("{i}\n")).collect();
        assert_eq!(child.output(), expected);
    }

    #[test]
    fn a_free_address_is_given_to_nobody_else_and_can_be_listened_on() {
        let address = free_address();
        assert!(TcpStream::connect(address).is_err(), "no listener");
        // As many as use up what would be given by chance, with outgoing connections among them.
        let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
        let target = listener.local_addr().expect("address");
        let mut ports = BTreeSet::new();
        let mut open = Vec::new();
        for _ in 0..150 {
            let any = TcpListener::bind("127.0.0.1:0").expect("listener");
            ports.insert(any.local_addr().expect("address").port());
            let stream = TcpStream::connect(target).expect("connected");
            ports.insert(stream.local_addr().expect("address").port());
            open.push((any, stream, listener.accept().expect("accepted")));
        }
        assert!(!ports.contains(&address.port()));
        for _ in 0..2 {
            let listening = TcpListener::bind(address).expect("listener");
            TcpStream::connect(address).expect("connected");
            drop(listening);
        }
    }
}
