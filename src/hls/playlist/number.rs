//! Numbers as RFC 8216, 4.2 writes them, without floats (fault E8) and without overflow (fault E16).

use std::{ops::Range, time::Duration};

/// A decimal-integer: digits only, at most `u64::MAX`.
pub(super) fn integer(text: &str) -> Option<u64> {
    // `u64::from_str` takes a leading `+`, the RFC does not.
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

/// The whole part of a decimal-integer that an encoder wrote with a fraction (`128000.5`), as players read it.
pub(super) fn whole(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    fraction
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| integer(whole))
        .flatten()
}

/// A decimal-floating-point (or decimal-integer) in seconds, exact to the nanosecond; what is finer is rounded.
/// Negative, exponent, empty and too large are `None`.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { integer(whole)? };
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = fraction
        .bytes()
        .chain(std::iter::repeat(b'0'))
        .map(|byte| u32::from(byte - b'0'));
    // Nine digits are nanoseconds. The tenth rounds, and the rest cannot change that.
    let nanos = digits.clone().take(9).fold(0, |nanos, digit| nanos * 10 + digit);
    let round_up = digits.skip(9).take(1).any(|digit| digit >= 5);
    Duration::from_secs(whole).checked_add(Duration::from_nanos(u64::from(nanos) + u64::from(round_up)))
}

/// A hexadecimal-sequence of at most 128 bits as big-endian bytes (EXT-X-KEY's IV, RFC 8216, 4.3.2.4).
pub(super) fn initialisation_vector(text: &str) -> Option<[u8; 16]> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    if digits.is_empty() || digits.len() > 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(digits, 16).ok().map(u128::to_be_bytes)
}

/// A byte range `<n>[@<o>]` (RFC 8216, 4.3.2.2): its length and its offset.
pub(super) fn length_and_offset(text: &str) -> Option<(u64, Option<u64>)> {
    match text.split_once('@') {
        Some((length, offset)) => Some((integer(length.trim())?, Some(integer(offset.trim())?))),
        None => Some((integer(text.trim())?, None)),
    }
}

/// `length` bytes from `offset` on; `None` when empty or beyond what a u64 holds.
pub(super) fn range(offset: u64, length: u64) -> Option<Range<u64>> {
    let end = offset.checked_add(length)?;
    (length > 0).then_some(offset..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E8: `0.255420` is 255 420 µs, which no binary float holds.
    #[test]
    fn seconds_are_exact() {
        assert_eq!(seconds("0.255420"), Some(Duration::from_micros(255_420)));
        assert_eq!(seconds("9.009"), Some(Duration::from_millis(9009)));
        assert_eq!(seconds("6"), Some(Duration::from_secs(6)));
        assert_eq!(seconds(".5"), Some(Duration::from_millis(500)));
        assert_eq!(seconds("5."), Some(Duration::from_secs(5)));
        assert_eq!(seconds("1.0000000005"), Some(Duration::new(1, 1)));
        assert_eq!(seconds("1.9999999999"), Some(Duration::from_secs(2)));
        assert_eq!(
            seconds(&format!("3.{}", "3".repeat(5000))),
            Some(Duration::new(3, 333_333_333))
        );
    }

    /// E16: negative and huge numbers are no numbers.
    #[test]
    fn what_is_not_a_decimal_is_refused() {
        for text in [
            "",
            ".",
            "-1",
            "+1",
            "1e3",
            "nan",
            "inf",
            "1,5",
            "99999999999999999999",
            "1.-5",
            "0x10",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
        assert_eq!(integer("18446744073709551615"), Some(u64::MAX));
        for text in ["", "18446744073709551616", "-1", "+1", "1.0", " 1"] {
            assert_eq!(integer(text), None, "{text}");
        }
    }

    /// Fault W32.
    #[test]
    fn of_a_fraction_the_whole_part_counts() {
        for (text, value) in [("128000.5", Some(128_000)), ("7", Some(7)), ("7.", Some(7))] {
            assert_eq!(whole(text), value, "{text}");
        }
        for text in ["", ".5", "-1.5", "1.5e3", "1.2.3", "18446744073709551616.0"] {
            assert_eq!(whole(text), None, "{text}");
        }
    }

    #[test]
    fn an_iv_is_left_padded_to_128_bits() {
        assert_eq!(initialisation_vector("0x10"), Some(16_u128.to_be_bytes()));
        assert_eq!(
            initialisation_vector("0Xff000000000000000000000000000001").map(|iv| (iv[0], iv[15])),
            Some((255, 1))
        );
        for text in ["0x", "10", "0xg", "0x+1", &format!("0x{}", "0".repeat(33))] {
            assert_eq!(initialisation_vector(text), None, "{text}");
        }
    }

    #[test]
    fn byte_ranges_do_not_overflow() {
        assert_eq!(length_and_offset("10@5"), Some((10, Some(5))));
        assert_eq!(length_and_offset("10"), Some((10, None)));
        assert_eq!(length_and_offset("10@"), None);
        assert_eq!(range(5, 10), Some(5..15));
        assert_eq!(range(u64::MAX, 1), None);
        assert_eq!(range(5, 0), None);
    }
}
