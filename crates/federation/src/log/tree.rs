//! The Merkle tree of the log (RFC 6962 section 2.1) and the files it is published in (C2SP
//! tlog-tiles). Who has replayed the log has every hash, so consistency with any earlier
//! checkpoint is a comparison of roots.

use std::{collections::BTreeMap, fmt, sync::Arc};

use tlog_tiles::{EMPTY_HASH, Error, Hash, HashReader, Tile};

use crate::envelope::MAX_ENVELOPE_BYTES;

/// Entries of a full bundle, and hashes of a full tile.
pub const WIDTH: u64 = 256;
const HEIGHT: u8 = 8;
/// The largest file of entries.
pub const MAX_BUNDLE_BYTES: usize = 256 * (2 + MAX_ENVELOPE_BYTES);

/// Size and root hash of a tree.
#[derive(Clone, Copy, PartialEq)]
pub struct Root {
    /// Number of entries below the hash.
    pub size: u64,
    /// The Merkle tree hash of all entries (RFC 6962 2.1).
    pub hash: Hash,
}

impl Eq for Root {}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} entries, {}", self.size, self.hash)
    }
}

/// A file of the log, by its path below the log's prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The path below the log's URL, for example `tile/entries/000.p/5`.
    pub path: String,
    /// The contents of the file.
    pub bytes: Vec<u8>,
}

/// The tree over the entries that were seen. A copy shares the hashes until one of both grows.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    size: u64,
    /// Every hash of a complete subtree, in the order of [`tlog_tiles::stored_hash_index`].
    hashes: Arc<Hashes>,
    /// The entries of bundles that are not full, or full and not in files yet, as in the files.
    open: BTreeMap<u64, Vec<u8>>,
    /// Up to where the files have been taken.
    in_files: u64,
}

#[derive(Debug, Clone, Default)]
struct Hashes(Vec<Hash>);

impl HashReader for Hashes {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        let read = |index: &u64| {
            let hash = usize::try_from(*index).ok().and_then(|at| self.0.get(at));
            hash.copied().ok_or(Error::IndexesNotInTree)
        };
        indexes.iter().map(read).collect()
    }
}

impl Tree {
    /// Number of entries appended so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds an entry. One that is too long for the format is not added.
    pub fn append(&mut self, entry: &[u8]) -> bool {
        let Ok(length) = u16::try_from(entry.len()) else {
            return false;
        };
        let Ok(hashes) = tlog_tiles::stored_hashes(self.size, entry, &*self.hashes) else {
            return false;
        };
        Arc::make_mut(&mut self.hashes).0.extend(hashes);
        let bundle = self.open.entry(self.size / WIDTH).or_default();
        bundle.extend(length.to_be_bytes());
        bundle.extend(entry);
        self.size += 1;
        true
    }

    /// The root of all that was seen.
    pub fn root(&self) -> Root {
        self.root_at(self.size).unwrap_or(Root {
            size: 0,
            hash: EMPTY_HASH,
        })
    }

    /// The root that the tree had when it had `size` entries.
    pub fn root_at(&self, size: u64) -> Option<Root> {
        if size > self.size {
            return None;
        }
        let hash = tlog_tiles::tree_hash(size, &*self.hashes).ok()?;
        Some(Root { size, hash })
    }

    /// The files that are new since the last call. Those whose names end in `.p/N` are for
    /// exactly this size of the tree.
    pub fn take_files(&mut self) -> Vec<File> {
        let mut files = Vec::new();
        for tile in Tile::new_tiles(HEIGHT, self.in_files, self.size) {
            let (level, index, width) = (tile.level(), tile.level_index(), tile.width());
            let name = numbered(index, u64::from(width));
            if let Ok(bytes) = tile.read_data(&*self.hashes) {
                let path = format!("tile/{level}/{name}");
                files.push(File { path, bytes });
            }
            if let (0, Some(bytes)) = (level, self.open.get(&index)) {
                let path = format!("tile/entries/{name}");
                let bytes = bytes.clone();
                files.push(File { path, bytes });
            }
        }
        self.in_files = self.size;
        let full = self.size / WIDTH;
        self.open.retain(|index, _| *index >= full);
        files
    }

    /// From here on the files of what is in the tree are known to be there.
    pub fn files_are_there(&mut self) {
        let _ = self.take_files();
    }
}

/// The path of the entries' file with this number in a log of `size` entries.
pub fn bundle_path(number: u64, size: u64) -> String {
    let width = size.saturating_sub(number * WIDTH).min(WIDTH);
    format!("tile/entries/{}", numbered(number, width))
}

/// tlog-tiles: three digits an element, all but the last with an `x`; `.p/W` when not full.
fn numbered(mut number: u64, width: u64) -> String {
    let mut name = format!("{:03}", number % 1_000);
    while number >= 1_000 {
        number /= 1_000;
        name = format!("x{:03}/{name}", number % 1_000);
    }
    match width {
        WIDTH => name,
        part => format!("{name}.p/{part}"),
    }
}

/// The entries of a file, or nothing when it is not one.
pub fn read_bundle(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry);
        bytes = rest;
    }
    (entries.len() <= 256).then_some(entries)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn grown(size: u64) -> Tree {
        let mut tree = Tree::default();
        for index in 0..size {
            assert!(tree.append(format!("entry {index}").as_bytes()));
        }
        tree
    }

    #[test]
    fn every_earlier_root_is_known() {
        let tree = grown(300);
        for size in [0, 1, 2, 3, 7, 255, 256, 257, 299] {
            assert_eq!(tree.root_at(size), Some(grown(size).root()), "{size}");
        }
        assert_eq!(tree.root_at(301), None);
        assert_eq!(grown(0).root().hash, EMPTY_HASH);
    }

    #[test]
    fn the_files_hold_every_entry_however_they_were_taken() {
        let mut tree = Tree::default();
        let mut files = BTreeMap::new();
        for index in 0..600 {
            tree.append(format!("entry {index}").as_bytes());
            if index % 7 == 0 || index == 599 {
                files.extend(tree.take_files().into_iter().map(|f| (f.path, f.bytes)));
            }
        }
        let mut index = 0;
        for number in 0..3 {
            let bundle = &files[&bundle_path(number, 600)];
            for entry in read_bundle(bundle).unwrap() {
                assert_eq!(entry, format!("entry {index}").as_bytes());
                index += 1;
            }
        }
        assert_eq!(index, 600);
        for name in [
            "tile/0/000",
            "tile/0/001",
            "tile/0/002.p/88",
            "tile/1/000.p/2",
        ] {
            assert!(files.contains_key(name), "no {name}");
        }
        assert_eq!(files["tile/0/000"].len(), 8_192);
        assert!(tree.open.len() == 1, "full bundles are let go");
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        assert_eq!(numbered(1_234_067, 256), "x001/x234/067");
        assert_eq!(numbered(273, 112), "273.p/112");
        assert_eq!(bundle_path(0, 5), "tile/entries/000.p/5");
        assert_eq!(bundle_path(1, 512), "tile/entries/001");
    }

    #[test]
    fn a_file_of_entries_is_read_within_its_bounds() {
        assert_eq!(read_bundle(&[]), Some(vec![]));
        assert_eq!(read_bundle(&[0, 1, 7]), Some(vec![&[7][..]]));
        assert_eq!(read_bundle(&[0]), None);
        assert_eq!(read_bundle(&[0, 9, 1]), None);
        assert_eq!(read_bundle(&[0; 2 * 257]), None);
        assert!(!Tree::default().append(&[0; 65_536]));
    }
}
