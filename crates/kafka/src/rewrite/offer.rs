//! The offer of ApiVersions: which requests, in which versions, and which features of the cluster.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Answer, Endpoints, Fault, Splice};
use crate::{
    cutter::LENGTH,
    form::writer::with_length,
    wire::{Reader, WireFault, put_array},
};

/// What ApiVersions may be answered with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer {
    /// Which versions of a request are carried, if any.
    pub(crate) versions: fn(i16) -> Option<(i16, i16)>,
    /// Whether a feature of the cluster is carried.
    pub(crate) feature: fn(&[u8]) -> bool,
}

impl Answer {
    /// KIP-511: a broker that does not know the version answers in version 0. Some answer in the
    /// version that they were asked for, or with nothing but the error.
    pub(super) fn refused_api_versions(
        self,
        frame: &[u8],
        endpoints: &mut dyn Endpoints,
        offer: Offer,
    ) -> Result<Bytes, Fault> {
        if let Ok(answer) = Self::FutureApiVersions.splice(frame, endpoints, offer) {
            return Ok(answer);
        }
        let mut splice = Splice::new(frame, self.flexible(), endpoints);
        splice.reader.take(LENGTH + 4)?;
        if let Self::ApiVersions(version) = self
            && splice.api_versions(version, offer).is_ok()
        {
            return Ok(with_length(splice.finish())?);
        }
        let mut bare = BytesMut::from(frame.get(..LENGTH + 4 + 2).unwrap_or_default());
        bare.put_i32(0);
        Ok(with_length(bare)?)
    }
}

/// The error code that an ApiVersions answer begins with in every version.
pub(super) fn error_code(frame: &[u8]) -> Result<i16, WireFault> {
    let mut answer = Reader::new(frame, false);
    answer.take(LENGTH + 4)?;
    answer.i16()
}

impl Splice<'_, '_> {
    /// The header of an ApiVersions answer has no tagged fields in any version.
    pub(super) fn api_versions(&mut self, version: i16, offer: Offer) -> Result<(), Fault> {
        self.reader.i16()?; // error code
        self.offer(offer)?;
        if version < 3 {
            return Ok(());
        }
        self.reader.i32()?; // throttle time
        for _ in 0..self.reader.uvarint()? {
            let start = self.reader.at();
            // What brokers support, and what the cluster has agreed on.
            if let (tag @ (0 | 2), features) = self.reader.tag()? {
                let features = carried_features(features, offer)?;
                self.replace_tag(start, tag, &features)?;
            }
        }
        Ok(())
    }

    /// Cuts the list of requests down to those that are carried, in versions that are carried.
    pub(super) fn offer(&mut self, offer: Offer) -> Result<(), Fault> {
        self.copy_to(self.reader.at());
        let mut offered = BytesMut::new();
        let mut count = 0;
        for _ in 0..self.reader.array()? {
            let (key, min) = (self.reader.i16()?, self.reader.i16()?);
            let max = self.reader.i16()?;
            let tags = self.reader.at();
            self.reader.skip_tags()?;
            let known = (offer.versions)(key).map(|(least, most)| (min.max(least), max.min(most)));
            if let Some((min, max)) = known.filter(|(min, max)| min <= max) {
                count += 1;
                offered.put_i16(key);
                offered.put_i16(min);
                offered.put_i16(max);
                offered.put_slice(self.input.get(tags..self.reader.at()).unwrap_or_default());
            }
        }
        put_array(&mut self.out, self.reader.flexible(), count)?;
        self.out.put_slice(&offered);
        self.copied = self.reader.at();
        Ok(())
    }
}

/// Leaves out of a list the features that are not carried: each is a name and two versions.
fn carried_features(list: &[u8], offer: Offer) -> Result<BytesMut, WireFault> {
    let mut reader = Reader::new(list, true);
    let (mut count, mut kept) = (0, BytesMut::new());
    for _ in 0..reader.array()? {
        let start = reader.at();
        let name = reader.string()?;
        reader.take(2 + 2)?;
        reader.skip_tags()?;
        if (offer.feature)(name) {
            count += 1;
            kept.put_slice(reader.passed_since(start));
        }
    }
    let mut out = BytesMut::new();
    put_array(&mut out, true, count)?;
    out.put_slice(&kept);
    Ok(out)
}
