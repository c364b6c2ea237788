//! Decimal digits of a fixed width, for texts that every call prints several times: the standard
//! library's formatting takes many more steps. Worst case: a number that is wider loses its front.

/// The last `N` digits of `value`, with zeros in front.
pub(crate) fn padded<const N: usize>(value: u64) -> [u8; N] {
    let mut digits = [b'0'; N];
    let mut rest = value;
    for digit in digits.iter_mut().rev() {
        // Less than ten, so it is a digit and nothing is cut off.
        *digit = b'0'.saturating_add(u8::try_from(rest % 10).unwrap_or(0));
        rest /= 10;
    }
    digits
}
