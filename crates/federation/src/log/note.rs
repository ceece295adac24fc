//! Signed notes (C2SP signed-note): a text, an empty line, and signature lines.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{PublicKey, key::sha256};

/// The largest note that is read: a checkpoint with a thousand cosignatures has 200 kB.
pub const MAX_NOTE_BYTES: usize = 512 * 1024;
const MAX_SIGNATURES: usize = 2_000;

/// Why bytes are not a signed note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The note has more than [`MAX_NOTE_BYTES`] bytes.
    #[error("the note has {0} bytes; at most {MAX_NOTE_BYTES} are read")]
    TooLarge(usize),
    /// Not of the form of a note.
    #[error("this is not a signed note (C2SP signed-note)")]
    Malformed,
}

/// How a signature was made; the byte takes part in the key's ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// Ed25519 over the text.
    Ed25519 = 1,
    /// Ed25519 over the text and a time (C2SP tlog-cosignature).
    CosignatureV1 = 4,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) id: [u8; 4],
    pub(super) signature: Vec<u8>,
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix("— ")?.split_once(' ')?;
        let bytes = STANDARD.decode(encoded).ok()?;
        let (id, signature) = bytes.split_first_chunk::<4>()?;
        let named = !name.is_empty() && !name.contains('+') && !name.contains(char::is_whitespace);
        (named && !signature.is_empty()).then(|| Self {
            name: name.to_owned(),
            id: *id,
            signature: signature.to_vec(),
        })
    }

    fn write(&self, to: &mut String) {
        let bytes = [&self.id, self.signature.as_slice()].concat();
        to.push_str(&format!("— {} {}\n", self.name, STANDARD.encode(bytes)));
    }
}

/// A text and signatures over it, none of them verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    /// Ends with a line end.
    pub(super) text: String,
    pub(super) lines: Vec<Line>,
}

impl Note {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLarge(bytes.len()));
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::Malformed)?;
        if note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::Malformed);
        }
        let (text, lines) = note.rsplit_once("\n\n").ok_or(NoteError::Malformed)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Malformed)?;
        let lines: Option<Vec<Line>> = lines
            .split('\n')
            .take(MAX_SIGNATURES + 1)
            .map(Line::parse)
            .collect();
        match lines {
            Some(lines) if lines.len() <= MAX_SIGNATURES => Ok(Self {
                text: format!("{text}\n"),
                lines,
            }),
            _ => Err(NoteError::Malformed),
        }
    }

    pub(super) fn write(&self) -> String {
        let mut note = format!("{}\n", self.text);
        for line in &self.lines {
            line.write(&mut note);
        }
        note
    }
}

/// SHA-256(name || "\n" || algorithm || key), its first four bytes.
pub(super) fn key_id(name: &str, algorithm: Algorithm, key: &PublicKey) -> [u8; 4] {
    let kind = [b'\n', algorithm as u8];
    let [a, b, c, d, ..] = sha256(&[name.as_bytes(), &kind, key.as_bytes()]);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_verifies() {
        // C2SP signed-note, "PeterNeumann".
        let note = "If you think cryptography is the answer to your problem,\nthen you don't know \
                    what your problem is.\n\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8p\
                    AcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let encoded = "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let bytes = STANDARD.decode(encoded).unwrap();
        let (algorithm, key) = bytes.split_first().unwrap();
        assert_eq!(*algorithm, Algorithm::Ed25519 as u8);
        let key = PublicKey::from_bytes(key.try_into().unwrap());
        let read = Note::parse(note.as_bytes()).unwrap();
        let line = &read.lines[0];
        let id = key_id("PeterNeumann", Algorithm::Ed25519, &key);
        assert_eq!(id, [0xc7, 0x4f, 0x20, 0xa3]);
        assert_eq!(line.id, id);
        assert!(key.verifies(read.text.as_bytes(), &line.signature));
        assert_eq!(read.write(), note);
    }
}
