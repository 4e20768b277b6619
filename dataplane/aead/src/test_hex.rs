//! Hexadecimal, for the vectors in the tests.

/// The bytes of a string of hexadecimal digits; `-` is empty.
pub(crate) fn bytes(digits: &str) -> Vec<u8> {
    let digits = digits.strip_prefix('-').unwrap_or(digits);
    assert!(
        digits.len().is_multiple_of(2),
        "odd number of digits: {digits}"
    );
    let byte = |i: usize| u8::from_str_radix(&digits[i..i + 2], 16).expect("hexadecimal digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}
