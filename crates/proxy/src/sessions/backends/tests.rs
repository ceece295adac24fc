use renkei_testkit::{Silent, free_address};
use tokio::net::TcpListener;

use super::*;
use crate::testing::{pass, settle, within};

fn services(text: &str) -> BTreeMap<String, Service> {
    let head = "site: hokkaido\ntrust_domain: hokkaido.example\n\
                gateway: {listen: '127.0.0.1:1', advertise: '127.0.0.1:1'}\nservices:\n";
    let site = renkei_site::parse("site.yaml", &format!("{head}{text}")).unwrap();
    site.proxy_part(1, Default::default()).services
}

async fn listeners() -> [TcpListener; 2] {
    let bind = || TcpListener::bind("127.0.0.1:0");
    [bind().await.unwrap(), bind().await.unwrap()]
}

fn address(listener: &TcpListener) -> String {
    listener.local_addr().unwrap().to_string()
}

/// Lets it do what it can do now.
async fn not_yet<T>(what: &mut (impl Future<Output = T> + Unpin)) {
    tokio::select! {
        biased;
        _ = what => panic!("it is there"),
        () = settle() => {}
    }
}

fn connections(backends: &Backends) -> Vec<u64> {
    let status = backends.status();
    status.iter().map(|backend| backend.connections).collect()
}

#[tokio::test]
async fn each_service_has_a_turn_of_its_own() {
    let [one, other] = listeners().await;
    let all = format!("[{}, {}]", address(&one), address(&other));
    let text = format!(
        "  store: {{backends: {all}, allow: [web]}}\n  queue: {{backends: {all}, allow: [web]}}\n"
    );
    let services = services(&text);
    let backends = Backends::new(Duration::from_secs(60));
    backends.follow(&services);
    for _ in 0..4 {
        for service in services.values() {
            let connected = backends.connect(service, OnClose::Reset);
            within(connected).await.expect("connected");
        }
    }
    assert_eq!(connections(&backends), [2, 2, 2, 2]);
}

/// Whoever gives up before the timeout has learnt as much as one that waits for it.
#[tokio::test]
async fn a_silent_backend_that_is_given_up_is_known_to_be_down() {
    let (silent, [up, _]) = (Silent::start(), listeners().await);
    let text = format!(
        "  store: {{backends: ['{}', {}], allow: [web]}}\n",
        silent.address,
        address(&up)
    );
    let services = services(&text);
    let service = services.get("store").unwrap();
    let backends = Backends::new(Duration::from_secs(3_600));
    backends.follow(&services);
    {
        let waiting = backends.connect(service, OnClose::Reset);
        tokio::pin!(waiting);
        not_yet(&mut waiting).await;
        pass(Duration::from_secs(2)).await;
    }
    let status = backends.status();
    assert_eq!(
        status[0].last_error.as_deref(),
        Some("no answer within 2 s")
    );
    for _ in 0..3 {
        let connected = backends.connect(service, OnClose::Reset);
        within(connected).await.expect("connected");
    }
    assert_eq!(connections(&backends), [0, 3]);
}

#[tokio::test]
async fn with_all_silent_one_connection_waits_and_others_are_told_at_once() {
    let silent = Silent::start();
    let text = format!(
        "  store: {{backends: ['{}'], allow: [web]}}\n",
        silent.address
    );
    let services = services(&text);
    let service = services.get("store").unwrap();
    let backends = Backends::new(Duration::from_secs(3_600));
    backends.follow(&services);
    let connect = || backends.connect(service, OnClose::Reset);
    let told = async |what: &str| {
        let down = within(connect()).await.expect_err("down");
        assert!(down.is_silent());
        assert_eq!(
            down.to_string(),
            format!("no backend of store answers: {}: {what}", silent.address)
        );
    };
    let first = async {
        let down = connect().await.expect_err("down");
        assert!(down.is_silent());
    };
    {
        tokio::pin!(first);
        not_yet(&mut first).await;
        pass(Duration::from_secs(3_601)).await;
        first.await;
    }
    let waiting = connect();
    tokio::pin!(waiting);
    not_yet(&mut waiting).await;
    told("no answer within 3600 s").await;
}

#[tokio::test]
async fn what_this_process_is_short_of_is_no_fault_of_a_backend() {
    let shortage = ConnectError::System(std::io::Error::from_raw_os_error(24));
    assert!(shortage.is_local(), "EMFILE");
    let address = BackendAddress::Tcp(free_address().into());
    let refused = connect_backend(&address, Duration::from_secs(60), OnClose::Reset).await;
    assert!(!refused.expect_err("refused").is_local());
}
