//! Which lane and shard a message belongs to. The numbers stand in the database: they never change.

use messaging::Message;

/// The lane of a message with a key: its topic and key as 64 bits (FNV-1a, mixed). A collision only makes two keys wait for
/// each other.
pub(crate) fn of(message: &Message) -> Option<i64> {
    let key = message.key.as_deref()?;
    let bytes = message.topic.bytes().chain([0xff]).chain(key.iter().copied());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    Some(mixed(hash) as i64)
}

/// Every bit of the hash in every bit of the number (the last step of MurmurHash3): keys that differ in their last digit
/// are to differ in their shard.
fn mixed(mut hash: u64) -> u64 {
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

/// The shard of a lane; messages without one are spread.
pub(crate) fn shard(lane: Option<i64>, shards: u32) -> i64 {
    match lane {
        Some(lane) => i64::from(((lane as u64) >> 32) as u32 % shards.max(1)),
        None => i64::from(fastrand::u32(0..shards.max(1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_in_the_database_keep_their_meaning() {
        let lane = of(&Message::new("order-events", "").with_key("7"));
        assert_eq!(lane, Some(-38_586_009_495_753_652));
        assert_eq!(shard(lane, 16), 10);
        assert_eq!(of(&Message::new("order-events", "")), None);
    }

    #[test]
    fn an_empty_key_is_a_key_and_topics_have_lanes_of_their_own() {
        let lane = |topic: &'static str, key: &'static str| of(&Message::new(topic, "").with_key(key));
        assert!(lane("a", "").is_some());
        assert_ne!(lane("a", "b"), lane("ab", ""));
    }

    #[test]
    fn keys_spread_over_the_shards() {
        let mut counts = [0_u32; 16];
        for key in 0..16_000 {
            let lane = of(&Message::new("t", "").with_key(key.to_string()));
            counts[shard(lane, 16) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }
}
