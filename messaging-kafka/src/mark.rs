//! [`Mark`]: what stands in the metadata of a commit beside the watermark: the owner's epoch, and which offsets beyond
//! the watermark are finished.
//!
//! `messaging/1;epoch=1767225600000;finished=eJx…`: the finished offsets as the lengths of their runs, one for each
//! unfinished offset from the watermark on, as varints, deflated, in base 64. Text that does not read so (another
//! client's, or none) says nothing.

use std::io::{Read, Write};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};

const VERSION: &str = "messaging/1";
/// What is written at most, also where the broker takes more: a broker as it is shipped takes 4,096 bytes, and one more
/// fails the whole commit.
pub(crate) const MAX_BYTES: usize = 4_000;
/// No honest bitmap unpacks to more: a byte for each offset of the longest span.
const MAX_UNPACKED: u64 = 4 << 20;

/// What a commit says beside its watermark.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    /// The epoch of the owner that wrote it.
    pub(crate) epoch: u64,
    /// How many finished offsets follow each unfinished one, from the watermark on.
    pub(crate) runs: Vec<u64>,
}

impl Mark {
    /// As text of at most `limit` bytes. If there is not so much room, what lies furthest from the watermark is left out,
    /// and would come again.
    pub(crate) fn write(&self, limit: usize) -> String {
        let mut kept = self.runs.len();
        loop {
            let text = self.write_first(kept);
            if text.len() <= limit || kept == 0 {
                return text;
            }
            // Proportional, and a little less.
            kept = (kept * limit / text.len()).min(kept - 1) * 15 / 16;
        }
    }

    fn write_first(&self, runs: usize) -> String {
        let mut text = format!("{VERSION};epoch={}", self.epoch);
        let runs = &self.runs[..runs];
        if runs.iter().any(|run| *run > 0) {
            let mut packed = DeflateEncoder::new(Vec::new(), Compression::default());
            let mut bytes = Vec::with_capacity(runs.len() * 2);
            runs.iter().for_each(|run| push_varint(&mut bytes, *run));
            // Writing to memory cannot fail.
            let packed = packed.write_all(&bytes).and_then(|()| packed.finish()).unwrap_or_default();
            text.push_str(";finished=");
            BASE64.encode_string(packed, &mut text);
        }
        text
    }

    /// From text; `None` if it is not ours.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(';');
        if parts.next()? != VERSION {
            return None;
        }
        let mut mark = Self::default();
        for part in parts {
            match part.split_once('=')? {
                ("epoch", epoch) => mark.epoch = epoch.parse().ok()?,
                ("finished", packed) => {
                    let packed = BASE64.decode(packed).ok()?;
                    let mut bytes = Vec::new();
                    DeflateDecoder::new(&packed[..]).take(MAX_UNPACKED).read_to_end(&mut bytes).ok()?;
                    mark.runs = read_varints(&bytes)?;
                }
                // What a later version adds.
                _ => {}
            }
        }
        Some(mark)
    }

    /// The finished offsets beyond this watermark, as runs of (first, length).
    pub(crate) fn finished(&self, watermark: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut unfinished = watermark;
        self.runs.iter().map_while(move |run| {
            let first = unfinished.checked_add(1)?;
            unfinished = first.checked_add(*run)?;
            Some((first, *run))
        })
    }
}

fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn read_varints(bytes: &[u8]) -> Option<Vec<u64>> {
    let mut values = Vec::new();
    let (mut value, mut shift) = (0u64, 0);
    for byte in bytes {
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
        if byte & 0x80 == 0 {
            values.push(value);
            (value, shift) = (0, 0);
        }
    }
    (shift == 0).then_some(values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::progress::Progress;

    fn mark(progress: &Progress) -> Mark {
        Mark { epoch: 1_767_225_600_000, runs: progress.finished_runs() }
    }

    #[test]
    fn one_parked_head_costs_a_few_bytes() {
        let mut progress = Progress::new(7, []);
        (7..5_000).for_each(|offset| {
            progress.deliver(offset);
        });
        (8..5_000).for_each(|offset| progress.finish(offset));
        let text = mark(&progress).write(MAX_BYTES);
        assert!(text.len() < 60, "{text}");
        let read = Mark::read(&text).unwrap();
        assert_eq!(read.finished(7).collect::<Vec<_>>(), [(8, 4_992)]);
    }

    #[test]
    fn a_window_of_two_thousand_fits_however_it_was_finished() {
        let mut random = fastrand::Rng::with_seed(7);
        for finished_share in [0.1, 0.5, 0.9] {
            let mut progress = Progress::new(0, []);
            let mut unfinished = 0;
            for offset in 0..100_000 {
                progress.deliver(offset);
                if offset == 0 || (unfinished < 2_000 && random.f64() > finished_share) {
                    unfinished += 1;
                } else {
                    progress.finish(offset);
                }
            }
            let mark = mark(&progress);
            let text = mark.write(MAX_BYTES);
            assert!(text.len() <= MAX_BYTES);
            assert_eq!(Mark::read(&text).unwrap(), mark, "nothing was left out");
        }
    }

    #[test]
    fn without_room_the_furthest_is_left_out() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut progress = Progress::new(0, []);
        for offset in 0..100_000 {
            progress.deliver(offset);
            if offset > 0 && random.bool() {
                progress.finish(offset);
            }
        }
        let full = mark(&progress);
        let text = full.write(MAX_BYTES);
        assert!(text.len() <= MAX_BYTES && text.len() > MAX_BYTES * 3 / 4, "{}", text.len());
        let read = Mark::read(&text).unwrap();
        assert_eq!(read.runs[..], full.runs[..read.runs.len()]);
    }

    #[test]
    fn foreign_and_broken_text_says_nothing() {
        for text in
            ["", "x", "messaging/2;epoch=1", "messaging/1;epoch=x", "messaging/1;finished=%%", "messaging/1;epoch"]
        {
            assert_eq!(Mark::read(text), None, "{text:?}");
        }
        assert_eq!(Mark::read("messaging/1;epoch=3;later=x"), Some(Mark { epoch: 3, runs: Vec::new() }));
    }

    proptest! {
        #[test]
        fn reads_back(epoch: u64, watermark in 0u64..1 << 40, runs in prop::collection::vec(0u64..500, 0..300)) {
            let finished: Vec<(u64, u64)> = Mark { epoch, runs }.finished(watermark).collect();
            let progress = Progress::new(watermark, finished.iter().copied());
            let mark = Mark { epoch, runs: progress.finished_runs() };
            let read = Mark::read(&mark.write(usize::MAX)).unwrap();
            let restored = Progress::new(watermark, read.finished(watermark));
            prop_assert_eq!(restored.watermark(), watermark);
            for (first, length) in finished {
                prop_assert!((first..first + length).all(|offset| restored.is_finished(offset)));
            }
            prop_assert_eq!(read.epoch, epoch);
        }
    }
}
