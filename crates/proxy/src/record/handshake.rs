//! The handshake, made by rustls. Its unbuffered interface is the one whose key schedule can be
//! kept, for updates of the keys (`rustls::kernel`).

use std::{
    io,
    ops::{Deref, RangeInclusive},
    sync::Arc,
};

use rustls::{
    ClientConfig, CommonState, Error, ExtractedSecrets, ServerConfig, SupportedCipherSuite,
    client::{ClientConnectionData, UnbufferedClientConnection},
    kernel::KernelConnection,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError,
        UnbufferedConnectionCommon, UnbufferedStatus,
    },
};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    HEADER, RecordReader, RecordWriter, TlsStream, WHOLE, invalid, keys::TrafficKeys,
    opener::Opener, sealer::Sealer,
};

/// The types of the records of a handshake (RFC 8446 5.1), with the data behind it.
const TYPES: RangeInclusive<u8> = 20..=23;
/// Bytes that are read at once.
const READ: usize = 4 * 1024;
/// The most that waits to become whole: a message of 64 KiB, which rustls takes at most, and the
/// records around it.
const MOST: usize = 80 * 1024;

/// A connection whose handshake is done.
pub(crate) struct TlsConnection {
    reader: RecordReader,
    writer: RecordWriter,
    alpn: Option<Vec<u8>>,
    peer_certificates: Vec<CertificateDer<'static>>,
}

impl std::fmt::Debug for TlsConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsConnection")
            .field("alpn", &self.alpn)
            .finish_non_exhaustive()
    }
}

impl TlsConnection {
    /// The protocol that both ends agreed on (RFC 7301), if any.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// The chain that the peer presented.
    pub(crate) fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.peer_certificates
    }

    /// A stream of bytes.
    pub(crate) fn into_stream(self) -> TlsStream {
        TlsStream::new(self.reader, self.writer)
    }

    /// The halves, for a task that reads and one that writes.
    pub(crate) fn into_split(self) -> (RecordReader, RecordWriter) {
        (self.reader, self.writer)
    }
}

/// Why a handshake failed.
#[derive(Debug)]
pub(crate) struct HandshakeError {
    /// What the connection, the peer or rustls said.
    pub(crate) error: io::Error,
    /// The connection, on which an alert may be under way.
    pub(crate) tcp: TcpStream,
}

/// Makes the handshake of a caller.
pub(crate) async fn connect(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    tcp: TcpStream,
) -> Result<TlsConnection, HandshakeError> {
    match UnbufferedClientConnection::new(config, name) {
        Ok(tls) => Handshake::new(tls, &[]).run(tcp).await,
        Err(error) => Err(HandshakeError {
            error: invalid(error),
            tcp,
        }),
    }
}

/// Makes the handshake of a callee. `received` has come by `tcp` already.
pub(crate) async fn accept(
    config: Arc<ServerConfig>,
    received: &[u8],
    tcp: TcpStream,
) -> Result<TlsConnection, HandshakeError> {
    match UnbufferedServerConnection::new(config) {
        Ok(tls) => Handshake::new(tls, received).run(tcp).await,
        Err(error) => Err(HandshakeError {
            error: invalid(error),
            tcp,
        }),
    }
}

/// What a handshake needs of either end of rustls.
pub(super) trait Unbuffered: Deref<Target = UnbufferedConnectionCommon<Self::Data>> {
    type Data: Send + 'static;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn into_kernel(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), Error>;
}

impl Unbuffered for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn into_kernel(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), Error> {
        self.dangerous_into_kernel_connection()
    }
}

impl Unbuffered for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }

    fn into_kernel(self) -> Result<(ExtractedSecrets, KernelConnection<Self::Data>), Error> {
        self.dangerous_into_kernel_connection()
    }
}

/// What a handshake needs next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// What waits is to be sent.
    Send,
    /// The next record.
    Receive,
    /// Nothing: it is done.
    Done,
}

/// One handshake, without its socket.
pub(super) struct Handshake<T> {
    pub(super) tls: T,
    /// What has come.
    pub(super) incoming: Vec<u8>,
    /// How much of it rustls has been shown. It would open every record that it is shown: those
    /// behind the handshake are opened elsewhere, so it is shown one at a time.
    shown: usize,
    /// What is to be sent.
    pub(super) outgoing: Vec<u8>,
}

impl<T: Unbuffered> Handshake<T> {
    pub(super) fn new(tls: T, received: &[u8]) -> Self {
        Self {
            tls,
            incoming: received.to_vec(),
            shown: 0,
            outgoing: Vec::new(),
        }
    }

    async fn run(mut self, mut tcp: TcpStream) -> Result<TlsConnection, HandshakeError> {
        match self.carry(&mut tcp).await {
            Ok(()) => self.finish(tcp),
            Err(error) => Err(HandshakeError { error, tcp }),
        }
    }

    async fn carry(&mut self, tcp: &mut TcpStream) -> io::Result<()> {
        loop {
            match self.step() {
                Ok(Step::Send) => {
                    tcp.write_all(&self.outgoing).await?;
                    self.outgoing.clear();
                }
                Ok(Step::Receive) if self.show_next() => {}
                Ok(Step::Receive) => self.receive(tcp).await?,
                Ok(Step::Done) => return Ok(()),
                Err(error) => {
                    self.take_alert();
                    // A peer that does not hear of it sees the connection end.
                    let _ = tcp.write_all(&self.outgoing).await;
                    return Err(invalid(error));
                }
            }
        }
    }

    /// Lets rustls proceed as far as it can with what it has been shown.
    pub(super) fn step(&mut self) -> Result<Step, Error> {
        loop {
            let shown = self.incoming.get_mut(..self.shown).unwrap_or_default();
            let UnbufferedStatus { discard, state } = self.tls.process(shown);
            let step = match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, &mut self.outgoing).map(|()| None)
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    Ok(Some(Step::Send))
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => {
                    Ok(Some(Step::Receive))
                }
                // A close_notify before the end. Data is not shown before the end.
                Ok(_) => Err(Error::HandshakeNotComplete),
                Err(error) => Err(error),
            };
            let discard = discard.min(self.shown);
            self.incoming.drain(..discard);
            self.shown -= discard;
            match step? {
                Some(Step::Receive) if !self.tls.is_handshaking() => return Ok(Step::Done),
                Some(step) => return Ok(step),
                None => {}
            }
        }
    }

    /// Shows rustls one more record, if there is a whole one. What cannot be a record it is shown
    /// at once, and says what is wrong with it.
    pub(super) fn show_next(&mut self) -> bool {
        let rest = self.incoming.get(self.shown..).unwrap_or_default();
        let Some(&[typ, _, _, high, low]) = rest.first_chunk::<HEADER>() else {
            return false;
        };
        let length = HEADER + usize::from(u16::from_be_bytes([high, low]));
        if !TYPES.contains(&typ) || length > WHOLE {
            self.shown = self.incoming.len();
            return true;
        }
        let whole = rest.len() >= length;
        if whole {
            self.shown += length;
        }
        whole
    }

    async fn receive(&mut self, tcp: &mut TcpStream) -> io::Result<()> {
        if self.incoming.len() >= MOST {
            return Err(invalid(Error::PeerSentOversizedRecord));
        }
        self.incoming.reserve(READ);
        match tcp.read_buf(&mut self.incoming).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Takes what rustls has for the peer after an error: the alert.
    fn take_alert(&mut self) {
        while self.tls.wants_write() {
            let shown = self.incoming.get_mut(..self.shown).unwrap_or_default();
            let UnbufferedStatus { state, .. } = self.tls.process(shown);
            let Ok(ConnectionState::EncodeTlsData(mut alert)) = state else {
                break;
            };
            // Without it the peer sees the connection end.
            let _ = encode(&mut alert, &mut self.outgoing);
        }
    }

    fn finish(self, tcp: TcpStream) -> Result<TlsConnection, HandshakeError> {
        let state: &CommonState = &self.tls;
        let alpn = state.alpn_protocol().map(<[u8]>::to_vec);
        let chain = state.peer_certificates().unwrap_or_default();
        let peer_certificates = chain.iter().map(|one| one.clone().into_owned()).collect();
        match keys(self.tls) {
            Ok((sealer, opener)) => {
                let tcp = Arc::new(tcp);
                Ok(TlsConnection {
                    reader: RecordReader::new(tcp.clone(), opener, self.incoming),
                    writer: RecordWriter::new(tcp, sealer),
                    alpn,
                    peer_certificates,
                })
            }
            Err(error) => Err(HandshakeError {
                error: invalid(error),
                tcp,
            }),
        }
    }
}

/// Takes the keys out of a connection whose handshake is done.
pub(super) fn keys<T: Unbuffered>(tls: T) -> Result<(Sealer, Opener), Error> {
    let Some(SupportedCipherSuite::Tls13(suite)) = tls.negotiated_cipher_suite() else {
        return Err(Error::HandshakeNotComplete);
    };
    let (secrets, kernel) = tls.into_kernel()?;
    let keys = Arc::new(TrafficKeys::new(kernel, suite));
    let sealer = Sealer::new(&keys, secrets.tx)?;
    Ok((sealer, Opener::new(&keys, secrets.rx)?))
}

/// Appends what rustls has to send.
fn encode<D>(data: &mut EncodeTlsData<'_, D>, outgoing: &mut Vec<u8>) -> Result<(), Error> {
    let before = outgoing.len();
    let size = match data.encode(&mut []) {
        Ok(size) => size,
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
            required_size
        }
        Err(EncodeError::AlreadyEncoded) => 0,
    };
    outgoing.resize(before + size, 0);
    match data.encode(outgoing.get_mut(before..).unwrap_or_default()) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::General(error.to_string())),
    }
}
