use std::{io::Read, io::Write, sync::Arc};

use renkei_spiffe::{
    Bundle, BundleSet, ClientSide, PrivateKey, ServerSide, SpiffeId, TrustDomain, X509Svid,
    client_side, server_side,
};
use renkei_testkit::TestAuthority;
use rustls::{
    ClientConnection, ConnectionCommon, ServerConnection, SideData,
    client::UnbufferedClientConnection,
    crypto::{CryptoProvider, aws_lc_rs},
    server::UnbufferedServerConnection,
};

use super::{
    handshake::{Handshake, Step, Unbuffered, keys},
    opener::{Opened, Opener},
    sealer::Sealer,
    *,
};

mod key_update;
mod records;
mod stream;

const NAME: &str = "both.osaka.example";

/// The configurations of a caller and a callee with one SVID.
fn sides(provider: CryptoProvider) -> (ClientSide, ServerSide) {
    let provider = Arc::new(provider);
    let authority = TestAuthority::new("osaka.example");
    let mut bundle = Bundle::empty(TrustDomain::parse("osaka.example").unwrap());
    bundle.x509_authorities.push(authority.certificate());
    let bundles: Arc<BundleSet> = Arc::new([Arc::new(bundle)].into_iter().collect());
    let issued = authority.issue("/both");
    let key = PrivateKey::from_pkcs8(issued.key_pkcs8);
    let svid = X509Svid::new(issued.chain, key).unwrap();
    let both = Arc::new(SpiffeId::parse("spiffe://osaka.example/both").unwrap());
    let callee = server_side(&provider, &svid, bundles.clone(), both.clone(), &[]).unwrap();
    let caller = client_side(&provider, &svid, bundles, both, &[]).unwrap();
    (caller, callee)
}

/// One end of a connection in memory, up to the end of its handshake.
trait End {
    /// Takes what the other end has sent; gives what it sends.
    fn advance(&mut self, input: &[u8]) -> Vec<u8>;
    fn is_done(&self) -> bool;
}

impl<Data: SideData> End for ConnectionCommon<Data> {
    fn advance(&mut self, mut input: &[u8]) -> Vec<u8> {
        while !input.is_empty() {
            self.read_tls(&mut input).unwrap();
            self.process_new_packets().unwrap();
        }
        written(self)
    }

    fn is_done(&self) -> bool {
        !self.is_handshaking()
    }
}

impl<T: Unbuffered> End for Handshake<T> {
    fn advance(&mut self, input: &[u8]) -> Vec<u8> {
        self.incoming.extend_from_slice(input);
        loop {
            match self.step().unwrap() {
                Step::Send => {}
                Step::Receive if self.show_next() => {}
                Step::Receive | Step::Done => return std::mem::take(&mut self.outgoing),
            }
        }
    }

    fn is_done(&self) -> bool {
        !self.tls.is_handshaking()
    }
}

fn shake_hands(client: &mut impl End, server: &mut impl End) {
    let mut to_client = Vec::new();
    while !(client.is_done() && server.is_done()) {
        let to_server = client.advance(&to_client);
        to_client = server.advance(&to_server);
    }
    assert!(to_client.is_empty(), "nothing is under way");
}

/// What a connection of rustls has to send.
fn written<Data>(connection: &mut ConnectionCommon<Data>) -> Vec<u8> {
    let mut wire = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut wire).unwrap();
    }
    wire
}

/// What a connection of rustls reads out of these records.
fn read_by<Data: SideData>(connection: &mut ConnectionCommon<Data>, mut wire: &[u8]) -> Vec<u8> {
    let mut got = Vec::new();
    while !wire.is_empty() {
        connection.read_tls(&mut wire).unwrap();
        let state = connection.process_new_packets().unwrap();
        let mut part = vec![0; state.plaintext_bytes_to_read()];
        connection.reader().read_exact(&mut part).unwrap();
        got.extend(part);
    }
    got
}

fn ours<T: Unbuffered>(handshake: Handshake<T>) -> (Sealer, Opener) {
    assert!(handshake.incoming.is_empty(), "nothing is left");
    keys(handshake.tls).unwrap()
}

fn client(side: &ClientSide) -> Handshake<UnbufferedClientConnection> {
    let name = NAME.try_into().unwrap();
    let tls = UnbufferedClientConnection::new(side.config.clone(), name).unwrap();
    Handshake::new(tls, &[])
}

fn server(side: &ServerSide) -> Handshake<UnbufferedServerConnection> {
    let tls = UnbufferedServerConnection::new(side.config.clone()).unwrap();
    Handshake::new(tls, &[])
}

/// A caller of ours, and a callee that is all rustls's.
fn to_rustls() -> ((Sealer, Opener), ServerConnection) {
    let (caller, callee) = sides(aws_lc_rs::default_provider());
    let mut client = client(&caller);
    let mut server = ServerConnection::new(callee.config).unwrap();
    shake_hands(&mut client, &mut *server);
    (ours(client), server)
}

/// The other way round.
fn from_rustls() -> (ClientConnection, (Sealer, Opener)) {
    let (caller, callee) = sides(aws_lc_rs::default_provider());
    let name = NAME.try_into().unwrap();
    let mut client = ClientConnection::new(caller.config, name).unwrap();
    let mut server = server(&callee);
    shake_hands(&mut *client, &mut server);
    (client, ours(server))
}

/// Both ends of ours.
fn both_with(provider: CryptoProvider) -> ((Sealer, Opener), (Sealer, Opener)) {
    let (caller, callee) = sides(provider);
    let (mut client, mut server) = (client(&caller), server(&callee));
    shake_hands(&mut client, &mut server);
    (ours(client), ours(server))
}

fn both() -> ((Sealer, Opener), (Sealer, Opener)) {
    both_with(aws_lc_rs::default_provider())
}

/// The records of one piece of data.
fn seal(sealer: &mut Sealer, data: &[u8]) -> Vec<Vec<u8>> {
    let mut records = std::collections::VecDeque::new();
    sealer.seal(&[data], &mut records).unwrap();
    records.into()
}

/// What is opened, up to the end of `wire`.
fn open(opener: &mut Opener, mut wire: Vec<u8>) -> Result<Vec<u8>, rustls::Error> {
    let (mut got, mut at) = (Vec::new(), 0);
    loop {
        match opener.open(&mut wire[at..])? {
            Opened::Incomplete => {
                assert_eq!(at, wire.len(), "whole records");
                return Ok(got);
            }
            Opened::Record { length, data } => {
                got.extend_from_slice(&wire[at..][data]);
                at += length;
            }
            Opened::Closed => panic!("closed"),
        }
    }
}
