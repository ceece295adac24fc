//! `renkei render`: configuration of other programs that follows from a site file.

pub(crate) mod nftables;
