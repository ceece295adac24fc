//! Errors by blame: the peer misbehaved ([`Violation`]), a lane is not wanted ([`LaneRefusal`]), or
//! our own side asked for what cannot be ([`OpenError`], [`StreamError`], [`LaneError`]).

use crate::id::Code;

/// The peer broke the protocol. It closes the trunk: its other end is not who it should be, or
/// has lost its way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A frame type this version does not have.
    #[error("the peer sent a frame of unknown type {0:#04x}")]
    UnknownFrame(u8),
    /// A frame shorter or longer than its type allows.
    #[error("the peer sent a frame of type {kind:#04x} with a length of {length}")]
    FrameLength {
        /// The frame's type.
        kind: u8,
        /// The length it announced.
        length: usize,
    },
    /// The first frame of a lane is a HELLO; no other is.
    #[error("the peer sent a HELLO where none belongs, or none where one belongs")]
    Greeting,
    /// The HELLO announces limits that no end may announce.
    #[error("the peer announced limits out of bounds")]
    TrunkLimits,
    /// The answer to a HELLO names another trunk or lane.
    #[error("the peer answered for another trunk or lane")]
    Answer,
    /// A frame for a stream that was not opened.
    #[error("the peer named stream {0}, which was never opened")]
    UnknownStream(u64),
    /// More streams than granted.
    #[error("the peer opened stream {0} without leave")]
    StreamLimit(u64),
    /// A frame that only the other side of a stream may send.
    #[error("the peer answered its own stream {0}")]
    WrongSide(u64),
    /// Bytes beyond the stream's window.
    #[error("the peer sent beyond the window of stream {0}")]
    StreamWindow(u64),
    /// Bytes beyond the window of all streams together.
    #[error("the peer sent beyond the window of the trunk")]
    TrunkWindow,
    /// Two ends of one stream, or bytes behind its end.
    #[error("the peer contradicted itself about the length of stream {0}")]
    FinalSize(u64),
    /// An acknowledgement of bytes or frames that were not sent.
    #[error("the peer acknowledged what was never sent")]
    AckOfUnsent,
    /// Too many separate pieces, each of which costs memory.
    #[error("the peer sent its bytes in too many separate pieces")]
    Fragments,
    /// The peer lets too many frames wait for its answer.
    #[error("the peer does not take the frames that steer the trunk")]
    Unanswered,
    /// A lane went on after it was closed.
    #[error("the peer went on sending on a lane that it had closed")]
    AfterLaneClose,
}

/// Why a lane is not taken. It travels to the dialer in the REFUSED frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaneRefusal {
    /// The dialer speaks another version.
    #[error("the peer speaks version {theirs} of the trunk protocol, this side version {ours}")]
    Version {
        /// The version of the end that refused (or was refused).
        ours: u8,
        /// The version of its peer.
        theirs: u8,
    },
    /// Another identity than that of the trunk's first lane.
    #[error("the lane's peer is not the peer of the trunk's first lane")]
    Identity,
    /// A lane for a trunk that this end does not know, or has given up.
    #[error("the trunk is not known here: its grace time is over, or this end was restarted")]
    UnknownTrunk,
    /// More lanes than this end takes.
    #[error("the trunk has as many lanes as this end takes")]
    TooManyLanes,
    /// The number of a lane that lives.
    #[error("the trunk has a lane of that number already")]
    LaneInUse,
    /// Not a HELLO, or one out of bounds.
    #[error("the first frame of the lane is not a greeting of this protocol")]
    Malformed,
    /// A reason this version does not know.
    #[error("refused with the unknown code {0}")]
    Unknown(u8),
}

/// Why no stream was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The trunk is closed.
    #[error("the trunk is closed")]
    Closed,
    /// One of the ends takes no new streams.
    #[error("the trunk is going away")]
    GoingAway,
    /// The peer allows no more at the moment; [`Event::StreamsAvailable`](crate::Event) says when.
    #[error("the trunk carries as many streams as the peer allows")]
    StreamLimit,
    /// The target text is too long.
    #[error("a stream's target has at most {} bytes", crate::MAX_TARGET)]
    TargetTooLong,
}

/// A stream cannot do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// It never was, or both its directions have ended.
    #[error("there is no such stream")]
    Unknown,
    /// This direction has ended.
    #[error("this direction of the stream has ended")]
    Ended,
}

/// A lane cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    /// The trunk is closed.
    #[error("the trunk is closed")]
    Closed,
    /// The other end opens the lanes.
    #[error("only the dialing end opens lanes")]
    NotDialer,
    /// The other end refused the lane.
    #[error(transparent)]
    Refused(#[from] LaneRefusal),
}

/// Why a trunk is over. All its streams have been reset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// No lane came back within the grace time.
    #[error("every lane was lost and none came back within the grace time")]
    Lost,
    /// The other end does not know the trunk any more.
    #[error("the other end has forgotten the trunk")]
    Forgotten,
    /// The other end does not take its lanes.
    #[error("the other end refused: {0}")]
    Refused(LaneRefusal),
    /// The other end closed it.
    #[error("the other end closed the trunk with code {code}: {text}")]
    Peer {
        /// The code on the wire.
        code: Code,
        /// Its words, without control characters.
        text: String,
    },
    /// The other end broke the protocol.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// This end closed it.
    #[error("closed by this end with code {0}")]
    Local(Code),
}
