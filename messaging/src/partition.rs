//! Which partition a key belongs to: the same on every backend, and the same as Kafka's Java client chooses.

/// The partition of a key among `count` partitions: murmur2 as in Kafka's Java client (`Utils.toPositive(murmur2(key))
/// % count`), so that programs in other languages that share the topic agree.
///
/// A `count` of zero counts as one.
#[must_use]
pub fn partition_for_key(key: &[u8], count: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % count.max(1)
}

/// MurmurHash2 with Kafka's seed, over bytes taken as signed in the tail exactly as the Java client does.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    // Keys longer than 4 GiB do not exist on any broker; the cast only feeds the hash.
    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        for (index, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn agrees_with_kafkas_own_test_vectors() {
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()), hash as u32, "{text}");
        }
    }

    #[test]
    fn stays_in_range() {
        assert_eq!(partition_for_key(b"", 1), 0);
        assert!((0u32..1000).all(|n| partition_for_key(&n.to_be_bytes(), 7) < 7));
    }
}
